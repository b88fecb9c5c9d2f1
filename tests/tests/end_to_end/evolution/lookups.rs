//! Unchanged TOASTed columns, looked up under keys of all kinds and beside schema changes.

use super::stage::{OFTEN, PATIENCE, Stage};

/// The operators of some are not in `pg_catalog`, which is all that is searched.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_by_keys_of_any_type() {
    let keys = [
        ("ltree", "ext.ltree", "'a.b'"),
        ("citext", "ext.citext", r"'Ab\c'''"),
        ("over_ltree", "ext.path", "'a.c'"),
        ("composite", "ext.pair", "ROW(1, 'x,y')::ext.pair"),
        ("labels", "ext.label", "'it''s'::ext.label"),
        ("numbers", "int[]", "'{1,2}'::int[]"),
        ("ranges", "int4range", "'[1,5)'::int4range"),
    ];
    let mut sql = "CREATE SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
        CREATE DOMAIN ext.path AS ext.ltree; CREATE TYPE ext.pair AS (a int, b text); CREATE TYPE ext.label AS ENUM ('it''s');"
        .to_owned();
    for (table, key, value) in keys {
        sql += &format!(
            "CREATE TABLE s.{table} (k {key}, i int, n int, body text, PRIMARY KEY (k, i));
             ALTER TABLE s.{table} ALTER body SET STORAGE EXTERNAL;
             INSERT INTO s.{table} SELECT {value}, g, 0, repeat('x', 9000) || g FROM generate_series(1, 3) g;"
        );
    }
    let mut stage = Stage::begin("lookup_keys", &sql, OFTEN).await;
    for (table, ..) in keys {
        stage.run(&format!("UPDATE s.{table} SET n = 1")).await;
    }
    stage.catch_up().await;
    for (table, ..) in keys {
        assert_eq!(bodies(&stage, table).await, [9001; 3], "{table}");
    }
}

/// The look-up waits for the lock of a change that gives the column another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_renamed_while_it_is_looked_up() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, n int, body text); ALTER TABLE s.t ALTER body SET STORAGE EXTERNAL;
        INSERT INTO s.t VALUES (1, 0, repeat('x', 9000))";
    let mut stage = Stage::begin("lookup_renamed", sql, OFTEN).await;
    stage.source.stop(PATIENCE).unwrap();
    stage.run("UPDATE s.t SET n = 1").await;
    let other = stage.pipeline.source().await.unwrap();
    let rename = "BEGIN; ALTER TABLE s.t RENAME body TO txt";
    other.batch_execute(rename).await.unwrap();
    stage.source.start().unwrap();
    let waits =
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass)";
    stage.until(waits).await;
    // However long that lasts: it is told, and it holds no shutdown up.
    stage.logs("unchanged columns cannot be looked up", 1).await;
    assert!(stage.source.stop(PATIENCE).unwrap().success());
    stage.source.start().unwrap();
    stage.until(waits).await;
    other.batch_execute("COMMIT").await.unwrap();
    stage.catch_up().await;
    assert_eq!(bodies(&stage, "t").await, [9000]);
}

/// The stream tells the column by the name that it had, and the catalog knows it by another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_was_renamed_before_it_is_looked_up() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, gone int, n int, body text, more text);
        ALTER TABLE s.t ALTER body SET STORAGE EXTERNAL, ALTER more SET STORAGE EXTERNAL;
        INSERT INTO s.t VALUES (1, 0, 0, repeat('x', 9000), repeat('y', 5000)); ALTER TABLE s.t DROP gone";
    let mut stage = Stage::begin("lookup_before", sql, OFTEN).await;
    stage.source.stop(PATIENCE).unwrap();
    stage
        .run("UPDATE s.t SET n = 1; ALTER TABLE s.t RENAME body TO txt; ALTER TABLE s.t ADD body text;
            UPDATE s.t SET n = 2; ALTER TABLE s.t RENAME n TO m; UPDATE s.t SET m = 3, body = 'new'")
        .await;
    stage.source.start().unwrap();
    stage.converges("s.t", "s.t").await;
    let records = stage.records("s.t").await;
    let length = |row: &super::stage::Row, name: &str| {
        row.get(name)
            .map(|text| text.as_ref().map_or(0, String::len))
    };
    let updates = records.iter().filter_map(|record| record.change.as_ref());
    let updates = updates.filter(|change| change.op == 'u');
    let lengths: Vec<_> = updates
        .map(|change| ["body", "txt", "more"].map(|name| length(&change.after, name)))
        .collect();
    // Which of the two is the first one's body is not certain: it is said to be absent, and never taken for the other.
    assert_eq!(
        lengths,
        [
            [Some(0), None, Some(5000)],
            [Some(0), Some(9000), Some(5000)],
            [Some(3), Some(9000), Some(5000)]
        ]
    );
}

/// How long the text of each updated row is.
async fn bodies(stage: &Stage, table: &str) -> Vec<usize> {
    let records = stage.records(&format!("s.{table}")).await;
    let changes = records.iter().filter_map(|record| record.change.as_ref());
    let updates = changes.filter(|change| change.op == 'u');
    let body = |after: &super::stage::Row| after["body"].as_ref().map_or(0, String::len);
    updates.map(|change| body(&change.after)).collect()
}
