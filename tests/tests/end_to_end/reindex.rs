//! A search index is built again from the log, and put in the place of the one in use, while rows change and searches run.

mod by_itself;
mod compared;
mod kills;
mod plain;
mod refusals;
mod restored;
mod rollback;
mod searching;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tributary_tests::stack::Stack;

use searching::Searchers;
use stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_and_changes_go_on_while_an_index_is_built_again() {
    let stack = Stack::from_env().unwrap();
    let stage = Arc::new(Stage::set(&stack, "reindex", &["s.a"], 1_500).await);
    let changes = stage.begin_changes("s.a");
    let searchers = Searchers::begin(&stage, &stage.alias_of("s.a"), 2);
    searchers.until_more(100).await;

    let done = stage.reindex("s.a", &[]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    searchers.until_more(100).await;
    let (searches, failures) = searchers.end().await;
    assert!(failures.is_empty(), "{searches} searches: {failures:#?}");
    let changed = changes.end().await;
    assert!(changed > 50, "only {changed} changes");
    stage.until_equal("s.a").await;
    stage.assert_cleared("s.a", 2).await;
    let window_ms = done.json["window_ms"].as_u64().unwrap();
    println!("{searches} searches, {changed} changes; writes waited {window_ms} ms");
    // What it is bounded to: how long it takes is the machine's.
    assert!(window_ms < 14_000, "{window_ms} ms");

    // The running service has followed; and when it starts again it goes on where it was.
    // A write that has met the block may still wait.
    stage.until_said("a reindex has put another index").await;
    let log = stage.sink_log();
    assert!(!log.contains("joins it again"), "{log}");
    stage.restart_sink().await;
    stage.run("UPDATE s.a SET v = -1 WHERE id <= 3").await;
    stage.until_equal("s.a").await;
    let read = stage.sink_metric("tributary_sink_records_total").await;
    assert!(
        read.is_some_and(|read| read < 100.0),
        "{read:?} records are read again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_is_given_and_the_old_index_is_kept() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_mapping", &["s.a"], 50).await;
    let (old, new) = (stage.index("s.a", 1), stage.index("s.a", 2));
    let settings = json!({"index.max_result_window": 20_000, "index.refresh_interval": "2s"});
    stage.put(&format!("/{old}/_settings"), settings).await;
    stage.alias(&old, "mine").await;
    let file = stage.file(
        "mapping.json",
        &json!({"properties": {"name": {"type": "keyword", "copy_to": "all"}, "all": {"type": "text"}}}),
    );
    let done = stage
        .reindex("s.a", &["--mapping", &file, "--keep-old"])
        .await;
    assert_eq!(done.code, 0, "{}", done.errors);
    assert_eq!(done.json["documents"], 50);
    println!(
        "nothing changes: writes would have waited {} ms",
        done.json["window_ms"]
    );
    let index = stage.get(&format!("/{new}?flat_settings=true")).await[&new].clone();
    assert_eq!(index["mappings"]["properties"]["name"]["type"], "keyword");
    assert_eq!(index["settings"]["index.max_result_window"], "20000");
    assert_eq!(index["settings"]["index.refresh_interval"], "2s");
    assert!(index["aliases"]["reindex-mine"].is_object(), "{index}");
    let found = json!({"query": {"match": {"all": "7"}}});
    let path = format!("/{}/_search", stage.alias_of("s.a"));
    let hits = stage.call(Method::POST, &path, Some(found)).await.1;
    assert_eq!(hits["hits"]["hits"][0]["_id"], "7", "{hits}");

    // The one that is kept is out of use, and says so; its rows are as they were.
    let kept = stage.get(&format!("/{old}?flat_settings=true")).await[&old].clone();
    assert_eq!(kept["aliases"], json!({}));
    assert_eq!(kept["mappings"]["_meta"]["tributary"]["replaced_by"], new);
    assert_eq!(kept["settings"]["index.blocks.write"], Value::Null);
    stage.run("UPDATE s.a SET v = 7").await;
    stage.until_equal("s.a").await;

    // What was given holds for the next one as well.
    let done = stage.reindex("s.a", &[]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    let third = stage.index("s.a", 3);
    let index = stage.get(&format!("/{third}")).await[&third].clone();
    assert_eq!(index["mappings"]["properties"]["name"]["type"], "keyword");
    stage.until_equal("s.a").await;
    stage.forget("/_all/_alias/reindex-mine").await;
}

const PATIENCE: Duration = Duration::from_secs(90);
