//! Schema changes and truncates, in the stream and in the middle of a transaction.

use super::stage::{OFTEN, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn truncates_empty_every_table_that_they_name_or_cascade_to() {
    let sql = "CREATE TABLE s.one (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
        CREATE TABLE s.two (id int PRIMARY KEY, one int REFERENCES s.one); CREATE TABLE s.three (id int PRIMARY KEY);
        CREATE TABLE s.stays (id int PRIMARY KEY); CREATE TABLE s.bag (v text);
        INSERT INTO s.one (v) SELECT 'v' FROM generate_series(1, 9); INSERT INTO s.two SELECT g, g FROM generate_series(1, 9) g;
        INSERT INTO s.three SELECT generate_series(1, 9); INSERT INTO s.stays SELECT generate_series(1, 9); INSERT INTO s.bag VALUES ('old')";
    let mut stage = Stage::begin("truncates", sql, "").await;
    stage
        .run("BEGIN; INSERT INTO s.three VALUES (10); TRUNCATE s.three, s.one, s.bag RESTART IDENTITY CASCADE;
            INSERT INTO s.one (v) VALUES ('again'); INSERT INTO s.two VALUES (1, 1); INSERT INTO s.bag VALUES ('new'); COMMIT;
            BEGIN; TRUNCATE s.stays; ROLLBACK")
        .await;
    stage.catch_up().await;
    for (table, rows) in [
        ("one", 1),
        ("two", 1),
        ("three", 0),
        ("stays", 9),
        ("bag", 1),
    ] {
        let name = format!("s.{table}");
        stage.same(&name, &name).await;
        assert_eq!(stage.rows(&name).await.len(), rows, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_change_in_the_middle_of_a_transaction() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, n int, v text); INSERT INTO s.t SELECT g, g, 'old' FROM generate_series(1, 5) g";
    let mut stage = Stage::begin("shapes", sql, OFTEN).await;
    for change in [
        "BEGIN; UPDATE s.t SET n = 0; ALTER TABLE s.t RENAME v TO w; UPDATE s.t SET w = 'renamed'; ALTER TABLE s.t ADD x int DEFAULT 7; UPDATE s.t SET x = 8; COMMIT",
        "BEGIN; ALTER TABLE s.t ALTER n TYPE bigint; UPDATE s.t SET n = 9000000000; SAVEPOINT a; ALTER TABLE s.t DROP w; UPDATE s.t SET n = 1; ROLLBACK TO a; UPDATE s.t SET w = 'still'; COMMIT",
        "ALTER TABLE s.t DROP w; UPDATE s.t SET x = 9",
        // Rewritten; the rows are the same.
        "VACUUM FULL s.t",
        "ALTER TABLE s.t ADD r float8 DEFAULT random(); UPDATE s.t SET r = 0.5",
        "CLUSTER s.t USING t_pkey",
    ] {
        stage.run(change).await;
        stage.catch_up().await;
        stage.same("s.t", "s.t").await;
    }
    stage
        .run("ALTER TABLE s.t ALTER x TYPE text; UPDATE s.t SET x = 'text'")
        .await;
    stage.stops_with("incompatible");
}

/// dbz#304: ALTER TYPE … ADD VALUE was not noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_label_of_an_enum_arrives() {
    let sql = "CREATE TYPE s.mood AS ENUM ('sad', 'glad'); CREATE TABLE s.t (id int PRIMARY KEY, m s.mood); INSERT INTO s.t VALUES (1, 'sad')";
    let mut stage = Stage::begin("labels", sql, OFTEN).await;
    stage.run("UPDATE s.t SET m = 'glad'").await;
    stage
        .run("ALTER TYPE s.mood ADD VALUE 'so so' BEFORE 'glad'")
        .await;
    stage.run("INSERT INTO s.t VALUES (2, 'so so')").await;
    stage.catch_up().await;
    stage.same("s.t", "s.t").await;
    let subject = format!("{}-value", stage.pipeline.topic("s.t"));
    stage.registers(&subject, "sad,so so,glad").await;
}

/// A Relation message does not tell the dimensions, nor does the catalog of a column that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_array_column_keeps_its_dimensions_under_an_older_name() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, grid int[][]); INSERT INTO s.t VALUES (1, '{{1,2},{3,4}}')";
    let mut stage = Stage::begin("dimensions", sql, OFTEN).await;
    stage.run("UPDATE s.t SET grid = '{{5}}'").await;
    stage.catch_up().await;
    stage.source.stop(super::stage::PATIENCE).unwrap();
    stage
        .run("INSERT INTO s.t VALUES (2, '{{6,7}}'); ALTER TABLE s.t RENAME grid TO net; INSERT INTO s.t VALUES (3, '{{8},{9}}')")
        .await;
    stage.source.start().unwrap();
    stage.source.wait_ready(super::stage::PATIENCE).unwrap();
    stage.catch_up().await;
    let mut records = stage.records("s.t").await;
    records.sort_by_key(|record| record.seq);
    let grids = records.iter().filter_map(|record| {
        let after = &record.change.as_ref()?.after;
        after.get("grid").or_else(|| after.get("net"))?.clone()
    });
    // Behind them the rows are read again, for the column's new name.
    assert_eq!(
        grids.take(4).collect::<Vec<_>>(),
        ["{{1,2},{3,4}}", "{{5}}", "{{6,7}}", "{{8},{9}}"]
    );
}
