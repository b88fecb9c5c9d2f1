//! Statements that change old rows, of which the stream says nothing.

use std::time::{Duration, Instant};

use tributary_tests::pipeline::Pipeline;
use tributary_tests::stack::Stack;

use super::stage::{OFTEN, PATIENCE, READ, Stage};

const TABLE: &str = "CREATE TABLE s.t (id int PRIMARY KEY, name text, x text);
    INSERT INTO s.t SELECT g, 'old ' || g, g::text FROM generate_series(1, 20) g";
const ROWS: &str = "tributary_source_snapshot_rows_total";
const RESNAPSHOT: &str = "on_type_change = \"resnapshot\"\nwatch_interval_ms = 200";

/// The statement alone, and in a transaction with other changes before and behind it.
async fn beside_and_inside(stage: &mut Stage, alone: &str, other: &str) {
    stage.run(alone).await;
    stage.run("INSERT INTO s.t (id) VALUES (101)").await;
    stage.converges("s.t", "s.t").await;
    stage
        .run(&format!(
            "BEGIN; UPDATE s.t SET name = 'before' WHERE id = 3; DELETE FROM s.t WHERE id = 4; {other};
             INSERT INTO s.t (id) VALUES (102); UPDATE s.t SET name = 'behind' WHERE id = 5; COMMIT"
        ))
        .await;
    stage.converges("s.t", "s.t").await;
    // Nobody had to help.
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn added_column_with_a_default_reaches_old_rows() {
    let mut stage = Stage::begin("added_default", TABLE, OFTEN).await;
    beside_and_inside(
        &mut stage,
        "ALTER TABLE s.t ADD COLUMN tier int NOT NULL DEFAULT 4",
        "ALTER TABLE s.t ADD COLUMN since date DEFAULT '2024-02-29'",
    )
    .await;
    let rows = stage.fold("s.t").await;
    let four = |row: &super::stage::Row| row.get("tier") == Some(&Some("4".to_owned()));
    assert!(rows.iter().all(four), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn volatile_default_reaches_old_rows() {
    let mut stage = Stage::begin("volatile_default", TABLE, OFTEN).await;
    beside_and_inside(
        &mut stage,
        "ALTER TABLE s.t ADD COLUMN u uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE s.t ADD COLUMN n int GENERATED ALWAYS AS IDENTITY",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrite_with_new_values_reaches_old_rows() {
    // The Relation message behind it is the one before it.
    let same_type = "ALTER TABLE s.t ALTER COLUMN x TYPE text USING 'v' || x";
    let mut stage = Stage::begin("rewritten", TABLE, OFTEN).await;
    beside_and_inside(&mut stage, same_type, same_type).await;
    let numbers = "ALTER TABLE s.t ADD COLUMN tier int, ADD COLUMN level int; UPDATE s.t SET tier = id, level = id";
    let sql = format!("{TABLE}; {numbers}");
    let mut stage = Stage::begin("retyped", &sql, RESNAPSHOT).await;
    beside_and_inside(
        &mut stage,
        "ALTER TABLE s.t ALTER COLUMN tier TYPE text USING 'v' || tier",
        "ALTER TABLE s.t ALTER COLUMN level TYPE text USING 'v' || level",
    )
    .await;
    // What follows is compared again.
    let subject = format!("{}-value", stage.pipeline.topic("s.t"));
    assert_eq!(stage.compatibility(&subject).await, "BACKWARD");
}

/// The remedy of the message, to the letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_type_stops_and_its_remedy_needs_no_other() {
    let sql = format!("{TABLE}; ALTER TABLE s.t ADD COLUMN tier int; UPDATE s.t SET tier = id");
    let mut stage = Stage::begin("type_remedy", &sql, OFTEN).await;
    stage
        .run("ALTER TABLE s.t ALTER COLUMN tier TYPE text USING 'v' || tier; UPDATE s.t SET name = 'on' WHERE id < 3")
        .await;
    let flag = ["--on-type-change", "s.t=resnapshot"];
    stage.stops_with(&format!(
        "start the source once with `tributary-source run {} '{}'`",
        flag[0], flag[1]
    ));
    stage.source.start_with(&flag).unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.converges("s.t", "s.t").await;
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}

/// A table's own setting counts before that of all, and the command line's before both.
#[tokio::test(flavor = "multi_thread")]
async fn on_type_change_is_set_per_table() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, tier int); CREATE TABLE s.u (id int PRIMARY KEY, tier int);
        INSERT INTO s.t SELECT g, g FROM generate_series(1, 20) g; INSERT INTO s.u SELECT * FROM s.t";
    let change = |table: &str, column: &str| {
        format!(
            "ALTER TABLE s.{table} ALTER COLUMN {column} TYPE text USING 'v' || {column};
             INSERT INTO s.{table} (id) SELECT max(id) + 1 FROM s.{table}"
        )
    };
    let mut stage = Stage::set("type_per_table", sql, OFTEN).await;
    let entry = "[[tables]]\nmatch = \"s.t\"\non_type_change = \"resnapshot\"\n[kafka]\n";
    stage.configure("[kafka]\n", entry);
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.run(&change("t", "tier")).await;
    stage.converges("s.t", "s.t").await;
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
    stage.run(&change("u", "tier")).await;
    let flag = ["--on-type-change", "s.u=resnapshot"];
    stage.stops_with(&format!("run {} '{}'", flag[0], flag[1]));
    // For another table it changes nothing.
    let other = [flag[0], "s.t=resnapshot"];
    stage.source.start_with(&other).unwrap();
    stage.stops_with(flag[1]);
    stage.source.start_with(&flag).unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.converges("s.u", "s.u").await;
    assert!(stage.source.stop(PATIENCE).unwrap().success());
    // What was registered is no news any more; the next change is.
    let stop = [flag[0], "s.t=stop"];
    stage.source.start_with(&stop).unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.run("ALTER TABLE s.t ALTER COLUMN tier TYPE boolean USING true; INSERT INTO s.t (id) VALUES (100)").await;
    stage.stops_with("run --on-type-change 's.t=resnapshot'");
}

/// Nobody looks while it happens, and who looked last was killed.
#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_the_source_was_killed_reaches_old_rows() {
    let mut stage = Stage::begin("statements_killed", TABLE, OFTEN).await;
    for (round, statement) in [
        "ALTER TABLE s.t ADD COLUMN tier int NOT NULL DEFAULT 4",
        "ALTER TABLE s.t ADD COLUMN u uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE s.t ALTER COLUMN x TYPE text USING 'v' || x",
        "ALTER TABLE s.t RENAME COLUMN name TO title",
    ]
    .into_iter()
    .enumerate()
    {
        stage.source.kill().unwrap();
        stage.run(statement).await;
        stage.source.start().unwrap();
        stage.source.wait_ready(PATIENCE).unwrap();
        stage
            .run(&format!("INSERT INTO s.t (id) VALUES ({})", 200 + round))
            .await;
        stage.converges("s.t", "s.t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_get_what_their_table_was_given() {
    let sql =
        "CREATE TABLE s.t (id int, name text, x text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (10);
        CREATE TABLE s.t_2 PARTITION OF s.t FOR VALUES FROM (10) TO (1000);
        INSERT INTO s.t SELECT g, 'old ' || g, g::text FROM generate_series(1, 20) g";
    let mut stage = Stage::begin("statements_partitions", sql, OFTEN).await;
    beside_and_inside(
        &mut stage,
        "ALTER TABLE s.t ADD COLUMN tier int NOT NULL DEFAULT 4",
        "ALTER TABLE s.t ALTER COLUMN x TYPE text USING 'v' || x",
    )
    .await;
}

/// No event tells of these either.
#[tokio::test(flavor = "multi_thread")]
async fn other_statements_that_change_old_rows_reach_them() {
    let sql = "CREATE TYPE s.mood AS ENUM ('sad', 'glad');
        CREATE TABLE s.t (id int PRIMARY KEY, name text, a int, b int, m s.mood, g int GENERATED ALWAYS AS (id * 2) STORED);
        INSERT INTO s.t SELECT g, 'old ' || g, g, g + 100, 'sad' FROM generate_series(1, 20) g";
    let mut stage = Stage::begin("statements_other", sql, OFTEN).await;
    for (round, statement) in [
        "ALTER TABLE s.t RENAME COLUMN name TO title",
        "BEGIN; ALTER TABLE s.t RENAME a TO c; ALTER TABLE s.t RENAME b TO a; ALTER TABLE s.t RENAME c TO b; COMMIT",
        "ALTER TABLE s.t DROP COLUMN title, ADD COLUMN title text",
        "ALTER TYPE s.mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TABLE s.t ALTER COLUMN g DROP EXPRESSION",
        "CREATE DOMAIN s.level AS int DEFAULT 5; ALTER TABLE s.t ADD COLUMN level s.level",
    ]
    .into_iter()
    .enumerate()
    {
        stage.run(statement).await;
        stage
            .run(&format!("INSERT INTO s.t (id) VALUES ({})", 200 + round))
            .await;
        stage.converges("s.t", "s.t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrite_without_new_values_reads_nothing() {
    let (mut stage, _server) = Stage::begin_alone("rewritten_same", TABLE, OFTEN, &[]).await;
    stage.run("SET allow_in_place_tablespaces = on").await;
    stage.run("CREATE TABLESPACE other LOCATION ''").await;
    let before = stage.source.metric(ROWS);
    assert_eq!(before, Some(20.0));
    for statement in [
        "VACUUM FULL s.t",
        "CLUSTER s.t USING t_pkey",
        "ALTER TABLE s.t SET TABLESPACE other",
        "ALTER TABLE s.t SET LOGGED",
        "ALTER TABLE s.t ADD COLUMN later int",
        "ALTER TABLE s.t ALTER COLUMN x SET STATISTICS 50",
        "ALTER TABLE s.t ADD COLUMN doubled int GENERATED ALWAYS AS (id * 2) STORED",
        "VACUUM FULL s.t",
        "ALTER TABLE s.t DROP COLUMN later",
    ] {
        stage.run(statement).await;
        stage.look().await;
    }
    assert_eq!(stage.source.metric(ROWS), before);
    // What was seen is remembered behind a kill, and what happens meanwhile is told apart as well.
    stage.source.kill().unwrap();
    stage.run("VACUUM FULL s.t").await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.look().await;
    stage.run("INSERT INTO s.t (id) VALUES (101)").await;
    stage.converges("s.t", "s.t").await;
    let log = stage.source.log();
    assert!(
        !log.contains("reading all rows of the table again"),
        "{log}"
    );
    assert_eq!(stage.source.metric(ROWS).unwrap_or(0.0), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_reaches_both_targets() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "default_targets").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let sql = format!("CREATE SCHEMA s; {TABLE}");
    client.batch_execute(&sql).await.unwrap();
    let mut services = pipeline.services().unwrap();
    for service in &mut services {
        service.start().unwrap();
    }
    services[0].wait_ready(PATIENCE).unwrap();
    super::catch_up(&pipeline, &mut services).await;
    client
        .batch_execute("ALTER TABLE s.t ADD COLUMN tier int NOT NULL DEFAULT 4; INSERT INTO s.t VALUES (101, 'c', 'c', 9)")
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !services[0].log().contains(READ) {
        assert!(Instant::now() < deadline, "{}", services[0].log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    super::catch_up(&pipeline, &mut services).await;
    let warehouse = pipeline.warehouse_differences(&["s.t"], None).await;
    assert_eq!(warehouse.unwrap(), Vec::<String>::new());
    let search = pipeline.search_differences(&["s.t"], "").await;
    assert_eq!(search.unwrap(), Vec::<String>::new());
}
