//! Partitioned tables: what the stream tells of them, and what it does not.

use super::stage::{OFTEN, PATIENCE, READ, Stage};

const MEASURE: &str = "CREATE TABLE s.measure (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE s.measure_1 PARTITION OF s.measure FOR VALUES FROM (1) TO (10);
    CREATE TABLE s.measure_2 PARTITION OF s.measure FOR VALUES FROM (10) TO (20);
    CREATE TABLE s.measure_3 PARTITION OF s.measure FOR VALUES FROM (20) TO (30) PARTITION BY LIST (id);
    CREATE TABLE s.measure_3_all PARTITION OF s.measure_3 DEFAULT;
    INSERT INTO s.measure SELECT g, g % 29 + 1, 'old' FROM generate_series(1, 100) g";

/// A topic's: see `Pipeline::source_config`.
const PARTITIONS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_partitions_reaches_the_topic_of_their_table() {
    let mut stage = Stage::begin("partitions", MEASURE, OFTEN).await;
    let table = "s.measure";
    stage
        .run("UPDATE s.measure SET day = 15 WHERE day = 3; UPDATE s.measure SET v = 'moved' WHERE day = 15; DELETE FROM s.measure WHERE day = 4")
        .await;
    stage.converges(table, table).await;
    // Of none of these the stream says anything.
    for (round, change) in [
        "TRUNCATE s.measure_1",
        "CREATE TABLE s.loose (id int, day int, v text, PRIMARY KEY (id, day));
         INSERT INTO s.loose SELECT g, 35, 'attached' FROM generate_series(1, 10) g;
         ALTER TABLE s.measure ATTACH PARTITION s.loose FOR VALUES FROM (30) TO (40)",
        "ALTER TABLE s.measure DETACH PARTITION s.loose; DELETE FROM s.loose WHERE id < 4;
         UPDATE s.loose SET v = 'changed apart' WHERE id = 5;
         ALTER TABLE s.measure ATTACH PARTITION s.loose FOR VALUES FROM (30) TO (40)",
        "ALTER TABLE s.measure DETACH PARTITION s.measure_2; DROP TABLE s.measure_2",
        "DROP TABLE s.measure_3",
    ]
    .into_iter()
    .enumerate()
    {
        stage.run(change).await;
        stage.logs(READ, round + 1).await;
        stage
            .run(&format!("INSERT INTO s.measure VALUES ({round}, 5, 'on')"))
            .await;
        stage.converges(table, table).await;
    }
    // While nobody looks.
    stage.source.stop(PATIENCE).unwrap();
    stage.run("TRUNCATE s.loose").await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.converges(table, table).await;
    stage.run("TRUNCATE s.measure").await;
    stage.converges(table, table).await;
}

/// The stream tells of it, so that its partitions' new files are no news; also behind a kill. Of a TRUNCATE of one
/// partition, even right behind, it does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn truncate_of_a_partitioned_root_is_read_once() {
    const AGAIN: &str = "BEGIN; TRUNCATE s.measure; \
        INSERT INTO s.measure SELECT g, g % 29 + 1, 'new' FROM generate_series(1, 20000) g; COMMIT";
    let mut stage = Stage::begin("root_truncated", MEASURE, OFTEN).await;
    let count = async |stage: &Stage| {
        let ops = stage.ops("s.measure").await;
        ['r', 'c', 't'].map(|op| ops.matches(op).count())
    };
    assert_eq!(count(&stage).await, [100, 0, 0]);
    stage.run(AGAIN).await;
    stage.look().await;
    stage.converges("s.measure", "s.measure").await;
    assert_eq!(count(&stage).await, [100, 20_000, PARTITIONS]);
    // Two before the next look; and one that may be looked at behind a kill only.
    stage.source.stop(PATIENCE).unwrap();
    stage.run(AGAIN).await;
    stage.run(AGAIN).await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.look().await;
    stage.run(AGAIN).await;
    stage.catch_up().await;
    stage.source.kill().unwrap();
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.look().await;
    stage.converges("s.measure", "s.measure").await;
    assert_eq!(count(&stage).await, [100, 80_000, 4 * PARTITIONS]);
    stage.run(&format!("{AGAIN}; TRUNCATE s.measure_1")).await;
    stage.logs("partitions were attached, detached", 1).await;
    stage.converges("s.measure", "s.measure").await;
}

/// It looks like one that was truncated: no row of the catalog tells the two apart for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_partition_is_read_again() {
    let mut stage = Stage::begin("rewritten_partition", MEASURE, OFTEN).await;
    for (round, statement) in [
        "VACUUM FULL s.measure_1",
        "CLUSTER s.measure_2 USING measure_2_pkey",
    ]
    .into_iter()
    .enumerate()
    {
        stage.run(statement).await;
        stage.logs("truncated or rewritten", round + 1).await;
        stage.logs(READ, round + 1).await;
        stage.converges("s.measure", "s.measure").await;
    }
}

/// The limit of it: the second TRUNCATE gives the partition no other file and has no event, so nothing tells of it. What is
/// left over in the topic goes when the table is read again.
#[tokio::test(flavor = "multi_thread")]
async fn truncate_of_a_partition_behind_its_root_in_one_transaction_is_not_seen() {
    let mut stage = Stage::begin("truncated_twice", MEASURE, OFTEN).await;
    stage
        .run("BEGIN; TRUNCATE s.measure; INSERT INTO s.measure SELECT g, g % 29 + 1, 'new' FROM generate_series(1, 100) g;
            TRUNCATE s.measure_1; COMMIT")
        .await;
    stage.look().await;
    let (table, topic) = (stage.rows("s.measure").await, stage.fold("s.measure").await);
    assert!(table.iter().all(|row| topic.contains(row)));
    let mut left = topic.iter().filter(|row| !table.contains(row));
    let day = |row: &super::stage::Row| row["day"].as_ref().unwrap().parse::<u32>().unwrap();
    assert!(topic.len() > table.len() && left.all(|row| day(row) < 10));
    let again = ["snapshot", "--table", "s.measure", "--sweep"];
    let (code, out, err) = stage.source.command(&again).unwrap();
    assert_eq!(code, 0, "{out}{err}");
    stage.converges("s.measure", "s.measure").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_does_not_read_the_others_again() {
    let mut stage = Stage::begin("new_partition", MEASURE, OFTEN).await;
    let before = stage.records("s.measure").await.len();
    stage
        .run("CREATE TABLE s.measure_4 PARTITION OF s.measure FOR VALUES FROM (30) TO (40)")
        .await;
    stage.logs(READ, 1).await;
    stage
        .run("INSERT INTO s.measure VALUES (1, 35, 'new')")
        .await;
    stage.converges("s.measure", "s.measure").await;
    assert_eq!(stage.records("s.measure").await.len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_may_have_a_topic_of_its_own() {
    let postgres = format!("partitions = \"leaf\"\n{OFTEN}");
    let mut stage = Stage::begin("leaves", MEASURE, &postgres).await;
    stage
        .run("UPDATE s.measure SET day = 15 WHERE day = 3; DELETE FROM s.measure WHERE day = 4; TRUNCATE s.measure_3;
            INSERT INTO s.measure VALUES (1, 25, 'behind');
            CREATE TABLE s.measure_4 PARTITION OF s.measure FOR VALUES FROM (30) TO (40); INSERT INTO s.measure VALUES (1, 35, 'new')")
        .await;
    stage.logs(READ, 1).await;
    for leaf in [
        "s.measure_1",
        "s.measure_2",
        "s.measure_3_all",
        "s.measure_4",
    ] {
        stage.converges(leaf, leaf).await;
    }
    stage
        .run("ALTER TABLE s.measure DETACH PARTITION s.measure_2; INSERT INTO s.measure_2 VALUES (1, 99, 'alone')")
        .await;
    stage.converges("s.measure_2", "s.measure_2").await;
}

/// Its partitions come later; the rows of other tables do not wait for that. Nor has every partition a name that a topic
/// could have.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_partitions_holds_nothing_up() {
    let sql = "CREATE TABLE s.a (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE s.b (id int PRIMARY KEY)";
    let mut stage = Stage::begin("no_partitions", sql, OFTEN).await;
    stage.logs(READ, 1).await;
    stage
        .run(
            "CREATE TABLE s.c (id int PRIMARY KEY); INSERT INTO s.c SELECT generate_series(1, 100)",
        )
        .await;
    stage.logs(READ, 2).await;
    stage.converges("s.c", "s.c").await;
    let long = "$".repeat(60);
    stage
        .run(&format!(
            "CREATE TABLE s.\"{long}\" PARTITION OF s.a DEFAULT; INSERT INTO s.a VALUES (1, 1);
             ALTER TABLE s.b RENAME TO \"{long}b\"; INSERT INTO s.\"{long}b\" VALUES (1); INSERT INTO s.c VALUES (0)"
        ))
        .await;
    stage.converges("s.a", "s.a").await;
    stage.converges("s.c", "s.c").await;
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}
