//! What identifies a row: every kind of replica identity, and none.

use super::stage::Stage;

const TABLES: &str = "
    CREATE TABLE s.plain (id int PRIMARY KEY, v text);
    CREATE TABLE s.with_full (id int PRIMARY KEY, v text); ALTER TABLE s.with_full REPLICA IDENTITY FULL;
    CREATE TABLE s.with_index (id int PRIMARY KEY, code text NOT NULL, other int, v text);
    CREATE UNIQUE INDEX with_index_code ON s.with_index (code) INCLUDE (other);
    ALTER TABLE s.with_index REPLICA IDENTITY USING INDEX with_index_code;
    CREATE TABLE s.order_matters (a int, b int, c int, v text, PRIMARY KEY (c, a) INCLUDE (b));
    CREATE TABLE s.none (id int, v text);
    CREATE TABLE s.nothing (id int PRIMARY KEY, v text); ALTER TABLE s.nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE s.full_without_key (id int, v text); ALTER TABLE s.full_without_key REPLICA IDENTITY FULL;
    CREATE TABLE s.deferrable (id int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE s.deferrable REPLICA IDENTITY FULL;
    CREATE TABLE s.index_gone (id int PRIMARY KEY, code text NOT NULL, v text);
    CREATE UNIQUE INDEX index_gone_code ON s.index_gone (code);
    ALTER TABLE s.index_gone REPLICA IDENTITY USING INDEX index_gone_code; DROP INDEX s.index_gone_code;
    CREATE TABLE s.generated (id int, twice int GENERATED ALWAYS AS (id * 2) STORED, v text, PRIMARY KEY (v, twice));
    CREATE TABLE s.parted (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE s.parted_eu PARTITION OF s.parted FOR VALUES IN ('eu');
    CREATE TABLE s.parted_us PARTITION OF s.parted FOR VALUES IN ('us');
    CREATE TABLE s.blind (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE s.blind_eu PARTITION OF s.blind FOR VALUES IN ('eu'); ALTER TABLE s.blind_eu REPLICA IDENTITY NOTHING;
    CREATE TABLE s.mixed (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE s.mixed_eu PARTITION OF s.mixed FOR VALUES IN ('eu'); ALTER TABLE s.mixed REPLICA IDENTITY FULL;
    ALTER TABLE s.mixed ALTER v SET STORAGE EXTERNAL; ALTER TABLE s.mixed_eu ALTER v SET STORAGE EXTERNAL;";

const KEYED: [(&str, &[&str]); 6] = [
    ("plain", &["id"]),
    ("with_full", &["id"]),
    ("with_index", &["code"]),
    ("order_matters", &["a", "c"]),
    ("parted", &["id", "region"]),
    ("mixed", &["id", "region"]),
];

const KEYLESS: [&str; 7] = [
    "none",
    "nothing",
    "full_without_key",
    "deferrable",
    "index_gone",
    "generated",
    "blind",
];

/// Rows of a table: the columns that it has of `id`, `a`, `b`, `c`, `code`, `other`, `region` get values.
fn inserts() -> String {
    let mut sql = String::new();
    for table in [
        "plain",
        "with_full",
        "none",
        "nothing",
        "full_without_key",
        "deferrable",
        "generated",
    ] {
        sql += &format!(
            "INSERT INTO s.{table} (id, v) SELECT g, 'v' || g FROM generate_series(1, 5) g;"
        );
    }
    sql += "INSERT INTO s.with_index SELECT g, 'c' || g, g, 'v' FROM generate_series(1, 5) g;
        INSERT INTO s.order_matters SELECT g, 1, g + 10, 'v' FROM generate_series(1, 5) g;
        INSERT INTO s.index_gone SELECT g, 'c' || g, 'v' FROM generate_series(1, 5) g;
        INSERT INTO s.blind SELECT g, 'eu', 'v' FROM generate_series(1, 5) g;
        INSERT INTO s.mixed SELECT g, 'eu', repeat('x', 9000) || g FROM generate_series(1, 5) g;";
    sql + "INSERT INTO s.parted SELECT g, 'eu', 'v' FROM generate_series(1, 5) g;"
}

/// The application's own changes, which no publication of ours may make fail.
const CHANGES: &str = "
    UPDATE s.plain SET v = 'w' WHERE id = 1; UPDATE s.plain SET id = 20 WHERE id = 2; DELETE FROM s.plain WHERE id = 3;
    UPDATE s.with_full SET v = 'w' WHERE id = 1; UPDATE s.with_full SET id = 20 WHERE id = 2; DELETE FROM s.with_full WHERE id = 3;
    UPDATE s.with_index SET other = 7, id = 70 WHERE id = 1; UPDATE s.with_index SET code = 'd' WHERE id = 2;
    DELETE FROM s.with_index WHERE id = 3;
    UPDATE s.order_matters SET b = 7 WHERE a = 1; UPDATE s.order_matters SET c = 70 WHERE a = 2; DELETE FROM s.order_matters WHERE a = 3;
    UPDATE s.parted SET v = 'w' WHERE id = 1; UPDATE s.parted SET region = 'us' WHERE id = 2; DELETE FROM s.parted WHERE id = 3;
    UPDATE s.mixed SET id = 20 WHERE id = 2; DELETE FROM s.mixed WHERE id = 3; UPDATE s.mixed SET v = 'w' WHERE id = 1;
    UPDATE s.none SET v = 'w'; DELETE FROM s.none WHERE id = 3;
    UPDATE s.nothing SET v = 'w'; DELETE FROM s.nothing WHERE id = 3;
    UPDATE s.full_without_key SET v = 'w'; DELETE FROM s.full_without_key WHERE id = 3;
    UPDATE s.deferrable SET id = id + 1; DELETE FROM s.deferrable WHERE id = 3;
    UPDATE s.index_gone SET v = 'w'; DELETE FROM s.index_gone WHERE id = 3;
    UPDATE s.generated SET id = id + 10; DELETE FROM s.generated WHERE id = 13;
    UPDATE s.blind SET v = 'w'; DELETE FROM s.blind WHERE id = 3;";

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_identity_is_carried_and_never_in_the_applications_way() {
    let sql = format!("{TABLES}{}", inserts().replace("(1, 5)", "(6, 9)"));
    let mut stage = Stage::begin("identity", &sql, "").await;
    stage.run(&inserts()).await;
    stage.run(CHANGES).await;
    stage.catch_up().await;
    for (table, key) in KEYED {
        let name = format!("s.{table}");
        stage.same(&name, &name).await;
        let record = stage.records(&name).await.swap_remove(0);
        assert_eq!(record.key.keys().collect::<Vec<_>>(), key, "{table}");
    }
    for table in KEYLESS {
        let name = format!("s.{table}");
        let ops = stage.ops(&name).await;
        assert_eq!(ops, format!("{}ccccc", "r".repeat(4)), "{table}");
        let records = stage.records(&name).await;
        assert!(
            records.iter().all(|record| record.key.is_empty()),
            "{table}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_that_somebody_restricts_stop_the_source() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, v text)";
    let mut stage = Stage::begin("restricted", sql, "").await;
    let version = "SELECT current_setting('server_version_num')::int";
    let version = stage.client.query_one(version, &[]).await.unwrap();
    if version.get::<_, i32>(0) < 150_000 {
        // It has neither.
        return;
    }
    let publication = format!("tributary_{}", stage.pipeline.prefix());
    for restriction in ["(id)", "WHERE (id > 3)"] {
        if stage.source.is_running().unwrap() {
            stage.source.stop(super::stage::PATIENCE).unwrap();
        }
        stage
            .run(&format!(
                "ALTER PUBLICATION {publication} SET TABLE s.t {restriction}"
            ))
            .await;
        stage.source.start().unwrap();
        stage.stops_with("with a column list or a row filter");
    }
}
