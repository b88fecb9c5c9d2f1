//! What a topic's form or size cannot hold: it stops the source, or is put aside.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;
use tributary_tests::http;
use tributary_tests::oracle::TopicRecord;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::{PATIENCE, pipeline, records, source};

/// A topic of a table, as the source would create it, but for records of another size.
pub(super) async fn create_topic(stack: &Stack, topic: &str, max_message_bytes: usize) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let limit = max_message_bytes.to_string();
    let topic = NewTopic::new(topic, 3, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("max.message.bytes", &limit);
    let created = admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .unwrap();
    assert!(created[0].is_ok(), "{created:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_arrive_where_the_topic_takes_them() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text, raw bytea);
        ALTER TABLE s.t ALTER name SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL";
    let (stack, pipeline, client) = pipeline("large", sql).await;
    create_topic(&stack, &pipeline.topic("s.t"), 40 << 20).await;
    let insert = |id: u32| {
        format!(
            "INSERT INTO s.t SELECT {id}, string_agg(md5(g::text), ''),
                 string_agg(sha512(g::text::bytea), '') FILTER (WHERE g % 2 = 0) FROM generate_series(1, 320000) g"
        )
    };
    client.batch_execute(&insert(1)).await.unwrap();
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    client.batch_execute(&insert(2)).await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let row = client
        .query_one("SELECT name, encode(raw, 'hex') FROM s.t WHERE id = 1", &[])
        .await
        .unwrap();
    let (name, raw): (String, String) = (row.get(0), row.get(1));
    assert!(name.len() > 10_000_000 && raw.len() > 20_000_000);
    let records = records(&stack, &pipeline, "s.t").await;
    assert_eq!(records.len(), 2);
    for record in records {
        let after = record.change.unwrap().after;
        assert!(after["name"].as_ref() == Some(&name) && after["raw"].as_ref() == Some(&raw));
    }
}

/// The letters of a topic: key and value.
fn letters(stack: &Stack, topic: &str) -> Vec<(Option<Vec<u8>>, Json)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .set("group.id", "letters")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    let mut found = Vec::new();
    loop {
        match consumer.poll(PATIENCE).unwrap() {
            Ok(message) => found.push((
                message.key().map(<[u8]>::to_vec),
                serde_json::from_slice(message.payload().unwrap()).unwrap(),
            )),
            Err(KafkaError::PartitionEOF(_)) => return found,
            Err(error) => panic!("{error}"),
        }
    }
}

fn stops_with(pipeline: &Pipeline, config: &str, parts: &[&str]) {
    let mut source = pipeline.service(Kind::Source, "stops", config).unwrap();
    source.start().unwrap();
    assert_eq!(source.wait(PATIENCE).unwrap().code(), Some(1));
    let tail = source.log_tail();
    for part in parts {
        assert!(tail.contains(part), "'{part}' is missing in:\n{tail}");
    }
    assert!(!tail.contains("secret"), "{tail}");
}

const UNFIT: &str = "CREATE SCHEMA s;
    CREATE TABLE s.t (id int, \"k.2\" text, at timestamp, name text, PRIMARY KEY (id, \"k.2\"));
    ALTER TABLE s.t REPLICA IDENTITY FULL; ALTER TABLE s.t ALTER name SET STORAGE EXTERNAL";

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_stops_the_source_or_is_put_aside() {
    let (stack, pipeline, client) = pipeline("unfit", UNFIT).await;
    let config = pipeline.source_config();
    let mut healthy = source(&pipeline);
    healthy.wait_ready(PATIENCE).unwrap();
    assert!(healthy.stop(PATIENCE).unwrap().success());

    // This is the time whose number stands for infinity.
    client
        .batch_execute("INSERT INTO s.t VALUES (1, 'a', '294247-01-10 04:00:25.2', 'secret')")
        .await
        .unwrap();
    let place = "table s.t, key (id, k.2) = (1, a): column \"at\" (timestamp(6)): it equals the number that stands for infinity";
    let remedy = "[[columns]] with match = 's.t.at' and as = \"text\"";
    stops_with(&pipeline, &config, &[place, remedy]);

    let changes = "INSERT INTO s.t SELECT 2, 'b', now(), string_agg(md5(g::text), '') FROM generate_series(1, 60000) g;
         INSERT INTO s.t VALUES (3, 'c', '294276-12-31', 'n'), (4, 'd', now(), 'fits');
         UPDATE s.t SET at = '2020-01-01' WHERE id = 3; UPDATE s.t SET at = '294276-12-31' WHERE id = 4;
         DELETE FROM s.t WHERE id IN (1, 4)";
    client.batch_execute(changes).await.unwrap();
    let aside = format!("on_unfit_value = \"dead-letter\"\n{config}");
    let mut source = pipeline.service(Kind::Source, "aside", &aside).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();

    let mut ops: BTreeMap<String, String> = BTreeMap::new();
    for record in records(&stack, &pipeline, "s.t").await {
        let op = record.change.as_ref().map_or('-', |change| change.op);
        ops.entry(record.key["id"].clone()).or_default().push(op);
    }
    // A row that never fitted is deleted all the same; an update whose new state fits comes without its old one.
    let expected = [("1", "d-"), ("3", "u"), ("4", "cd-")];
    assert_eq!(
        ops,
        BTreeMap::from(expected.map(|(id, ops)| (id.to_owned(), ops.to_owned())))
    );
    judge_letters(&letters(
        &stack,
        &format!("{0}.{0}.dead-letter", pipeline.prefix()),
    ));
    assert!(source.stop(PATIENCE).unwrap().success());
}

fn judge_letters(letters: &[(Option<Vec<u8>>, Json)]) {
    let told: Vec<_> = letters
        .iter()
        .map(|(_, letter)| {
            let row = if letter["after"].is_null() {
                &letter["before"]
            } else {
                &letter["after"]
            };
            (
                row["id"].as_str().unwrap(),
                letter["op"].as_str().unwrap(),
                letter["column"].as_str().unwrap_or("(size)"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("1", "c", "at"),
            ("2", "c", "(size)"),
            ("3", "c", "at"),
            ("3", "u", "at"),
            ("4", "u", "at"),
            ("1", "d", "at"),
            ("4", "d", "at"),
        ]
    );
    let keyed = |key: &Option<Vec<u8>>| key.as_ref().is_some_and(|key| key[0] == 0);
    assert!(letters.iter().all(|(key, _)| keyed(key)));
    let large = letters[1].1["after"]["name"].as_str().unwrap();
    assert_eq!(large.len(), 60_000 * 32);
    assert_eq!(letters[2].1["after"]["at"], "294276-12-31 00:00:00");
    assert_eq!(letters[2].1["schema"], "s");
    assert_eq!(letters[3].1["before"]["at"], "294276-12-31 00:00:00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_its_topic_takes_stops_the_source() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
        INSERT INTO s.t SELECT 7, string_agg(md5(g::text), '') FROM generate_series(1, 60000) g";
    let (_stack, pipeline, _client) = pipeline("oversize", sql).await;
    let topic = pipeline.topic("s.t");
    let what = "table s.t, key (id) = (7): a record of 1920";
    let limit = format!("bytes, where topic '{topic}' takes 1048588 (max.message.bytes)");
    let remedy = format!("raise max.message.bytes of topic '{topic}' to 1920");
    stops_with(
        &pipeline,
        &pipeline.source_config(),
        &[what, &limit, &remedy],
    );
}

async fn set_limit(stack: &Stack, topic: &str, max_message_bytes: usize) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let limit = max_message_bytes.to_string();
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("cleanup.policy", "compact")
        .set("max.message.bytes", &limit);
    let altered = admin
        .alter_configs([&alter], &AdminOptions::new())
        .await
        .unwrap();
    assert!(altered[0].is_ok(), "{altered:?}");
}

/// Rows of 1 KB that do not compress.
fn random_rows(first: u32, last: u32) -> String {
    format!(
        "INSERT INTO s.t SELECT g, (SELECT string_agg(sha512((g * 100 + h)::text::bytea), '') FROM generate_series(1, 16) h)
         FROM generate_series({first}, {last}) g"
    )
}

/// A topic's limit is one of batches. Each record fits, so it is for the source to make batches that do.
#[tokio::test(flavor = "multi_thread")]
async fn batch_larger_than_the_topics_limit() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, raw bytea)";
    let (stack, pipeline, client) = pipeline("batch_limit", sql).await;
    let topic = pipeline.topic("s.t");
    create_topic(&stack, &topic, 100_000).await;
    client.batch_execute(&random_rows(1, 2_000)).await.unwrap();
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute(&random_rows(2_001, 4_000))
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    // The limit is lowered below a batch that passed a moment ago.
    set_limit(&stack, &topic, 20_000).await;
    client
        .batch_execute(&random_rows(4_001, 6_000))
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let read = records(&stack, &pipeline, "s.t").await;
    let ids: BTreeSet<&str> = read.iter().map(|record| &*record.key["id"]).collect();
    assert_eq!((read.len(), ids.len()), (6_000, 6_000));

    // One that is too large for the lowered limit is told with its own size and its key.
    set_limit(&stack, &topic, 1_000).await;
    client
        .batch_execute(&random_rows(7_000, 7_000))
        .await
        .unwrap();
    assert_eq!(source.wait(PATIENCE).unwrap().code(), Some(1));
    let tail = source.log_tail();
    let what = "table s.t, key (id) = (7000): a record of 1";
    let limit = format!("bytes, where topic '{topic}' takes 1000 (max.message.bytes)");
    assert!(tail.contains(what) && tail.contains(&limit), "{tail}");
}

/// The newest `ts` of each row, in the order of their keys.
fn newest(read: &[TopicRecord]) -> Vec<Option<String>> {
    let mut rows = BTreeMap::new();
    for record in read {
        match (&record.change, record.key.get("id")) {
            (Some(change), Some(id)) => {
                rows.insert(id, (record.seq, change.after["ts"].clone()));
            }
            (_, None) => rows.retain(|_, (seq, _)| Some(*seq) >= record.below),
            (None, Some(_)) => {}
        }
    }
    rows.into_values().map(|(_, ts)| ts).collect()
}

/// The remedy that the message names, followed to the letter: one remedy, one start.
#[tokio::test(flavor = "multi_thread")]
async fn remedy_for_a_value_that_does_not_fit_works_at_once() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, ts timestamp);
        CREATE TABLE s.filled (id int PRIMARY KEY, ts timestamp);
        INSERT INTO s.t VALUES (1, '294276-12-31 23:59:59.999999')";
    let (stack, pipeline, client) = pipeline("remedy", sql).await;
    let config = pipeline.source_config();
    let remedy = |table: &str| format!("[[columns]] with match = 's.{table}.ts' and as = \"text\"");
    stops_with(&pipeline, &config, &[&remedy("t")]);
    let with = |tables: &[&str]| {
        let columns = tables
            .iter()
            .map(|table| format!("[[columns]]\nmatch = 's.{table}.ts'\nas = \"text\"\n"));
        format!("{config}{}", columns.collect::<String>())
    };
    let mut source = pipeline
        .service(Kind::Source, "remedied", &with(&["t"]))
        .unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    // The same where typed values are in the log already, and the value comes through the stream.
    client
        .batch_execute("INSERT INTO s.filled VALUES (1, '2026-01-02 03:04:05')")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    client
        .batch_execute("INSERT INTO s.filled VALUES (2, '294276-12-31 23:59:59.999999')")
        .await
        .unwrap();
    assert_eq!(source.wait(PATIENCE).unwrap().code(), Some(1));
    let tail = source.log_tail();
    assert!(tail.contains(&remedy("filled")), "{tail}");
    let mut source = pipeline
        .service(Kind::Source, "remedied_again", &with(&["t", "filled"]))
        .unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    // The subject goes on as before: a column more is no fault, and is not read anew.
    client
        .batch_execute(
            "ALTER TABLE s.filled ADD more text; INSERT INTO s.filled VALUES (3, NULL, 'more')",
        )
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let last = "294276-12-31 23:59:59.999999";
    let read = records(&stack, &pipeline, "s.t").await;
    assert_eq!(newest(&read), [Some(last.to_owned())]);
    let read = records(&stack, &pipeline, "s.filled").await;
    let expected = [
        Some("2026-01-02 03:04:05".to_owned()),
        Some(last.to_owned()),
        None,
    ];
    assert_eq!(newest(&read), expected);
    // What the subject had to let pass, it does not let pass for good.
    for table in ["s.t", "s.filled"] {
        let subject = format!("{}-value", pipeline.topic(table));
        let url = format!("{}/config/{subject}", stack.registry_url());
        let answer = http::client().get(url).send().await.unwrap();
        let level: Json = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(level["compatibilityLevel"], "BACKWARD", "{table}");
    }
}
