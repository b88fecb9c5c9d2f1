//! An OpenSearch with its security plug-in, and a sink that has the privileges of docs/search.md and no others.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_tests::certificates::Authority;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{SecuredEngine, Stack};

use super::{Files, PATIENCE, with};

const PASSWORD: &str = "sieben-Hoehlen-am-Fluss-7!";
const NEW_PASSWORD: &str = "acht-Tore-hinter-dem-Berg-8!";
const CHANGED: &str = "have changed on disk, and are used";

struct Scene {
    pipeline: Pipeline,
    engine: SecuredEngine,
    authority: Authority,
    other: Authority,
    files: Files,
    client: Client,
    _source: Service,
    /// All that services have said.
    said: String,
}

/// The role that docs/search.md gives, for the indices of this pattern.
fn documented_role(patterns: &[String]) -> Value {
    let docs = include_str!("../../../../docs/search.md");
    let (_, after) = docs
        .split_once("PUT /_plugins/_security/api/roles/tributary\n")
        .unwrap();
    let (role, _) = after.split_once("```").unwrap();
    let mut role: Value = serde_json::from_str(role).unwrap();
    role["index_permissions"][0]["index_patterns"] = json!(patterns);
    role
}

impl Scene {
    async fn set() -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, "secured").await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        let table = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, note text);
            INSERT INTO s.t SELECT g, 'note' FROM generate_series(1, 100) g";
        client.batch_execute(table).await.unwrap();
        let config = pipeline.source_config();
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        let authority = Authority::new("ours").unwrap();
        let engine = SecuredEngine::start(pipeline.dir(), &authority)
            .await
            .unwrap();
        let prefix = pipeline.prefix();
        let role = documented_role(&[format!("{prefix}*"), format!("by-{prefix}*")]);
        engine.define("roles/tributary", &role).await.unwrap();
        let tokens = json!({"cluster_permissions": ["security:obo/create"]});
        engine.define("roles/tokens", &tokens).await.unwrap();
        for user in ["sink", "stranger", "bearer"] {
            let path = format!("internalusers/{user}");
            let body = json!({"password": PASSWORD});
            engine.define(&path, &body).await.unwrap();
        }
        let users = json!({"users": ["bearer"]});
        engine.define("rolesmapping/tokens", &users).await.unwrap();
        let scene = Self {
            files: Files::new(pipeline.dir()),
            other: Authority::new("other").unwrap(),
            pipeline,
            engine,
            authority,
            client,
            _source: source,
            said: String::new(),
        };
        scene.give_role(&["sink", "first", "bearer"]).await;
        scene
    }

    /// Gives the documented role to these users, and to no others.
    async fn give_role(&self, users: &[&str]) {
        let users = json!({"users": users});
        let mapping = self.engine.define("rolesmapping/tributary", &users);
        mapping.await.unwrap();
    }

    /// A sink of its own group and indices.
    fn sink(&self, name: &str, index_prefix: &str, url: &str, more: &str) -> Service {
        let group = format!("{}-{name}", self.pipeline.prefix());
        let config = with(
            &self.pipeline.elastic_config(&group, index_prefix),
            url,
            more,
        );
        self.pipeline
            .service(Kind::SinkElastic, name, &config)
            .unwrap()
    }

    fn trusting(&self, authority: &Authority) -> String {
        let path = self.files.put("ca.pem", authority.certificate());
        format!("ca_file = \"{path}\"\n")
    }

    fn login(&self, user: &str, name: &str, password: &str) -> String {
        let path = self.files.put(name, password);
        format!("username = \"{user}\"\npassword_file = \"{path}\"\n")
    }

    /// What `check` says, which is to fail or not.
    fn check(&mut self, url: &str, more: &str, passes: bool) -> String {
        let sink = self.sink("check", "", url, more);
        let (code, out, err) = sink.command(&["check"]).unwrap();
        assert_eq!(code == 0, passes, "{more}: {out}{err}");
        self.said.push_str(&(out.clone() + &err));
        out + &err
    }

    async fn insert(&self, ids: std::ops::Range<i32>) {
        let insert = format!(
            "INSERT INTO s.t SELECT g, 'note' FROM generate_series({}, {}) g",
            ids.start,
            ids.end - 1
        );
        self.client.batch_execute(&insert).await.unwrap();
    }

    /// Waits until the alias has so many documents.
    async fn arrive(&self, sink: &mut Service, index_prefix: &str, count: u64) {
        let alias = format!("{index_prefix}{}", self.pipeline.topic("s.t"));
        let (refresh, counted) = (format!("/{alias}/_refresh"), format!("/{alias}/_count"));
        until(sink, &format!("{count} documents"), async || {
            let refreshed = self.engine.call(Method::POST, &refresh, &Value::Null);
            refreshed.await.unwrap();
            let answer = self.engine.call(Method::GET, &counted, &Value::Null);
            answer.await.unwrap().1["count"] == count
        })
        .await;
    }

    /// Adds a row at a time, since files are looked at when there is something to send, until the log says this.
    async fn write_until_said(&self, sink: &mut Service, words: &str, rows: &mut i32) {
        let log = self.pipeline.dir().join("certified.log");
        until(sink, words, async || {
            *rows += 1;
            self.insert(*rows..*rows + 1).await;
            std::fs::read_to_string(&log).unwrap().contains(words)
        })
        .await;
    }

    fn end(&mut self, mut sink: Service) {
        let (_, status) = sink.get("/status").unwrap();
        assert!(
            sink.stop(PATIENCE).unwrap().success(),
            "{}",
            sink.log_tail()
        );
        self.said.push_str(&(sink.log() + &status));
    }
}

async fn until(sink: &mut Service, what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true().await {
        let runs = sink.is_running().unwrap();
        assert!(
            runs && Instant::now() < deadline,
            "{what}: runs: {runs}; the log ends:\n{}",
            sink.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_gets_by_with_the_documented_role_and_follows_its_files() {
    if !SecuredEngine::can_run().unwrap() {
        println!("passed over: OpenSearch with its security plug-in needs JDK 21");
        return;
    }
    let mut scene = Scene::set().await;
    what_check_says(&mut scene).await;
    a_password(&mut scene).await;
    a_certificate(&mut scene).await;
    let secrets = [PASSWORD, NEW_PASSWORD, "BEGIN PRIVATE KEY", "eyJ"];
    for secret in secrets {
        assert!(!scene.said.contains(secret), "{secret} in: {}", scene.said);
    }
}

async fn what_check_says(scene: &mut Scene) {
    let (url, by_address) = (scene.engine.url(), scene.engine.url_by_address());
    let others = scene.trusting(&scene.other);
    let login = scene.login("sink", "password", PASSWORD);
    let said = scene.check(&url, &(others + &login), false);
    assert!(
        said.contains("of an authority that is not trusted"),
        "{said}"
    );
    let ours = scene.trusting(&scene.authority);
    scene.check(&url, &(ours.clone() + &login), true);
    let said = scene.check(&by_address, &(ours.clone() + &login), false);
    assert!(
        said.contains("for another name than that in the URL"),
        "{said}"
    );

    let wrong = scene.login("sink", "wrong", NEW_PASSWORD);
    for (more, remedy) in [
        ("", "set elasticsearch.username and password"),
        (&wrong, "correct elasticsearch.username and password"),
        (
            "bearer_token = \"eyJ.eyJ.x\"\n",
            "set elasticsearch.bearer_token",
        ),
    ] {
        let said = scene.check(&url, &(ours.clone() + more), false);
        assert!(
            said.contains("refuses the credentials (401") && said.contains(remedy),
            "{said}"
        );
    }
    let stranger = scene.login("stranger", "stranger", PASSWORD);
    let said = scene.check(&url, &(ours.clone() + &stranger), false);
    for part in [
        "(403 (security_exception: no permissions for [",
        "name=stranger",
        "docs/search.md",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let token = scene
        .engine
        .token(&scene.authority, "bearer", PASSWORD)
        .await
        .unwrap();
    let token = scene.files.put("token", &token);
    scene.check(
        &url,
        &format!("{ours}bearer_token_file = \"{token}\"\n"),
        true,
    );
}

/// A sink that begins with the wrong authority, and whose password changes.
async fn a_password(scene: &mut Scene) {
    let more = scene.trusting(&scene.other) + &scene.login("sink", "password", PASSWORD);
    let mut sink = scene.sink("sink", "", &scene.engine.url(), &more);
    sink.start().unwrap();
    let fault =
        "has a certificate of an authority that is not trusted; to do: set `elasticsearch.ca_file`";
    let http = sink.http();
    until(&mut sink, fault, async || {
        let client = tributary_tests::http::client();
        let status = client.get(format!("http://{http}/status")).send().await;
        match status {
            Ok(status) => {
                let status: Value = status.json().await.unwrap();
                status["warnings"].to_string().contains(fault)
            }
            Err(_) => false,
        }
    })
    .await;
    assert!(sink.log().contains(fault), "{}", sink.log_tail());

    scene.trusting(&scene.authority);
    scene.arrive(&mut sink, "", 100).await;
    let topic = scene.pipeline.topic("s.t");
    // As the sink does for rows of another producer's topic that lack values.
    let (path, ids) = (format!("/{topic}/_mget"), json!({"ids": ["1"]}));
    let (user, engine) = (("sink", PASSWORD), &scene.engine);
    let read = engine.call_as(&scene.authority, user, Method::POST, &path, &ids);
    let (status, answer) = read.await.unwrap();
    assert_eq!(
        (status, &answer["docs"][0]["found"]),
        (200, &json!(true)),
        "{answer}"
    );
    let (code, out, err) = sink.command(&["reindex", "--topic", &topic]).unwrap();
    assert_eq!(code, 0, "{out}{err}");

    let body = json!({"password": NEW_PASSWORD});
    scene
        .engine
        .define("internalusers/sink", &body)
        .await
        .unwrap();
    scene.insert(101..201).await;
    until(&mut sink, "401", async || !sink_is_let_in(http).await).await;
    // A file that cannot be used keeps no other one out.
    scene.files.put("ca.pem", "no certificate");
    scene.files.put("password", NEW_PASSWORD);
    scene.arrive(&mut sink, "", 200).await;
    scene.end(sink);
}

async fn sink_is_let_in(http: std::net::SocketAddr) -> bool {
    let client = tributary_tests::http::client();
    let ready = client.get(format!("http://{http}/ready")).send().await;
    ready.unwrap().status().is_success()
}

/// A sink that is known by its certificate, which is renewed while it runs.
async fn a_certificate(scene: &mut Scene) {
    let [first, second] = ["first", "second"].map(|name| scene.authority.issue(name, &[]).unwrap());
    let more = scene.trusting(&scene.authority) + &scene.files.identity("sink.pem", &first);
    let mut sink = scene.sink("certified", "by-", &scene.engine.url(), &more);
    sink.start().unwrap();
    scene.arrive(&mut sink, "by-", 200).await;

    scene.give_role(&["first", "second"]).await;
    // Half of it at first: what does not fit together is said, and not used.
    scene.files.put("sink.pem", &first.certificate);
    let broken = "changed on disk and cannot be used, those before stay in use";
    let mut rows = 200;
    scene.write_until_said(&mut sink, broken, &mut rows).await;
    scene.files.identity("sink.pem", &second);
    scene.write_until_said(&mut sink, CHANGED, &mut rows).await;
    scene.give_role(&["second"]).await;
    scene.insert(rows + 1..rows + 101).await;
    scene.arrive(&mut sink, "by-", rows as u64 + 100).await;
    scene.end(sink);
}
