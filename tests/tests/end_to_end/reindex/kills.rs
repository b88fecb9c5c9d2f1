//! A reindex that is killed between any two of its steps is gone on with by the next one.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tributary_tests::stack::Stack;

use super::stage::{Stage, ended};

/// Where each table's reindex is killed.
const KILLS: [(&str, &str); 5] = [
    ("s.a", "reindex-created"),
    ("s.b", "reindex-reading"),
    ("s.c", "reindex-blocked"),
    ("s.d", "reindex-swapped"),
    ("s.e", "reindex-deleted"),
];
/// How long a service waits for a reindex that has died while it blocked writes, and some more.
const LIFTED_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reindex_that_was_killed_is_gone_on_with() {
    let stack = Stack::from_env().unwrap();
    let tables = KILLS.map(|(table, _)| table);
    let stage = Stage::set(&stack, "reindex_kills", &tables, 1_500).await;
    let killed = KILLS.map(|(table, failpoint)| {
        ended(stage.start(table, &[], &[("TRIBUTARY_FAILPOINT", failpoint)]))
    });
    for ((table, failpoint), done) in KILLS.iter().zip(join_all(killed).await) {
        assert_eq!(
            done.code, -1,
            "{table} was not killed at {failpoint}: {}",
            done.errors
        );
    }
    for table in tables {
        stage
            .run(&format!(
                "UPDATE {table} SET v = 1 WHERE id <= 100; DELETE FROM {table} WHERE id = 200"
            ))
            .await;
    }
    let again = tables.map(|table| ended(stage.start(table, &[], &[])));
    for (table, done) in tables.iter().zip(join_all(again).await) {
        assert_eq!(done.code, 0, "{table}: {}", done.errors);
    }
    for table in tables {
        stage
            .run(&format!("UPDATE {table} SET v = 2 WHERE id > 1000"))
            .await;
        stage.until_equal(table).await;
        stage.assert_cleared(table, 2).await;
    }
}

/// Nobody goes on with it: the service does not wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_a_reindex_has_left_is_lifted_by_the_service() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_block", &["s.a"], 100).await;
    let armed = [("TRIBUTARY_FAILPOINT", "reindex-blocked")];
    let done = ended(stage.start("s.a", &[], &armed)).await;
    assert_eq!(done.code, -1, "{}", done.errors);
    let begun = Instant::now();
    stage.run("UPDATE s.a SET v = 1").await;
    stage.until_equal("s.a").await;
    assert!(begun.elapsed() < LIFTED_WITHIN, "{:?}", begun.elapsed());
    assert!(stage.sink_log().contains("has died: the block is lifted"));
    let settings = stage
        .get(&format!(
            "/{}/_settings?flat_settings=true",
            stage.index("s.a", 1)
        ))
        .await;
    assert!(!settings.to_string().contains("blocks.write"), "{settings}");

    let done = stage.reindex("s.a", &[]).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    stage.run("UPDATE s.a SET v = 2").await;
    stage.until_equal("s.a").await;
    stage.assert_cleared("s.a", 2).await;
}
