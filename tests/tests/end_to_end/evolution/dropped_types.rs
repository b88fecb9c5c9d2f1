//! Types that are gone by the time at which the changes from before are read.

use std::time::{Duration, Instant};

use super::stage::{OFTEN, PATIENCE, READ, Row, Stage};

const TABLE: &str = "CREATE DOMAIN s.cents AS bigint; CREATE DOMAIN s.moment AS timestamptz; CREATE DOMAIN s.span AS interval;
    CREATE DOMAIN s.dearest AS s.cents; CREATE TYPE s.mood AS ENUM ('sad', 'glad'); CREATE TYPE s.pair AS (n s.cents, at s.moment);
    CREATE TABLE s.t (id int PRIMARY KEY, c s.cents, d s.dearest[], m s.moment, i s.span, e s.mood, p s.pair)";
const VALUES: &str = "500, ARRAY[7, 8], '2024-02-29 12:34:56.789+02', '1 mon 2 days 03:04:05', 'glad', ROW(9, '2024-02-29 12:34:56+02')";
const GONE: &str = "ALTER TABLE s.t ALTER c TYPE bigint, ALTER d TYPE bigint[], ALTER m TYPE timestamptz, ALTER i TYPE interval, DROP e, DROP p;
    DROP TYPE s.pair, s.mood; DROP DOMAIN s.dearest, s.cents, s.moment, s.span";

/// The created rows without their keys, by `seq`.
async fn created(stage: &Stage) -> Vec<Row> {
    let mut records = stage.records("s.t").await;
    records.sort_by_key(|record| record.seq);
    let changes = records.into_iter().filter_map(|record| record.change);
    let rows = changes.filter(|change| change.op == 'c');
    rows.map(|change| {
        let mut row = change.after;
        row.remove("id");
        row
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn domain_dropped_while_its_changes_are_unread() {
    let mut stage = Stage::begin("dropped_types", TABLE, OFTEN).await;
    stage
        .run(&format!("INSERT INTO s.t VALUES (1, {VALUES})"))
        .await;
    stage.catch_up().await;
    stage.source.stop(PATIENCE).unwrap();
    stage
        .run(&format!("INSERT INTO s.t VALUES (2, {VALUES}); {GONE}"))
        .await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.catch_up().await;
    let rows = created(&stage).await;
    let [before, unread] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(unread, before);
    // No schema has them as text: of a timestamp the oracle makes what Postgres prints.
    let subject = format!("{}-value", stage.pipeline.topic("s.t"));
    for schema in stage.schemas(&subject).await {
        for (column, form) in [("m", "ZonedTimestamp"), ("i", "Interval")] {
            let typed = format!(
                r#"{{"name":"{column}","type":["null",{{"type":"string","connect.version":1,"connect.name":"io.debezium.time.{form}"}}]"#
            );
            assert!(schema.contains(&typed), "{schema}");
        }
    }
    stage
        .run("INSERT INTO s.t VALUES (3, 1, '{2}', '2024-03-01 00:00+00', '1 day')")
        .await;
    stage.catch_up().await;
    assert_eq!(created(&stage).await.len(), 3);
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}

/// A column that nobody has seen with the type that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_nobody_has_seen_stops_with_a_remedy_that_can_be_followed() {
    for (base, value, form) in [("interval", "'1 mon 5 days'", " us"), ("bigint", "5", "5")] {
        let sql = "CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)";
        let mut stage = Stage::begin(&format!("unseen_{base}"), sql, OFTEN).await;
        stage.catch_up().await;
        stage.source.stop(PATIENCE).unwrap();
        stage
            .run(&format!(
                "CREATE DOMAIN s.unseen AS {base}; ALTER TABLE s.t ADD x s.unseen; INSERT INTO s.t VALUES (2, {value});
                 ALTER TABLE s.t ALTER x TYPE {base}; DROP DOMAIN s.unseen; INSERT INTO s.t VALUES (3, {value})"
            ))
            .await;
        stage.source.start().unwrap();
        stage.stops_with("is gone from the catalog");
        let flag = ["--on-type-change", "s.t=resnapshot"];
        let remedy = format!("run {} '{}'", flag[0], flag[1]);
        assert!(stage.source.log().contains(&remedy));
        stage.source.start_with(&flag).unwrap();
        stage.source.wait_ready(PATIENCE).unwrap();
        stage.logs(READ, 1).await;
        // The oracle has an interval as such a text only where its schema says that it is one.
        let deadline = Instant::now() + PATIENCE;
        loop {
            stage.catch_up().await;
            let rows = stage.fold("s.t").await;
            let is_right = |row: &Row| match row["id"].as_deref() {
                Some("1") => row["x"].is_none(),
                _ => row["x"].as_deref().is_some_and(|x| x.ends_with(form)),
            };
            if rows.len() == 3 && rows.iter().all(is_right) {
                break;
            }
            let log = stage.source.log_tail();
            assert!(Instant::now() < deadline, "{rows:?}\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
