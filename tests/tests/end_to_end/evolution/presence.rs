//! Tables that come, go, come back and change their names while the source runs.

use super::stage::{OFTEN, PATIENCE, READ, Stage};

/// xtdb#5497: the rows that were in an added table never came.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_appears_later_comes_with_its_rows_and_without_a_restart() {
    let mut stage = Stage::begin("appears", "CREATE TABLE s.t (id int PRIMARY KEY)", OFTEN).await;
    let tables = "CREATE TABLE s.later (id int PRIMARY KEY, v text); CREATE TABLE s.bag (v text)";
    // A transaction is open while the table is taken in, and has written to it before.
    let other = stage.pipeline.source().await.unwrap();
    let rows = "INSERT INTO s.later SELECT g, 'old' FROM generate_series(1, 1000) g;
        INSERT INTO s.bag SELECT 'old' FROM generate_series(1, 10) g; COMMIT; BEGIN;
        INSERT INTO s.later SELECT g, 'open' FROM generate_series(2001, 2010) g; UPDATE s.later SET v = 'open' WHERE id < 10";
    for sql in [tables, rows] {
        other.batch_execute(sql).await.unwrap();
    }
    stage.logs("taking the table in: it is new", 1).await;
    for round in 0..20 {
        let update =
            format!("UPDATE s.later SET v = 'round {round}' WHERE id % 20 = {round} AND id > 10");
        stage.run(&update).await;
    }
    other.batch_execute("COMMIT").await.unwrap();
    stage.logs(READ, 2).await;
    stage
        .run("INSERT INTO s.later VALUES (5000, 'new'); INSERT INTO s.bag VALUES ('new'); DELETE FROM s.later WHERE id = 1")
        .await;
    stage.converges("s.later", "s.later").await;
    stage.converges("s.bag", "s.bag").await;
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0));
    // Behind a restart nothing is read again.
    stage.source.stop(PATIENCE).unwrap();
    let before = stage.records("s.later").await.len();
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.run("INSERT INTO s.later VALUES (5001, 'new')").await;
    stage.converges("s.later", "s.later").await;
    assert_eq!(stage.records("s.later").await.len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_and_created_again_replaces_the_rows() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT g, 'old' FROM generate_series(1, 50) g;
        CREATE TABLE s.other (id int PRIMARY KEY)";
    let mut stage = Stage::begin("recreated", sql, OFTEN).await;
    stage
        .run(
            "UPDATE s.t SET v = 'changed' WHERE id = 1; DROP TABLE s.t;
            CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t VALUES (7, 'again')",
        )
        .await;
    stage.logs(READ, 1).await;
    stage.run("INSERT INTO s.t VALUES (8, 'streamed')").await;
    stage.converges("s.t", "s.t").await;
    // Gone for good: the topic stays, and the source goes on.
    stage.run("DROP TABLE s.t").await;
    stage.logs("its topic stays as it is", 1).await;
    stage.run("INSERT INTO s.other VALUES (1)").await;
    stage.converges("s.other", "s.other").await;
    assert_eq!(stage.fold("s.t").await.len(), 2);
    // While nobody looks.
    stage.source.stop(PATIENCE).unwrap();
    stage
        .run("CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t VALUES (9, 'back')")
        .await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.converges("s.t", "s.t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_table_is_another_topic() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT g, 'old' FROM generate_series(1, 5) g";
    let mut stage = Stage::begin("renamed", sql, OFTEN).await;
    stage
        .run("INSERT INTO s.t VALUES (6, 'before'); ALTER TABLE s.t RENAME TO u; INSERT INTO s.u VALUES (7, 'behind')")
        .await;
    stage.logs("created the topic topic=", 4).await;
    stage.converges("s.u", "s.u").await;
    assert_eq!(stage.fold("s.t").await.len(), 6);
    // Two tables change places.
    stage
        .run("CREATE TABLE s.next (id int PRIMARY KEY, v text); INSERT INTO s.next VALUES (1, 'next')")
        .await;
    stage.logs("created the topic topic=", 5).await;
    stage.converges("s.next", "s.next").await;
    stage
        .run("BEGIN; ALTER TABLE s.u RENAME TO last; ALTER TABLE s.next RENAME TO u;
            INSERT INTO s.u VALUES (2, 'swapped'); INSERT INTO s.last VALUES (9, 'swapped'); COMMIT")
        .await;
    stage.logs("created the topic topic=", 6).await;
    stage.converges("s.u", "s.u").await;
    stage.converges("s.last", "s.last").await;
    // There and back, with changes between.
    stage
        .run("ALTER TABLE s.u RENAME TO away; INSERT INTO s.away VALUES (3, 'away'); DELETE FROM s.away WHERE id = 1;
            ALTER TABLE s.away RENAME TO u; INSERT INTO s.u VALUES (4, 'home')")
        .await;
    stage.converges("s.u", "s.u").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_published_is_left_out_until_it_can() {
    let mut stage = Stage::begin("unusable", "CREATE TABLE s.t (id int PRIMARY KEY)", OFTEN).await;
    stage
        .run("CREATE UNLOGGED TABLE s.fast (id int PRIMARY KEY); INSERT INTO s.fast VALUES (1)")
        .await;
    stage
        .logs("is unlogged: its changes are not in the WAL", 1)
        .await;
    stage.run("INSERT INTO s.t VALUES (1)").await;
    stage.converges("s.t", "s.t").await;
    assert_eq!(stage.source.log().matches("s.fast is unlogged").count(), 1);
    stage
        .run("ALTER TABLE s.fast SET LOGGED; INSERT INTO s.fast VALUES (2)")
        .await;
    stage.logs("created the topic topic=", 4).await;
    stage.converges("s.fast", "s.fast").await;
}

/// In a publication, a parent would take the tables that inherit from it along.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_inherit_are_tables_of_their_own() {
    let sql = "CREATE TABLE s.parent (id int PRIMARY KEY, v text); CREATE TABLE s.child () INHERITS (s.parent);
        CREATE SCHEMA other; CREATE UNLOGGED TABLE other.fast () INHERITS (s.parent);
        CREATE TABLE s.keyed (LIKE s.parent INCLUDING ALL);
        INSERT INTO s.parent VALUES (1, 'parent'); INSERT INTO s.child VALUES (2, 'child')";
    let mut stage = Stage::begin("inherits", sql, OFTEN).await;
    stage
        .run("CREATE TABLE s.later (LIKE s.parent INCLUDING ALL); ALTER TABLE s.keyed INHERIT s.later;
            INSERT INTO s.later VALUES (3, 'later'); INSERT INTO s.keyed VALUES (4, 'keyed');
            UPDATE ONLY s.parent SET v = 'changed'; INSERT INTO s.child VALUES (5, 'child')")
        .await;
    stage.logs(READ, 1).await;
    stage.catch_up().await;
    for (table, rows) in [("parent", 1), ("child", 2), ("keyed", 1), ("later", 1)] {
        let folded = stage.fold(&format!("s.{table}")).await;
        assert_eq!(folded.len(), rows, "{table}: {folded:?}");
    }
    // Its place beside the key that it loses has nothing to do with its children's.
    let publish = "SELECT count(*) FROM pg_publication_tables WHERE pubname LIKE '%_keyless' AND tablename = 'child'";
    let count: i64 = stage.client.query_one(publish, &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

/// Who holds a lock on one table when a source starts does not hold the others up.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_taken_in_later() {
    let mut stage = Stage::begin("locked", "CREATE TABLE s.t (id int PRIMARY KEY)", OFTEN).await;
    stage.source.stop(PATIENCE).unwrap();
    stage
        .run("CREATE TABLE s.later (id int PRIMARY KEY); INSERT INTO s.later VALUES (1); INSERT INTO s.t VALUES (1)")
        .await;
    let other = stage.pipeline.source().await.unwrap();
    let lock = "BEGIN; LOCK TABLE s.later IN SHARE UPDATE EXCLUSIVE MODE";
    other.batch_execute(lock).await.unwrap();
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.converges("s.t", "s.t").await;
    other.batch_execute("COMMIT").await.unwrap();
    stage.logs(READ, 1).await;
    stage.converges("s.later", "s.later").await;
}

/// What is published does not depend on the publication's owner.
#[tokio::test(flavor = "multi_thread")]
async fn change_of_owner_reads_nothing() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT g, 'old' FROM generate_series(1, 50) g;
        CREATE TABLE s.bag (v text); INSERT INTO s.bag VALUES ('old')";
    let mut stage = Stage::begin("owner", sql, OFTEN).await;
    let (role, publication) = (
        format!("owner_{}", std::process::id()),
        format!("tributary_{}", stage.pipeline.prefix()),
    );
    stage.run(&format!("CREATE ROLE {role} SUPERUSER")).await;
    stage.look().await;
    let told = "a publication has another owner";
    let give = format!(
        "ALTER PUBLICATION {publication} OWNER TO {role}; ALTER PUBLICATION {publication}_keyless OWNER TO {role}"
    );
    stage.run(&give).await;
    stage.logs(told, 1).await;
    stage.look().await;
    stage
        .run(&format!(
            "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP ROLE {role}"
        ))
        .await;
    stage.logs(told, 2).await;
    stage.look().await;
    // Behind a restart it is no news either.
    stage.source.stop(PATIENCE).unwrap();
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.look().await;
    stage
        .run("INSERT INTO s.t VALUES (51, 'new'); INSERT INTO s.bag VALUES ('new')")
        .await;
    stage.converges("s.t", "s.t").await;
    stage.converges("s.bag", "s.bag").await;
    let records = [
        stage.records("s.t").await.len(),
        stage.records("s.bag").await.len(),
    ];
    assert_eq!(records, [51, 2], "rows were read again");
    // Altered and set back, together with a change of owner or not, may have lost changes.
    let set =
        |publish: &str| format!("ALTER PUBLICATION {publication} SET (publish = '{publish}')");
    stage.run(&set("insert")).await;
    stage.run(&set("insert, update, delete, truncate")).await;
    stage.logs(READ, 1).await;
}
