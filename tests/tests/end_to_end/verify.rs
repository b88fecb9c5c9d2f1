//! Indices are compared with their tables while both change: what was planted is found, and nothing else.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;
use tributary_tests::{http, shop};

const PATIENCE: Duration = Duration::from_secs(90);

/// A table with values of many kinds and options for its documents; one in partitions with a key of three columns; one without a key.
const TABLES: &str = "
    CREATE SCHEMA s;
    CREATE TABLE s.a (id int PRIMARY KEY, name text, price numeric(10, 2), doc jsonb, at timestamptz, until date, every interval,
        raw bytea, tags text[], secret text);
    INSERT INTO s.a SELECT g, 'name ' || g, g / 3.0, jsonb_build_object('g', g), now(), CASE WHEN g % 9 = 0 THEN 'infinity' ELSE '2026-11-30' END::date,
        '1 mon', decode(lpad(to_hex(g), 8, '0'), 'hex'), ARRAY['a', g::text], 'x' FROM generate_series(1, 2000) g;
    CREATE TABLE s.\"B, b\" (t text, at timestamptz, raw bytea, v int, PRIMARY KEY (t, at, raw)) PARTITION BY LIST (t);
    CREATE TABLE s.b1 PARTITION OF s.\"B, b\" FOR VALUES IN ('1,', '\\');
    CREATE TABLE s.b2 PARTITION OF s.\"B, b\" DEFAULT;
    INSERT INTO s.\"B, b\" SELECT (ARRAY['1,', '\\', 'ü'])[1 + g % 3], '2026-11-30 12:00:00.5+00'::timestamptz + g * interval '1 h',
        decode(lpad(to_hex(g), 8, '0'), 'hex'), g FROM generate_series(1, 300) g;
    CREATE TABLE s.c (v int);
    INSERT INTO s.c VALUES (1)";

/// Rows of `s.a` up to here change; those behind are planted on.
const BUSY: i64 = 1_000;

struct Scene {
    pipeline: Pipeline,
    source: Service,
    sink: Service,
    http: reqwest::Client,
    url: String,
}

impl Scene {
    async fn set(stack: &Stack) -> Self {
        let mut pipeline = Pipeline::new(stack, "verify").await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let config = format!(
            "{}[[columns]]\nmatch = \"s.a.until\"\nas = \"text\"\n[types]\ninterval = \"micros\"\n",
            pipeline.source_config()
        );
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        let config = format!(
            "{}[[elasticsearch.documents]]\ntopics = [\"{}\"]\nexclude = [\"secret\"]\nrename = {{ name = \"title\" }}\n\
             fields.price = {{ type = \"scaled_float\", scaling_factor = 100 }}\nfields.doc.type = \"object\"\n\
             [postgres]\nurl = \"{}\"\nsource = \"{}\"\n",
            pipeline.sink_config(Kind::SinkElastic),
            pipeline.topic("s.a"),
            pipeline.source_url,
            pipeline.prefix()
        );
        let mut sink = pipeline
            .service(Kind::SinkElastic, "sink", &config)
            .unwrap();
        sink.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        sink.wait_ready(PATIENCE).unwrap();
        Self {
            source,
            sink,
            http: http::client(),
            url: stack.search_url().to_owned(),
            pipeline,
        }
    }

    /// The command: its exit code, answer, and what it says beside it.
    async fn verify(&self, words: &[&str], environment: &[(&str, &str)]) -> (i32, Value, String) {
        let mut command = Command::new(self.sink.binary().unwrap());
        command
            .args(["verify", "--output", "json", "--share", "100", "--config"])
            .arg(self.sink.config_path())
            .args(words)
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap());
        let done = done.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let json = serde_json::from_slice(&done.stdout).unwrap_or_default();
        (done.status.code().unwrap(), json, text(&done.stderr))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap()
    }

    async fn document(&self, table: &str, id: &str) -> Value {
        let path = format!("/{}/_doc/{id}", self.alias(table));
        self.call(Method::GET, &path, None).await["_source"].clone()
    }

    async fn put(&self, table: &str, id: &str, document: &Value) {
        let path = format!("/{}/_doc/{id}", self.alias(table));
        self.call(Method::PUT, &path, Some(document.clone())).await;
    }

    async fn delete(&self, table: &str, id: &str) {
        let path = format!("/{}/_doc/{id}", self.alias(table));
        self.call(Method::DELETE, &path, None).await;
    }

    /// The alias of the topic, by the engine's rules for upper-case letters.
    fn alias(&self, table: &str) -> String {
        self.pipeline.topic(table).replace('B', "~b")
    }

    /// Until an index has so many documents.
    async fn until(&mut self, table: &str, documents: u64) {
        let begun = Instant::now();
        loop {
            let path = format!("{}/{}/_count", self.url, self.alias(table));
            let answer = self.http.get(path).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap_or_default();
            if answer["count"] == documents {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{answer}\n{}\n{}",
                self.source.log_tail(),
                self.sink.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Escaped as a topic has it.
const B: &str = "s.B_u002c_u0020b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_planted_is_found_while_the_tables_change() {
    let stack = Stack::from_env().unwrap();
    let mut scene = Scene::set(&stack).await;
    scene.until("s.a", 2_000).await;
    scene.until(B, 300).await;

    // A document of a row as it was.
    let stale = scene.document("s.a", "1521").await;
    let client = scene.pipeline.source().await.unwrap();
    client.batch_execute("UPDATE s.a SET name = 'new of ' || id WHERE id IN (1521, 1522); DELETE FROM s.a WHERE id = 1999").await.unwrap();
    scene.until("s.a", 1_999).await;
    let ends = Arc::new(AtomicBool::new(false));
    let changes = begin_changes(&scene.pipeline.source_url, &ends);

    plant(&scene, &stale).await;
    let (alias, other) = (scene.alias("s.a"), scene.alias(B));
    let began = Instant::now();
    let (code, answer, errors) = scene
        .verify(&["--index", &alias, "--index", &other], &[])
        .await;
    println!("{answer}\n{errors}{:?}", began.elapsed());
    assert_eq!(code, 3, "{errors}");
    let found = |index: usize, kind: &str| {
        let mut ids: Vec<String> =
            serde_json::from_value(answer["indices"][index][kind]["ids"].clone()).unwrap();
        ids.sort();
        ids
    };
    assert_eq!(found(0, "missing"), ["1501", "1502"]);
    assert_eq!(found(0, "changed"), ["1511", "1521"]);
    assert_eq!(found(0, "extra"), ["01503", "77777", "no-number"]);
    assert_eq!(
        found(1, "missing"),
        ["1\\,,2026-11-30T15:00:00.500000Z,AAAAAw=="]
    );
    assert_eq!(
        found(1, "extra"),
        ["\\\\,2026-11-30T16:00:00.500000Z,AAAABQ=="]
    );
    assert_eq!(found(1, "changed"), [""; 0]);
    for index in [0, 1] {
        for kind in ["unfit", "behind"] {
            assert_eq!(answer["indices"][index][kind]["count"], 0, "{answer}");
        }
        assert_eq!(answer["indices"][index]["unknown"], 0);
    }
    assert!(
        !format!("{answer}{errors}").contains("new of"),
        "{answer}{errors}"
    );
    ends.store(true, Ordering::Relaxed);
    let changed = changes.await.unwrap();
    assert!(changed > 20, "{changed} changes");

    refusals(&scene).await;
    the_remedy_works(&scene, &answer).await;
    while_the_sink_is_away(&mut scene, &client).await;
}

/// Documents that are not their rows'. `stale` is what that of row 1521 was before.
async fn plant(scene: &Scene, stale: &Value) {
    scene.put("s.a", "1521", stale).await;
    let mut changed = scene.document("s.a", "1511").await;
    changed["price"] = json!(1);
    scene.put("s.a", "1511", &changed).await;
    for id in ["1501", "1502"] {
        scene.delete("s.a", id).await;
    }
    for id in ["77777", "01503", "no-number"] {
        scene.put("s.a", id, stale).await;
    }
    // What is no column's is nobody's business.
    let mut more = scene.document("s.a", "1531").await;
    more["added_by_somebody"] = json!(true);
    scene.put("s.a", "1531", &more).await;
    let key = |text: &str, hour: &str, raw: &str| {
        format!("{text},2026-11-{hour}:00:00.500000Z,{raw}")
            .replace('\\', "%5C")
            .replace(',', "%2C")
            .replace('ü', "%C3%BC")
    };
    // The row of 3, and that of 4 with bytes that no row has.
    scene.delete(B, &key("1\\,", "30T15", "AAAAAw==")).await;
    let row = scene.document(B, &key("\\\\", "30T16", "AAAABA==")).await;
    scene.put(B, &key("\\\\", "30T16", "AAAABQ=="), &row).await;
}

/// Rows of `s.a` up to [`BUSY`] change, others come and go.
fn begin_changes(url: &str, ends: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (url, ends) = (url.to_owned(), Arc::clone(ends));
    tokio::spawn(async move {
        let client = shop::connect(&url).await.unwrap();
        let mut number: i64 = 0;
        while !ends.load(Ordering::Relaxed) {
            number += 1;
            let (id, new) = (1 + number * 7 % BUSY, 100_000 + number);
            let sql = format!(
                "UPDATE s.a SET price = price + 1, secret = 'y' WHERE id = {id};
                 INSERT INTO s.a (id, name) VALUES ({new}, 'new of {new}'); DELETE FROM s.a WHERE id = {new} - 3;
                 UPDATE s.\"B, b\" SET v = v + 50 WHERE v = 50 + {number} % 250"
            );
            client.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        number.unsigned_abs()
    })
}

/// What the answer says to do ends in equal indices.
async fn the_remedy_works(scene: &Scene, answer: &Value) {
    for index in answer["indices"].as_array().unwrap() {
        let remedy = index["remedy"].as_str().unwrap().replace('\'', "");
        let words = remedy
            .strip_prefix("tributary-source snapshot --table ")
            .unwrap();
        let table = words.strip_suffix(" --sweep").unwrap();
        let (code, _, errors) = scene
            .source
            .command(&["snapshot", "--table", table, "--sweep"])
            .unwrap();
        assert_eq!(code, 0, "{errors}");
    }
    let begun = Instant::now();
    let topics = ["s.a", B].map(|table| scene.pipeline.topic(table));
    loop {
        let (code, answer, errors) = scene
            .verify(&["--topic", &topics[0], "--topic", &topics[1]], &[])
            .await;
        if code == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}{errors}");
    }
}

/// What cannot be compared says why.
async fn refusals(scene: &Scene) {
    let (alias, keyless) = (scene.alias("s.a"), scene.alias("s.c"));
    let elsewhere = scene.pipeline.warehouse_url.clone();
    for (words, environment, says) in [
        (["--index", &keyless], None, "table s.c has no key"),
        (
            ["--index", "nobodys"],
            None,
            "'nobodys' is the alias of no topic that `topics` matches",
        ),
        (["--topic", "nobodys"], None, "there is no topic 'nobodys'"),
        (
            ["--index", &alias],
            Some(("POSTGRES__URL", elsewhere.as_str())),
            "there is no table s.a in database",
        ),
        (
            ["--index", &alias],
            Some(("POSTGRES__PASSWORD", "wrong")),
            "to do: correct postgres.password",
        ),
        (
            ["--index", &alias],
            Some(("POSTGRES__SOURCE", "nobody")),
            "there is no slot 'tributary_nobody'",
        ),
        (
            ["--topic", &scene.pipeline.topic("s.a")],
            Some(("ELASTICSEARCH__INDEX_PREFIX", "zz-")),
            "there is no alias 'zz-",
        ),
    ] {
        let environment =
            environment.map(|(key, value)| (format!("TRIBUTARY_SINK_ELASTIC__{key}"), value));
        let environment: Vec<_> = environment
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
            .collect();
        let (code, answer, errors) = scene.verify(&words, &environment).await;
        assert_eq!(code, 1, "{words:?}: {answer}{errors}");
        assert!(errors.contains(says), "{words:?}: {errors}");
        assert!(!errors.contains("name 1"), "{errors}");
    }
}

/// What the sink has not written yet does not differ for certain.
async fn while_the_sink_is_away(scene: &mut Scene, client: &tokio_postgres::Client) {
    scene.sink.kill().unwrap();
    client
        .batch_execute("UPDATE s.a SET name = 'late' WHERE id = 1600")
        .await
        .unwrap();
    let alias = scene.alias("s.a");
    let (code, answer, errors) = scene
        .verify(&["--index", &alias, "--settle", "3"], &[])
        .await;
    assert_eq!(code, 3, "{errors}");
    let index = &answer["indices"][0];
    let behind: Vec<String> = serde_json::from_value(index["behind"]["ids"].clone()).unwrap();
    assert!(behind.contains(&"1600".to_owned()), "{index}");
    let reason = index["behind"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the s"), "{reason}");
    assert_eq!(index["changed"]["count"], 0, "{index}");
}
