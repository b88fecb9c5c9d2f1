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

/// Rows that the first two steps update, and those of the last one.
const SMALL: u32 = 4_000;
const LARGE: u32 = 400;
const ALONE: u32 = 100;
/// The most that the source may hold at any time.
const PEAK_BYTES: u64 = 96 << 20;

/// Starts the source behind these updates, so that they come as fast as they are taken, and waits until they are in the
/// log. How many rows it has completed, and its peak resident size in bytes.
async fn complete(
    source: &mut Service,
    client: &Client,
    pipeline: &Pipeline,
    updated: &[&str],
) -> (f64, u64) {
    for rows in updated {
        let update = format!("UPDATE s.docs SET n = n + 1 WHERE {rows}");
        client.batch_execute(&update).await.unwrap();
    }
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    pipeline.wait_source(source, 5 * PATIENCE).await.unwrap();
    let completed = source.metric("tributary_source_rows_completed_total");
    let peak = source.peak_resident_bytes().unwrap();
    assert!(source.stop(PATIENCE).unwrap().success());
    (completed.unwrap_or_default(), peak)
}

/// Small rows say nothing of how large the next ones are.
#[tokio::test(flavor = "multi_thread")]
async fn toast_completion_is_bounded_by_bytes() {
    let filled = |bytes: u32, from: u32, to: u32| {
        format!(
            "INSERT INTO s.docs SELECT g, 0, repeat(g || ' ', {bytes} / length(g || ' ')) FROM generate_series({from}, {to}) g;"
        )
    };
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE s.docs (id int PRIMARY KEY, n int, body text);
         ALTER TABLE s.docs ALTER body SET STORAGE EXTERNAL; {} {}",
        filled(2_500, 1, SMALL),
        filled(2_000_000, SMALL + 1, SMALL + LARGE)
    );
    let (stack, pipeline, client) = pipeline("toast_bytes", &sql).await;
    let topic = pipeline.topic("s.docs");
    unfit::create_topic(&stack, &topic, 16 << 20).await;
    let config = format!("{}[snapshot]\nmode = \"never\"\n", pipeline.source_config());
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    source.stop(PATIENCE).unwrap();
    let (small, large) = (format!("id <= {SMALL}"), format!("id > {SMALL}"));
    let all = complete(&mut source, &client, &pipeline, &[&small, &large]).await;
    let alone = format!("id > {SMALL} + {LARGE} - {ALONE}");
    let alone = complete(&mut source, &client, &pipeline, &[&alone]).await;
    eprintln!("completed, peak in bytes: {all:?}, {alone:?}");
    let (wanted_all, wanted_alone) = (f64::from(SMALL + LARGE), f64::from(ALONE));
    assert!(all.0 >= wanted_all && alone.0 >= wanted_alone);
    // A session that is begun again, as where the brokers take too long, completes again what is not in the log.
    if !source.log().contains("the session ended; trying again") {
        assert_eq!((all.0, alone.0), (wanted_all, wanted_alone));
    }
    assert!(all.1 <= PEAK_BYTES && alone.1 <= PEAK_BYTES);
    judge_bodies(&stack, &topic).await;
}

/// Every update is there, with the whole text that it did not touch.
async fn judge_bodies(stack: &Stack, topic: &str) {
    let mut updates: BTreeMap<u32, usize> = BTreeMap::new();
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let judge = |record: TopicRecord| {
        let id: u32 = record.key["id"].parse().unwrap();
        let bytes = if id <= SMALL { 2_500 } else { 2_000_000 };
        let one = format!("{id} ");
        let expected = one.repeat(bytes / one.len());
        let after = record.change.unwrap().after;
        assert!(after["body"].as_ref() == Some(&expected), "row {id}");
        *updates.entry(id).or_default() += 1;
    };
    reader.visit(topic, judge).await.unwrap();
    assert_eq!(updates.len(), (SMALL + LARGE) as usize);
    for (id, count) in updates {
        let alone = id > SMALL + LARGE - ALONE;
        assert_eq!(count, 1 + usize::from(alone), "updates of row {id}");
    }
}
