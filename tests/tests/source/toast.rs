//! What it costs to complete rows whose TOASTed column an update did not touch.

use super::*;

const ROWS: u32 = 200;
const UPDATES: u32 = 2_000;

/// Updates a counter beside a column of 100 KB, and drains that: updates per second.
async fn updates_per_second(name: &str, text: bool, identity: &str) -> f64 {
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n int {});
         INSERT INTO s.t (id, n) SELECT g, 0 FROM generate_series(1, {ROWS}) g; {} {identity}",
        if text { ", body text" } else { "" },
        if text {
            // Text that compresses by half or so, as prose does.
            "UPDATE s.t SET body = (SELECT string_agg(md5(id::text || g) , '') FROM generate_series(1, 3125) g);"
        } else {
            ""
        },
    );
    let (_stack, pipeline, client) = pipeline(name, &sql).await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    source.stop(PATIENCE).unwrap();
    let updates = format!(
        "DO $$ BEGIN FOR i IN 1..{UPDATES} LOOP UPDATE s.t SET n = n + 1 WHERE id = 1 + i % {ROWS}; COMMIT; END LOOP; END $$"
    );
    client.batch_execute(&updates).await.unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let begun = Instant::now();
    let mut events = 0.0;
    while events < f64::from(UPDATES) {
        assert!(begun.elapsed() < 5 * PATIENCE, "{}", source.log_tail());
        tokio::time::sleep(Duration::from_millis(2)).await;
        events = source
            .metric("tributary_source_events_total")
            .unwrap_or_default();
    }
    f64::from(UPDATES) / begun.elapsed().as_secs_f64()
}

/// Prints the figures of docs/operations.md, "What TOAST completion costs".
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 2 minutes: make test-long"]
async fn completion_is_measured() {
    let mut figures = Vec::new();
    for (name, text, identity, what) in [
        ("toast_none", false, "", "without the column"),
        ("toast_lookup", true, "", "completed by look-up"),
        (
            "toast_full",
            true,
            "ALTER TABLE s.t REPLICA IDENTITY FULL",
            "REPLICA IDENTITY FULL",
        ),
    ] {
        let rate = updates_per_second(name, text, identity).await;
        eprintln!("{what}: {rate:.0} updates/s");
        figures.push(rate);
    }
    assert!(
        figures[0] > figures[1],
        "100 KB more per record cannot be free: {figures:?}"
    );
}
