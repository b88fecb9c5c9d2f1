//! What documents hold and how they are mapped, by the configuration: compared with the table's rows, searched, changed, reindexed.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Engine, Stack};

use super::PATIENCE;

const TABLE: &str = "s.item";
const MAKE: &str = r#"CREATE SCHEMA s;
    CREATE TABLE s.item (id int PRIMARY KEY, name text, price numeric(10,2), note text, secret_key text, doc jsonb, loose json,
        raw jsonb, place point, tags text[]);
    ALTER TABLE s.item ALTER note SET STORAGE EXTERNAL;
    INSERT INTO s.item SELECT n, 'He runs ' || n, n + 0.25, repeat(n || ' ', 1200), 'hidden', jsonb_build_object('color', 'c' || n % 3, 'n', n),
        ('{ "a" : 1, "a" :
           ' || n || ', "b" : [ { "k" : 1.50 } ] }')::json, '{"as": "text"}'::jsonb, point(n + 0.5, -n - 0.5), ARRAY['x', n::text] FROM generate_series(1, 40) n;
    INSERT INTO s.item (id) VALUES (41)"#;
/// The document that a row is to be.
const WANTED: &str = r#"SELECT id::text, jsonb_build_object('title', name, 'price', price, 'note', note, 'doc', doc, 'loose', loose::jsonb,
        'raw', raw::text, 'place', CASE WHEN place IS NOT NULL THEN jsonb_build_object('lat', place[1], 'lon', place[0]) END, 'tags', tags)::text
    FROM s.item"#;
const OPTIONS: &str = r#"exclude = ["id", "secret_*"]
rename = { name = "title" }
[elasticsearch.documents.fields]
title = { type = "text", analyzer = "stemmed", copy_to = "all" }
all = { type = "text" }
price = { type = "scaled_float", scaling_factor = 100 }
doc.properties.color = { type = "keyword" }
loose = { type = "nested", properties = { a = { type = "long" } } }
place = { type = "geo_point" }
tags = { copy_to = "all" }
[elasticsearch.documents.settings.analysis.analyzer.stemmed]
type = "custom"
tokenizer = "standard"
filter = ["lowercase", "porter_stem"]
"#;

/// What Elasticsearch's own modules bring, which the stack's does not have, in words that it knows.
const PLAIN: [(&str, &str); 2] = [
    (
        "type = \"scaled_float\", scaling_factor = 100",
        "type = \"double\"",
    ),
    (", \"porter_stem\"", ""),
];

struct Scene {
    /// Whether the engine has all modules.
    is_whole: bool,
    pipeline: Pipeline,
    client: Client,
    source: Service,
    http: reqwest::Client,
    url: String,
}

impl Scene {
    async fn new(stack: &Stack) -> Self {
        let mut pipeline = Pipeline::new(stack, "documents").await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(MAKE).await.unwrap();
        let config = pipeline.source_config();
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
        Self {
            is_whole: stack.engine() == Engine::OpenSearch,
            url: format!("{}/{}", stack.search_url(), pipeline.topic(TABLE)),
            pipeline,
            client,
            source,
            http: http::client(),
        }
    }

    /// The sink with these options of the table's documents.
    fn sink(&self, name: &str, options: &str) -> Service {
        let (config, topic) = (
            self.pipeline.sink_config(Kind::SinkElastic),
            self.pipeline.topic(TABLE),
        );
        let entry = format!("[[elasticsearch.documents]]\ntopics = [\"{topic}\"]\n{options}");
        let config = format!("{config}{entry}");
        self.pipeline
            .service(Kind::SinkElastic, name, &config)
            .unwrap()
    }

    fn options(&self) -> String {
        let plain = PLAIN.iter().filter(|_| !self.is_whole);
        plain.fold(OPTIONS.to_owned(), |options, (modules, plain)| {
            options.replace(modules, plain)
        })
    }

    async fn change(&mut self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
        let source = &mut self.source;
        self.pipeline.wait_source(source, PATIENCE).await.unwrap();
    }

    async fn hits(&self, query: Value) -> Vec<Value> {
        let refresh = self.http.post(format!("{}/_refresh", self.url));
        refresh.send().await.unwrap();
        let body = json!({"size": 1000, "query": query}).to_string();
        let request = self.http.post(format!("{}/_search", self.url));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["hits"]["hits"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    async fn found(&self, query: Value) -> usize {
        self.hits(query).await.len()
    }

    async fn documents(&self) -> BTreeMap<String, Value> {
        let hits = self.hits(json!({"match_all": {}})).await.into_iter();
        let documents = hits.map(|mut hit| {
            let document = hit["_source"].as_object_mut().unwrap();
            assert!(
                document
                    .remove("_tributary_seq")
                    .is_some_and(|seq| seq.is_u64())
            );
            (
                hit["_id"].as_str().unwrap().to_owned(),
                hit["_source"].clone(),
            )
        });
        documents.collect()
    }

    /// Waits until the index is what the query makes of the table.
    async fn until_equal(&self, sink: &mut Service, wanted: &str) {
        let rows = self.client.query(wanted, &[]).await.unwrap();
        let wanted: BTreeMap<String, Value> = rows
            .iter()
            .map(|row| (row.get(0), serde_json::from_str(row.get(1)).unwrap()))
            .collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let documents = self.documents().await;
            if documents == wanted {
                return;
            }
            let other = wanted
                .iter()
                .find(|(id, row)| documents.get(*id) != Some(*row));
            assert!(
                Instant::now() < deadline && sink.is_running().unwrap(),
                "{} of {}: {other:?} is {:?}\n{}",
                documents.len(),
                wanted.len(),
                other.and_then(|(id, _)| documents.get(id)),
                sink.log_tail()
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    async fn fields(&self) -> Value {
        let answer = self.http.get(format!("{}/_mapping", self.url)).send().await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        let index = answer.as_object().unwrap().values().next().unwrap();
        index["mappings"]["properties"].clone()
    }
}

fn check(sink: &Service) -> (i32, String) {
    let (code, out, errors) = sink.command(&["check"]).unwrap();
    (code, format!("{out}{errors}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_what_the_configuration_makes_of_rows() {
    let stack = Stack::from_env().unwrap();
    let mut scene = Scene::new(&stack).await;
    refused_by_the_engine(&scene);

    let mut sink = scene.sink("first", &scene.options());
    let (code, out) = check(&sink);
    assert!(
        code == 0 && !out.contains("elasticsearch.documents"),
        "{out}"
    );
    sink.start().unwrap();
    scene.until_equal(&mut sink, WANTED).await;
    searched(&scene).await;

    // Values that an update leaves in the TOAST, rows that go and come, columns that appear.
    let changes = "UPDATE s.item SET price = price + 100 WHERE id < 10; DELETE FROM s.item WHERE id BETWEEN 10 AND 12;
        ALTER TABLE s.item ADD COLUMN extra int, ADD COLUMN secret_more text;
        UPDATE s.item SET extra = id, secret_more = 'hidden' WHERE id > 30;
        INSERT INTO s.item (id, name, extra) VALUES (50, 'ran', 5)";
    scene.change(changes).await;
    let wanted = WANTED.replace("'tags', tags", "'tags', tags, 'extra', extra");
    let strip = "SELECT id::text, (jsonb_build_object";
    // Rows that were written before the column was there have no such field.
    let wanted = wanted
        .replace("SELECT id::text, jsonb_build_object", strip)
        .replace(
            ")::text\n    FROM",
            ") - CASE WHEN id <= 30 THEN 'extra' ELSE '' END)::text\n    FROM",
        );
    scene.until_equal(&mut sink, &wanted).await;
    let fields = scene.fields().await;
    assert_eq!(fields["extra"]["type"], "integer");
    let known = fields.as_object().unwrap();
    assert!(
        !known
            .keys()
            .any(|name| name.starts_with("secret") || name == "id"),
        "{fields}"
    );
    assert!(!sink.log().contains("reindex"), "{}", sink.log_tail());

    assert!(sink.stop(PATIENCE).unwrap().success());
    changed_options(&mut scene).await;
}

/// A mapping that the engine refuses is told by `check`, and before a record is read.
fn refused_by_the_engine(scene: &Scene) {
    let mut sink = scene.sink("refused", "fields.price = { type = \"nonsense\" }\n");
    let (code, out) = check(&sink);
    assert!(code != 0 && out.contains("nonsense"), "{out}");
    sink.start().unwrap();
    assert!(!sink.wait(PATIENCE).unwrap().success());
    let log = sink.log();
    assert!(
        log.contains("nonsense") && log.contains("elasticsearch.documents"),
        "{log}"
    );
}

async fn searched(scene: &Scene) {
    let word = if scene.is_whole { "running" } else { "RUNS" };
    let match_stem = json!({"match": {"title": word}});
    assert_eq!(scene.found(match_stem).await, 40);
    let range = json!({"range": {"price": {"gte": 3.25, "lt": 6.25}}});
    assert_eq!(scene.found(range).await, 3);
    let near = json!({"geo_distance": {"distance": "10km", "place": {"lat": -7.5, "lon": 7.5}}});
    assert_eq!(scene.found(near).await, 1);
    assert_eq!(scene.found(json!({"term": {"doc.color": "c1"}})).await, 14);
    let within = json!({"nested": {"path": "loose", "query": {"term": {"loose.a": 9}}}});
    assert_eq!(scene.found(within).await, 1);
    // A name and a tag, copied.
    let copied = json!({"match": {"all": {"query": "runs x 17", "operator": "and"}}});
    assert_eq!(scene.found(copied).await, 1);
    assert_eq!(scene.found(json!({"match": {"raw": "text"}})).await, 40);
}

/// What was begun with other options goes on, is told, and is made right by a reindex.
async fn changed_options(scene: &mut Scene) {
    let options = scene
        .options()
        .replace("\"secret_*\"", "\"secret_*\", \"raw\"")
        .replace("scaling_factor = 100", "scaling_factor = 10")
        .replace("price = { type = \"double\"", "price = { type = \"float\"")
        .replace(
            "place = {",
            "extra = { type = \"keyword\" }\nraw_text.type = \"text\"\nplace = {",
        )
        // As the old index has it no document fits: rows are written as it maps the field.
        .replace(
            "loose = { type = \"nested\", properties = { a = { type = \"long\" } } }",
            "loose = { type = \"text\" }",
        );
    let mut sink = scene.sink("second", &options);
    let (code, out) = check(&sink);
    for what in [
        "field 'price'",
        "field 'loose'",
        "other `include`",
        "reindex --topic",
    ] {
        assert!(code == 0 && out.contains(what), "{what}: {out}");
    }
    let (_, plan, _) = sink.command(&["plan"]).unwrap();
    assert!(plan.contains("note: field 'price' is mapped as"), "{plan}");
    sink.start().unwrap();
    scene
        .change("UPDATE s.item SET extra = 7; UPDATE s.item SET price = 1 WHERE id = 40")
        .await;
    let wanted = WANTED
        .replace("'raw', raw::text, ", "")
        .replace("'tags', tags", "'tags', tags, 'extra', extra");
    scene.until_equal(&mut sink, &wanted).await;
    let (_, status) = sink.get("/status").unwrap();
    assert!(status.contains("field 'price' is mapped as"), "{status}");
    assert_eq!(scene.fields().await["raw_text"]["type"], "text");

    let topic = scene.pipeline.topic(TABLE);
    let (code, out, errors) = sink.command(&["reindex", "--topic", &topic]).unwrap();
    assert_eq!(code, 0, "{out}{errors}");
    scene
        .change("UPDATE s.item SET price = 2 WHERE id = 40")
        .await;
    let wanted = wanted.replace("loose::jsonb", "loose::text");
    scene.until_equal(&mut sink, &wanted).await;
    let price = &scene.fields().await["price"];
    let is_new = price["scaling_factor"] == 10.0 || price["type"] == "float";
    assert!(is_new, "{price}");
    let (_, status) = sink.get("/status").unwrap();
    assert!(!status.contains("is mapped as"), "{status}");
    let (code, out) = check(&sink);
    assert!(code == 0 && !out.contains("reindex"), "{out}");
    clashing_names(scene, &mut sink, &options, &wanted).await;
}

/// A column that comes later, and has the name of another one's field.
async fn clashing_names(scene: &mut Scene, sink: &mut Service, options: &str, wanted: &str) {
    scene.change("ALTER TABLE s.item ADD COLUMN title text; UPDATE s.item SET title = 'other' WHERE id = 40").await;
    assert!(!sink.wait(PATIENCE).unwrap().success());
    let log = sink.log_tail();
    assert!(
        log.contains("\"name\" and \"title\"") && log.contains("rename or exclude"),
        "{log}"
    );
    let options = options.replace("name = \"title\"", "name = \"title\", title = \"subtitle\"");
    let mut sink = scene.sink("third", &options);
    sink.start().unwrap();
    let wanted = wanted
        .replace(
            "SELECT id::text, jsonb_build_object",
            "SELECT id::text, (jsonb_build_object",
        )
        .replace("'extra', extra", "'extra', extra, 'subtitle', title")
        .replace(
            ")::text\n    FROM",
            ") - CASE WHEN id <> 40 THEN 'subtitle' ELSE '' END)::text\n    FROM",
        );
    scene.until_equal(&mut sink, &wanted).await;
}
