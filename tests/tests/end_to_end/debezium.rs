//! Our topics beside Debezium's, of the same tables at the same time, both decoded by Apicurio's Connect converter:
//! whoever reads Debezium's topics can read ours, but for what the two lists here say.

mod forms;
mod jdbc_sink;
mod kinds;
mod meant;
mod meant_of_types;
mod planted;

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_postgres::Client;
use tributary_tests::debezium::{
    Connect, Connector, Decoded, Difference, Jvm, Side, compare_records, compare_schemas, complete,
    decode,
};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::shop::{self, TABLES};
use tributary_tests::stack::Stack;

use meant::{Meant, STRUCTURE, VALUES};

const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const PRODUCTS: i64 = 30;

/// What Debezium is told beside where everything is. Names: the demo's are legal, and stay as they are (ADR 1).
/// Intervals: the form that loses nothing is our default, and an option there. The key of a table whose replica identity
/// is an index: the index, by which alone a change tells whose it is. Truncates are left out by default.
const SETTINGS: [(&str, &str); 7] = [
    ("schema.name.adjustment.mode", "none"),
    ("field.name.adjustment.mode", "none"),
    ("interval.handling.mode", "string"),
    ("hstore.handling.mode", "json"),
    ("message.key.columns", "kinds.by_index:code"),
    ("skipped.operations", "none"),
    ("schema.include.list", "catalog,inventory,sales,kinds"),
];

/// There before the snapshots.
const EXISTING: &str = r#"
INSERT INTO sales."order" (id, customer, total, ship_after, cut_off) VALUES
    ('00000000-0000-0000-0000-000000000001', 'first', 12.50, '1 year 2 mons -3 days 04:05:06.789', '23:59:59.999999'),
    ('00000000-0000-0000-0000-000000000002', 'second', -1e20, NULL, NULL);
INSERT INTO sales.order_line VALUES
    ('00000000-0000-0000-0000-000000000001', 1, 7, 2, 7.99),
    ('00000000-0000-0000-0000-000000000001', 2, 8, 1, -0.01);
"#;

/// Changed while both stream: each operation on each kind of key, and values at the ends of their types. We look up a
/// TOASTed value that a change left untouched; so that it is found as it was, the source catches up after each step.
const STEPS: [&str; 4] = [
    r#"
INSERT INTO catalog.product (id, sku, name, price, tags, attributes, checksum, listed_on, changed_at, record, rating)
    VALUES (9000, 'é"\', '', -9999999999.99, ARRAY['', NULL, '{a,b}', 'NULL'], '{"a": [1, null, "ü"]}', '\x00ff',
        '1969-12-31', '2000-02-29 23:59:59.999999+05:30', 'short', 0.1);
INSERT INTO catalog.product (id, sku, name, price, installed_kib, download_bytes, listed_on, record, rating, essential)
    VALUES (9223372036854775807, 'largest', 'n', 0, -2147483648, -9223372036854775808, '9999-12-31', repeat('x', 5000), 'NaN', true);
UPDATE catalog.product SET price = 1.10 WHERE id = 9223372036854775807;
UPDATE catalog.product SET price = price + id, status = 'on sale', tags = '{}', description = NULL WHERE id <= 20;
INSERT INTO sales."order" (id, customer, total, ship_after)
    SELECT md5(g::text)::uuid, 'customer ' || g, g * 1.5, g * interval '1 hour' FROM generate_series(1, 20) g;
INSERT INTO sales.order_line SELECT md5(g::text)::uuid, l, g, l, g + 0.5 FROM generate_series(1, 20) g, generate_series(1, 3) l;
"#,
    r#"
UPDATE catalog.product SET record = repeat('y', 5000), status = 'withdrawn' WHERE id = 9223372036854775807;
UPDATE catalog.product SET id = 9001, sku = 'moved' WHERE id = 9223372036854775807;
UPDATE catalog.product SET id = id + 1000 WHERE id BETWEEN 5 AND 8;
BEGIN;
UPDATE inventory.stock SET quantity = -1, shelf = -32768, counted_at = '1900-01-01 00:00:00.001'
    WHERE product_id = 1 AND region = 'us-east';
UPDATE inventory.stock SET region = 'süd', shelf = NULL WHERE product_id = 1 AND region = 'us-east';
UPDATE inventory.stock SET product_id = 2 WHERE product_id = 1 AND region = 'süd';
DELETE FROM inventory.stock WHERE product_id = 2 AND region = 'süd';
COMMIT;
BEGIN;
UPDATE sales."order" SET customer = 'never seen';
ROLLBACK;
"#,
    r#"
DELETE FROM catalog.product WHERE id = 9001 OR id BETWEEN 1006 AND 1007;
INSERT INTO catalog.product (id, sku, name, price, record) VALUES (9001, 'again', 'n', 0.01, 'again');
UPDATE sales."order" SET total = 1234567890123456789012345678.000000001, cut_off = '00:00', ship_after = '-00:00:00.000001'
    WHERE customer = 'second';
UPDATE sales."order" SET id = '00000000-0000-0000-0000-000000000003', total = 100.00 WHERE customer = 'second';
BEGIN;
DELETE FROM sales.order_line WHERE line = 2;
SAVEPOINT s;
DELETE FROM sales.order_line;
ROLLBACK TO s;
INSERT INTO sales.order_line VALUES ('00000000-0000-0000-0000-000000000001', 2, 8, 1, 0);
COMMIT;
DELETE FROM sales."order" WHERE total < 10;
"#,
    kinds::CHANGES,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_topics_are_read_as_debeziums() {
    let began = Instant::now();
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "debezium").await.unwrap();
    pipeline.tables.push("kinds.*".to_owned());
    let client = pipeline.source().await.unwrap();
    client.batch_execute(shop::SCHEMA).await.unwrap();
    shop::fill(&client, PRODUCTS).await.unwrap();
    for sql in [EXISTING, kinds::SCHEMA, kinds::EXISTING] {
        client.batch_execute(sql).await.unwrap();
    }

    let peer = format!("peer_{}", std::process::id());
    publish_by_both(&stack, &pipeline, &client, &peer).await;
    println!("published after {:?}", began.elapsed());
    let tables = TABLES
        .into_iter()
        .chain(kinds::TABLES.map(|(table, _)| table));
    let topics: Vec<String> = tables
        .flat_map(|table| [format!("{peer}.{table}"), pipeline.topic(table)])
        .collect();
    let mut decoded = decode(&stack, &topics).unwrap();
    println!("decoded after {:?}", began.elapsed());

    let mut structure = Vec::new();
    let mut values = Vec::new();
    for pair in topics.chunks(2) {
        let [theirs, ours] = pair else { unreachable!() };
        structure.extend(schema_differences(&decoded, theirs, ours));
        // Each of Debezium's topics has one partition, so its records are in the order of commit.
        let missing = complete(decoded.topics.get_mut(theirs).unwrap());
        values.extend(record_differences(&decoded, theirs, ours));
        let count = decoded.records(ours).unwrap().len();
        println!("{ours}: {count} records compared, {missing} values that Debezium does not have");
    }
    let unexpected = [
        unmeant(&[&STRUCTURE, &meant_of_types::STRUCTURE], structure),
        unmeant(&[&VALUES, &meant_of_types::VALUES], values),
    ]
    .concat();
    assert!(
        unexpected.is_empty(),
        "not in the lists of meant differences:\n{}",
        unexpected.join("\n")
    );
    planted::are_found(&decoded, &topics);
    println!("all done after {:?}", began.elapsed());
}

/// Runs both until both have published the tables' rows and the same changes.
async fn publish_by_both(stack: &Stack, pipeline: &Pipeline, client: &Client, peer: &str) {
    let connector = Connector {
        database: &pipeline.source_url,
        prefix: peer,
        settings: &SETTINGS,
    };
    let mut connect = Connect::start(
        stack,
        &pipeline.dir().join("connect"),
        Jvm::Brief,
        &connector,
    )
    .unwrap();
    let mut source = pipeline
        .service(Kind::Source, "source", &pipeline.source_config())
        .unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    connect.wait_streaming(client, PATIENCE).await.unwrap();

    for step in STEPS {
        client.batch_execute(step).await.unwrap();
        pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    }
    let published = pipeline.read_topics(&TABLES).await.unwrap();
    let ours = TABLES.map(|table| {
        let count = published[&pipeline.topic(table)].len();
        (table, i64::try_from(count).unwrap())
    });
    let counts: Vec<_> = ours
        .into_iter()
        .chain(kinds::RECORDS)
        .map(|(table, count)| (format!("{peer}.{table}"), count))
        .collect();
    wait_records(stack, &counts, &connect).await;
    assert!(source.stop(PATIENCE).unwrap().success());
    connect.end(client, PATIENCE).await.unwrap();
    let slot = format!("tributary_{}", pipeline.prefix());
    client
        .execute("SELECT pg_drop_replication_slot($1)", &[&slot])
        .await
        .unwrap();
}

/// Waits until Debezium has written as many records as we have.
async fn wait_records(stack: &Stack, counts: &[(String, i64)], connect: &Connect) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    for (topic, count) in counts {
        loop {
            let (_, end) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
            if end >= *count {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "Debezium wrote {end} records to {topic}, we {count}; its log ends:\n{}",
                connect.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// In what the schemas of two topics differ. Each has one version: no table changes.
fn schema_differences(decoded: &Decoded, theirs: &str, ours: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, side) in [("key", Side::Key), ("value", Side::Value)] {
        let only = |topic: &str| {
            let mut schemas = decoded.schemas_of(topic, side).unwrap();
            // The key of what a TRUNCATE leaves is no row's.
            schemas.retain(|schema| !schema["name"].as_str().unwrap().ends_with(".TruncateKey"));
            assert!(schemas.len() < 2, "{topic} has several {name} schemas");
            schemas.pop().cloned()
        };
        match (only(theirs), only(ours)) {
            (None, None) => assert_eq!(side, Side::Key, "{ours}"),
            (Some(theirs), Some(own)) => {
                found.extend(compare_schemas(&format!("{ours} {name}"), &theirs, &own));
            }
            (theirs, own) => panic!("{ours} {name}: {own:?}, Debezium's: {theirs:?}"),
        }
    }
    found
}

fn record_differences(decoded: &Decoded, theirs: &str, ours: &str) -> Vec<Difference> {
    compare_records(
        ours,
        decoded.records(theirs).unwrap(),
        decoded.records(ours).unwrap(),
    )
}

/// The differences that no entry of the lists means, and the entries that mean none: a list that is longer than the
/// truth would hide the next mistake.
fn unmeant(lists: &[&[Meant]], differences: Vec<Difference>) -> Vec<String> {
    let list: Vec<&Meant> = lists.iter().copied().flatten().collect();
    let mut counts = vec![0; list.len()];
    let mut found = Vec::new();
    for difference in differences {
        match list.iter().position(|meant| (meant.holds)(&difference)) {
            Some(index) => counts[index] += 1,
            None => found.push(difference.to_string()),
        }
    }
    for (meant, count) in list.iter().zip(counts) {
        println!("{count:6} meant: {}", meant.why);
        if count == 0 && meant.always {
            found.push(format!("no difference left of this kind: {}", meant.why));
        }
    }
    found
}
