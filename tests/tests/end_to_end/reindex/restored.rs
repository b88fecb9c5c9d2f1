//! An index that the engine has restored from a snapshot: what the guide says to do about it.

use reqwest::Method;
use serde_json::{Value, json};
use tributary_tests::stack::Stack;

use super::PATIENCE;
use super::stage::Stage;

const TABLE: &str = "s.a";

/// Takes a snapshot of the index, has something done, stops the service, and restores the index, which is gone by then.
async fn restore(stage: &Stage, number: u32, meanwhile: &str) {
    let index = stage.index(TABLE, number);
    let repository = format!("/_snapshot/{}-{number}", stage.pipeline.prefix());
    let location = repository.replace("/_snapshot/", "");
    let settings = json!({"type": "fs", "settings": {"location": location}});
    stage.put(&repository, settings).await;
    let only = json!({"indices": index, "include_global_state": false});
    let taken = format!("{repository}/taken");
    stage
        .put(&format!("{taken}?wait_for_completion=true"), only.clone())
        .await;
    if !meanwhile.is_empty() {
        stage.run(meanwhile).await;
        stage.until_equal(TABLE).await;
    }
    stage.sink().await.stop(PATIENCE).unwrap();
    stage.forget(&format!("/{index}")).await;
    let restore = format!("{taken}/_restore?wait_for_completion=true");
    let (status, answer) = stage.call(Method::POST, &restore, Some(only)).await;
    assert_eq!(status, 200, "{answer}");
    stage.forget(&repository).await;
}

async fn start_is_refused(stage: &Stage) {
    let mut sink = stage.sink().await;
    sink.start().unwrap();
    assert!(!sink.wait(PATIENCE).unwrap().success());
    let log = sink.log_tail();
    assert!(log.contains("was restored from a snapshot"), "{log}");
}

async fn start_goes_on(stage: &Stage) {
    {
        let mut sink = stage.sink().await;
        sink.start().unwrap();
        sink.wait_ready(PATIENCE).unwrap();
    }
    stage
        .run("UPDATE s.a SET v = v + 1; DELETE FROM s.a WHERE id = 1")
        .await;
    stage.until_equal(TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_index_is_built_again_or_said_to_lack_nothing() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_restored", &[TABLE], 50).await;
    restore(&stage, 1, "UPDATE s.a SET v = 7").await;
    start_is_refused(&stage).await;
    let done = stage.reindex(TABLE, &[]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    start_goes_on(&stage).await;

    // Nothing was written since the snapshot was taken.
    restore(&stage, 2, "").await;
    start_is_refused(&stage).await;
    let index = stage.index(TABLE, 2);
    let settings = stage
        .get(&format!("/{index}/_settings?flat_settings=true"))
        .await;
    let settings = &settings[&index]["settings"];
    let text = |name: &str| settings[name].as_str().unwrap_or_default();
    let id = format!("{}/{}", text("index.uuid"), text("index.history.uuid"));
    let meta = json!({"id": id, "made": text("index.creation_date")});
    let field = json!({"type": "long", "index": false, "doc_values": false, "meta": meta});
    let says: Value = json!({"properties": {"_tributary_index": field}});
    stage.put(&format!("/{index}/_mapping"), says).await;
    start_goes_on(&stage).await;
}
