//! Types, names and tables that change.

use std::fmt::Write as _;

use super::stage::Stage;

/// debezium dbz#304: ALTER TYPE … ADD VALUE is not noticed.
#[tokio::test(flavor = "multi_thread")]
async fn dbz_304_an_added_enum_value_is_noticed() {
    let sql = "CREATE TYPE s.mood AS ENUM ('sad', 'ok');
        CREATE TABLE s.t (id int PRIMARY KEY, mood s.mood); INSERT INTO s.t VALUES (1, 'sad')";
    let mut stage = Stage::streaming("pain_enum", sql).await;
    stage.sql("ALTER TYPE s.mood ADD VALUE 'happy'").await;
    stage.sql("INSERT INTO s.t VALUES (2, 'happy')").await;
    stage.assert_equal("t").await;
    let schema = stage.latest_value_schema("t").await;
    assert!(schema.contains("sad,ok,happy"), "{schema}");
}

/// debezium dbz#1400: names that differ only in illegal characters meet in one record name.
#[tokio::test(flavor = "multi_thread")]
async fn dbz_1400_record_names_do_not_collide() {
    let tables = ["a b", "a-b", "a_b", "a.b", "A_b", "a_u0020b"];
    let mut sql = String::new();
    for (number, table) in tables.iter().enumerate() {
        // Columns that would collide as well.
        write!(
            sql,
            "CREATE TABLE s.\"{table}\" (id int PRIMARY KEY, \"x y\" text, \"x-y\" text, \"x_y\" text, \"x.y\" text);
             INSERT INTO s.\"{table}\" VALUES ({number}, 'space', 'hyphen', 'underscore', 'dot');"
        )
        .unwrap();
    }
    let mut stage = Stage::streaming("pain_names", &sql).await;
    for table in tables {
        stage
            .sql(&format!(
                "UPDATE s.\"{table}\" SET \"x y\" = 'changed' WHERE id >= 0"
            ))
            .await;
    }
    for table in tables {
        stage.assert_equal(table).await;
        assert_eq!(stage.records(table).await.len(), 2, "{table}");
    }
}

/// debezium dbz#1683: with many types in the database the start takes minutes, since all of them are read.
#[tokio::test(flavor = "multi_thread")]
async fn dbz_1683_only_the_types_in_use_are_read() {
    const TYPES: i64 = 3_000;
    let sql = format!(
        "CREATE TABLE s.t (id int PRIMARY KEY, name text);
         DO $$ BEGIN FOR n IN 1..{TYPES} LOOP EXECUTE 'CREATE DOMAIN s.d' || n || ' AS int'; END LOOP; END $$"
    );
    let mut stage = Stage::new("pain_types", &sql, "").await;
    let reads = "SELECT (seq_tup_read + idx_tup_fetch)::text FROM pg_stat_sys_tables WHERE relname = 'pg_type'";
    let others = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let count = async |stage: &Stage| {
        // A session hands its numbers over at the latest when it ends: that of the setup, too.
        let deadline = std::time::Instant::now() + super::stage::PATIENCE;
        while stage.ask(others).await.as_deref() != Some("0") {
            assert!(
                std::time::Instant::now() < deadline,
                "somebody is connected"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        stage.sql("SELECT pg_stat_force_next_flush()").await;
        stage.ask(reads).await.unwrap().parse::<i64>().unwrap()
    };
    let before = count(&stage).await;
    stage.source.start().unwrap();
    stage.quiet().await;
    stage.source.stop(super::stage::PATIENCE).unwrap();
    // Before the oracle reads: it may scan pg_type.
    let read = count(&stage).await - before;
    assert!(
        read < TYPES,
        "{read} rows of pg_type were read, of a database with {TYPES} types that nobody uses"
    );
    stage.source.start().unwrap();
    stage.assert_equal("t").await;
}

/// xtdb#5497: a table that is added later is carried, but not the rows that it had.
#[tokio::test(flavor = "multi_thread")]
async fn xtdb_5497_an_added_tables_old_rows_come() {
    let mut stage = Stage::streaming("pain_added", "CREATE TABLE s.t (id int PRIMARY KEY)").await;
    stage
        .sql("BEGIN; CREATE TABLE s.added (id int PRIMARY KEY, name text); INSERT INTO s.added SELECT g, 'old' FROM generate_series(1, 500) g; COMMIT")
        .await;
    stage.sql("INSERT INTO s.added VALUES (501, 'new')").await;
    // Until its snapshot has begun there is no topic to compare with.
    stage.wait_for_topic("added").await;
    stage.assert_equal("added").await;
}
