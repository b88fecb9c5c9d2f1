//! The index that was replaced, and kept, is gone back to.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use tributary_tests::stack::Stack;

use super::compared;
use super::searching::Searchers;
use super::stage::{Stage, ended};

/// Where each table's rollback is killed.
const KILLS: [(&str, &str); 4] = [
    ("s.b", "reindex-created"),
    ("s.c", "reindex-reading"),
    ("s.d", "reindex-blocked"),
    ("s.e", "reindex-swapped"),
];
/// Of which a rollback is given up, and of which none is possible.
const OTHERS: [&str; 2] = ["s.g", "s.h"];
/// Of which nothing is kept.
const COMPARED: &str = "s.i";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `make test-long`"]
async fn an_index_is_gone_back_to_or_compared_while_rows_change_and_from_wherever_it_was_killed() {
    let stack = Stack::from_env().unwrap();
    let mut tables = vec!["s.a"];
    tables.extend(KILLS.map(|(table, _)| table));
    tables.extend(OTHERS);
    let all = [tables.as_slice(), &[COMPARED]].concat();
    let stage = Arc::new(Stage::set(&stack, "reindex_back", &all, 1_500).await);
    let none = stage.reindex("s.h", &["--rollback"]).await;
    assert_eq!(none.code, 1, "{}", none.json);
    assert!(none.errors.contains("no index is kept"), "{}", none.errors);

    let kept = tables
        .iter()
        .map(|table| ended(stage.start(table, &["--keep-old"], &[])));
    for (table, done) in tables.iter().zip(join_all(kept).await) {
        assert_eq!(done.code, 0, "{table}: {}", done.errors);
    }
    // The kept ones lack all of this.
    for table in &tables {
        let changes = format!(
            "UPDATE {table} SET v = 1; DELETE FROM {table} WHERE id % 10 = 5; INSERT INTO {table} VALUES (9000, 0, 'late')"
        );
        stage.run(&changes).await;
    }
    for table in &tables {
        stage.until_equal(table).await;
    }
    tokio::join!(
        there_and_back(&stage, "s.a"),
        killed_and_gone_on_with(&stage),
        given_up(&stage, "s.g"),
        one_that_does_not_fit_is_refused(&stage, "s.h"),
        compared::differences_stop_the_move_and_changes_do_not(&stage, COMPARED),
    );
    assert_eq!(stage.groups().await, Vec::<String>::new());
}

/// Searches miss no row and see none older; what is gone back from is kept as well, and gone back to.
async fn there_and_back(stage: &Arc<Stage>, table: &str) {
    // Rows that are never gone are searched for.
    let back = format!(
        "INSERT INTO {table} SELECT g, 1, g::text FROM generate_series(1, 1500) g ON CONFLICT DO NOTHING"
    );
    stage.run(&back).await;
    stage.until_equal(table).await;
    let changes = stage.begin_changes(table);
    let searchers = Searchers::begin(stage, &stage.alias_of(table), 1);
    searchers.until_more(20).await;
    let words = ["--rollback", "--keep-old", "--compare", "documents"];
    let back = stage.reindex(table, &words).await;
    assert_eq!(back.code, 0, "{}", back.errors);
    assert!(back.json["compared"].is_u64(), "{}", back.json);
    assert_eq!(back.json["index"], stage.index(table, 1));
    searchers.until_more(20).await;
    let forth = stage.reindex(table, &["--rollback"]).await;
    assert_eq!(forth.code, 0, "{}", forth.errors);
    assert_eq!(forth.json["index"], stage.index(table, 2));
    searchers.until_more(20).await;
    let (searches, failures) = searchers.end().await;
    assert!(failures.is_empty(), "{searches} searches: {failures:#?}");
    assert!(changes.end().await > 20);
    stage.until_equal(table).await;
    cleared(stage, table, 2).await;
}

async fn killed_and_gone_on_with(stage: &Stage) {
    let killed = KILLS.map(|(table, failpoint)| {
        ended(stage.start(
            table,
            &["--rollback"],
            &[("TRIBUTARY_FAILPOINT", failpoint)],
        ))
    });
    for ((table, failpoint), done) in KILLS.iter().zip(join_all(killed).await) {
        assert_eq!(
            done.code, -1,
            "{table} was not killed at {failpoint}: {}",
            done.errors
        );
        let changes =
            format!("UPDATE {table} SET v = 2 WHERE id <= 100; DELETE FROM {table} WHERE id = 201");
        stage.run(&changes).await;
    }
    let again = KILLS.map(|(table, _)| ended(stage.start(table, &["--rollback"], &[])));
    for ((table, _), done) in KILLS.iter().zip(join_all(again).await) {
        assert_eq!(done.code, 0, "{table}: {}", done.errors);
        stage
            .run(&format!("UPDATE {table} SET v = 3 WHERE id > 1000"))
            .await;
        stage.until_equal(table).await;
        cleared(stage, table, 1).await;
    }
}

/// The other way is refused meanwhile; the index stays kept, and can be gone back to later.
async fn given_up(stage: &Stage, table: &str) {
    let armed = [("TRIBUTARY_FAILPOINT", "reindex-reading")];
    let killed = ended(stage.start(table, &["--rollback"], &armed)).await;
    assert_eq!(killed.code, -1, "{}", killed.errors);
    let forth = stage.reindex(table, &[]).await;
    assert_eq!(forth.code, 1, "{}", forth.json);
    assert!(
        forth.errors.contains("reindex --rollback"),
        "{}",
        forth.errors
    );
    let first = stage.index(table, 1);
    let given_up = stage.reindex(table, &["--abandon", "--yes"]).await;
    assert_eq!(given_up.code, 0, "{}", given_up.errors);
    assert_eq!(
        (&given_up.json["deletes"], &given_up.json["keeps"]),
        (&json!([]), &json!([&first]))
    );
    let kept = stage.get(&format!("/{first}")).await[&first].clone();
    assert_eq!(kept["aliases"], json!({}));
    let ours = &kept["mappings"]["_meta"]["tributary"];
    assert_eq!(ours["replaced_by"], stage.index(table, 2));
    assert_eq!(ours["reindex"], Value::Null);
    let back = stage.reindex(table, &["--rollback"]).await;
    assert_eq!(back.code, 0, "{}", back.errors);
    stage.until_equal(table).await;
    cleared(stage, table, 1).await;
}

/// It is not begun, and the one in use stays.
async fn one_that_does_not_fit_is_refused(stage: &Stage, table: &str) {
    let first = stage.index(table, 1);
    let meta = stage.get(&format!("/{first}")).await[&first]["mappings"]["_meta"].clone();
    let mut beyond = meta.clone();
    let offsets = beyond["tributary"]["kept"]["offsets"].as_object_mut();
    for offset in offsets.unwrap().values_mut() {
        *offset = 1_000_000_000.into();
    }
    let path = format!("/{first}/_mapping");
    stage.put(&path, json!({ "_meta": beyond })).await;
    let refused = stage.reindex(table, &["--rollback"]).await;
    assert_eq!(refused.code, 1, "{}", refused.json);
    for expected in [
        "cannot be read on from where it was left",
        "to do: run `reindex`",
    ] {
        assert!(refused.errors.contains(expected), "{}", refused.errors);
    }
    let now = stage.get(&format!("/{first}")).await[&first]["mappings"]["_meta"].clone();
    assert_eq!(now, beyond, "something is begun");

    // Rows that only the index in use has are not given up for it.
    stage.put(&path, json!({ "_meta": meta })).await;
    for number in 0..50 {
        let stray = format!("/{}/_doc/stray{number}", stage.alias_of(table));
        let (status, answer) = stage
            .call(reqwest::Method::PUT, &stray, Some(json!({"id": number})))
            .await;
        assert_eq!(status, 201, "{answer}");
    }
    let refused = stage.reindex(table, &["--rollback"]).await;
    assert_eq!(refused.code, 1, "{}", refused.json);
    assert!(
        refused.errors.contains("--verify-counts false"),
        "{}",
        refused.errors
    );
    let words = ["--rollback", "--verify-counts", "false"];
    let back = stage.reindex(table, &words).await;
    assert_eq!(back.code, 0, "{}", back.errors);
    stage.until_equal(table).await;
    cleared(stage, table, 1).await;
}

/// The index with this number is the only one, and says nothing of reindexes.
async fn cleared(stage: &Stage, table: &str, number: u32) {
    let alias = stage.alias_of(table);
    let all = stage.get(&format!("/{alias}-*?expand_wildcards=all")).await;
    let names: Vec<_> = all.as_object().unwrap().keys().collect();
    let only = stage.index(table, number);
    assert_eq!(names, [&only]);
    let aliases = json!({ (alias): {"is_write_index": true} });
    assert_eq!(all[&only]["aliases"], aliases);
    let ours = &all[&only]["mappings"]["_meta"]["tributary"];
    for note in ["reindex", "handover", "replaced_by", "kept"] {
        assert_eq!(ours[note], Value::Null, "{table}: {note}");
    }
}
