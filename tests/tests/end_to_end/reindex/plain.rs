//! An index of another connector's has the name that the alias is to have.

use std::fmt::Write as _;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::PATIENCE;
use super::searching::Searchers;
use super::stage::{Done, Stage, ended};

const REPLACE: &str = "--replace-index";
/// The command that the service, `check` and `plan` name.
const ADVICE: &str = "is an index, not an alias; to do: to have the alias in its place, stop whoever else writes to it, and run `tributary-sink-elastic reindex --index ";
/// Where a reindex is killed.
const KILLS: [&str; 4] = [
    "reindex-created",
    "reindex-reading",
    "reindex-blocked",
    "reindex-swapped",
];

/// The index, and a service that is to write to an alias of its name.
struct Plain {
    stage: Arc<Stage>,
    name: String,
    group: String,
    service: Service,
}

impl Plain {
    /// With the table's rows, as another connector writes them.
    async fn set(stage: &Arc<Stage>, group: &str) -> Self {
        let prefix = format!("{group}-");
        let config = stage.pipeline.elastic_config(group, &prefix);
        let config = format!("{config}[batch]\nrows = 500\n");
        let service = stage.pipeline.service(Kind::SinkElastic, group, &config);
        let name = format!("{prefix}{}", stage.alias_of("s.a"));
        let settings = json!({"settings": {"number_of_shards": 2, "number_of_replicas": 0}});
        stage.put(&format!("/{name}"), settings).await;
        let mut body = String::new();
        for id in 1..=stage.rows() {
            let (action, row) = (json!({"index": {"_id": id.to_string()}}), json!({"id": id}));
            writeln!(body, "{action}\n{row}").unwrap();
        }
        let url = format!("{}/{name}/_bulk?refresh=true", stage.url);
        let request = stage.http.post(url).body(body);
        let request = request.header("content-type", "application/x-ndjson");
        let answer = request.send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("\"errors\":false"), "{answer}");
        Self {
            stage: Arc::clone(stage),
            name,
            group: group.to_owned(),
            service: service.unwrap(),
        }
    }

    fn start(&self, words: &[&str], environment: &[(&str, &str)]) -> Child {
        let config = self.service.config_path();
        self.stage.start_with(config, "s.a", words, environment)
    }

    async fn reindex(&self, words: &[&str]) -> Done {
        ended(self.start(words, &[])).await
    }

    /// As another connector writes; the status.
    async fn write(&self, id: i64) -> u16 {
        let path = format!("/{}/_doc/{id}?refresh=true", self.name);
        let row = json!({ "id": id });
        self.stage.call(Method::PUT, &path, Some(row)).await.0
    }

    /// That the index is there, with so many documents.
    async fn assert_is_there(&self, documents: i64) {
        let index = self.stage.get(&format!("/{}", self.name)).await;
        assert!(index[&self.name].is_object(), "{index}");
        let count = self.stage.get(&format!("/{}/_count", self.name)).await;
        assert_eq!(count["count"], documents, "{count}");
    }

    /// Its index with this number is the only one, behind the alias, and nothing is left of the reindex.
    async fn assert_cleared(&self, number: u32) {
        let all = format!("/{}*?expand_wildcards=all", self.name);
        let all = self.stage.get(&all).await;
        let only = format!("{}-{number:06}", self.name);
        let names: Vec<_> = all.as_object().unwrap().keys().collect();
        assert_eq!(names, [&only]);
        let alias = json!({ (self.name.as_str()): {"is_write_index": true} });
        assert_eq!(all[&only]["aliases"], alias);
        let ours = &all[&only]["mappings"]["_meta"]["tributary"];
        assert_eq!(ours["reindex"], Value::Null);
        let begun = Instant::now();
        loop {
            let groups = self.stage.groups_of(&self.group).await;
            if groups.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{groups:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_equal(&self) {
        let prefix = format!("{}-", self.group);
        self.stage.until_equal_behind("s.a", &prefix).await;
    }

    async fn forget(&self) {
        let path = format!("/{}*", self.name);
        let all = self.stage.get(&path).await;
        for name in all.as_object().unwrap().keys() {
            self.stage.forget(&format!("/{name}")).await;
        }
    }
}

/// The service stops before the index, and goes on behind the alias; the index goes only when that is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_another_connector_is_replaced_when_that_is_asked_for() {
    let stack = Stack::from_env().unwrap();
    let stage = Arc::new(Stage::set(&stack, "reindex_plain", &["s.a"], 400).await);
    let mut plain = Plain::set(&stage, "plain").await;
    plain.service.start().unwrap();
    assert!(!plain.service.wait(PATIENCE).unwrap().success());
    let told = plain.service.log();
    assert!(told.contains(ADVICE) && told.contains(REPLACE), "{told}");
    let plan = plain.service.command(&["plan"]).unwrap();
    assert!(plan.0 != 0 && plan.1.contains(ADVICE), "{plan:?}");
    let refused = plain.reindex(&[]).await;
    assert_eq!(refused.code, 1, "{}", refused.errors);
    assert!(refused.errors.contains(ADVICE), "{}", refused.errors);
    let kept = plain.reindex(&[REPLACE, "--keep-old"]).await;
    assert!(kept.errors.contains("cannot be used"), "{}", kept.errors);

    // Nothing was done. This document is no row's.
    assert_eq!(plain.write(9_000).await, 201);
    let fewer = plain.reindex(&[REPLACE]).await;
    assert_eq!(fewer.code, 1, "{}", fewer.errors);
    for expected in ["writes to it are refused", "--verify-counts false"] {
        assert!(fewer.errors.contains(expected), "{}", fewer.errors);
    }
    plain.assert_is_there(stage.rows() + 1).await;
    assert_eq!(plain.write(9_001).await, 403);

    let searchers = Searchers::begin(&stage, &plain.name, 2);
    searchers.until_more(50).await;
    let done = plain.reindex(&[REPLACE, "--verify-counts", "false"]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    let (searches, failures) = searchers.end().await;
    println!("{} of {searches} searches: {failures:#?}", failures.len());
    // At the moment itself a search may fail, or miss rows; none sees a row as it was before.
    assert!(!failures.iter().any(|what| what.contains(" was at ")));
    let searchers = Searchers::begin(&stage, &plain.name, 2);
    searchers.until_more(50).await;
    let (_, failures) = searchers.end().await;
    assert!(failures.is_empty(), "{failures:#?}");
    plain.assert_cleared(1).await;

    plain.service.start().unwrap();
    plain.service.wait_ready(PATIENCE).unwrap();
    stage
        .run("UPDATE s.a SET v = 7 WHERE id <= 3; DELETE FROM s.a WHERE id = 4")
        .await;
    plain.until_equal().await;
    let read = plain.service.metric("tributary_sink_records_total");
    assert!(
        read.is_some_and(|read| read < 100.0),
        "{read:?} records are read again"
    );
    plain.forget().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_that_was_killed_is_gone_on_with_or_abandoned() {
    let stack = Stack::from_env().unwrap();
    let stage = Arc::new(Stage::set(&stack, "reindex_killed", &["s.a"], 1_500).await);
    let plains = KILLS.map(|failpoint| Plain::set(&stage, failpoint));
    let plains = join_all(plains).await;
    let killed = plains.iter().zip(KILLS).map(|(plain, failpoint)| {
        let armed = [("TRIBUTARY_FAILPOINT", failpoint)];
        ended(plain.start(&[REPLACE], &armed))
    });
    for (plain, done) in plains.iter().zip(join_all(killed).await) {
        assert_eq!(done.code, -1, "{}: {}", plain.group, done.errors);
    }
    let [created, reading, blocked, _] = &plains[..] else {
        unreachable!("one for each");
    };
    for plain in [created, reading, blocked] {
        plain.assert_is_there(stage.rows()).await;
    }
    for plain in [reading, blocked] {
        assert_eq!(plain.write(1).await, 403);
    }
    let abandoned = blocked.reindex(&["--abandon", "--yes"]).await;
    assert_eq!(abandoned.code, 0, "{}", abandoned.errors);
    assert_eq!(blocked.write(1).await, 200);
    blocked.assert_is_there(stage.rows()).await;

    let again = plains.iter().map(|plain| plain.reindex(&[REPLACE]));
    for (plain, done) in plains.iter().zip(join_all(again).await) {
        assert_eq!(done.code, 0, "{}: {}", plain.group, done.errors);
        // A name that the abandoned one had is not given again.
        let number = if plain.group == blocked.group { 2 } else { 1 };
        plain.assert_cleared(number).await;
        plain.until_equal().await;
        plain.forget().await;
    }
}
