//! Bad input gets an error that says what, where and what to do; and nothing is lost once it is put right.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Lifetime, Options, Part, Stack};

const PATIENCE: Duration = Duration::from_secs(60);
const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text); INSERT INTO s.t VALUES (1, 'one'), (2, 'two')";

async fn pipeline(name: &str, sql: &str) -> (Stack, Pipeline, Client) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(sql).await.unwrap();
    (stack, pipeline, client)
}

/// `user:password@` in place of the superuser's.
fn url_as(url: &str, user: &str, password: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{user}:{password}@{rest}")
}

/// Runs a service that must stop by itself; gives its exit code and the last line of its log.
fn stops(pipeline: &Pipeline, kind: Kind, instance: &str, config: &str) -> (Option<i32>, String) {
    let mut service = pipeline.service(kind, instance, config).unwrap();
    service.start().unwrap();
    let status = service.wait(PATIENCE).unwrap();
    (
        status.code(),
        service
            .log()
            .trim_end()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// All problems that `check` prints.
fn check(pipeline: &Pipeline, kind: Kind, config: &str) -> (Option<i32>, String) {
    fs::create_dir_all(pipeline.dir()).unwrap();
    let path = pipeline.dir().join("check.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new(kind.path().unwrap())
        .args(["check", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// The source, once what was wrong is put right, and both rows in the topic.
async fn both_rows_arrive(pipeline: &Pipeline) {
    let mut source = pipeline
        .service(Kind::Source, "source", &pipeline.source_config())
        .unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let topics = pipeline.read_topics(&["s.t"]).await.unwrap();
    let records = &topics[&pipeline.topic("s.t")];
    let mut keys: Vec<_> = records
        .iter()
        .map(|record| record.key["id"].as_str())
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["1", "2"]);
    assert!(source.stop(PATIENCE).unwrap().success());
}

fn place(pipeline: &Pipeline) -> String {
    let (_, rest) = pipeline.source_url.split_once('@').unwrap();
    rest.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password() {
    let (_stack, pipeline, client) = pipeline("wrong_password", TABLE).await;
    let user = format!("{}_user", pipeline.prefix());
    client
        .batch_execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'right'"))
        .await
        .unwrap();
    let config = pipeline.source_config().replace(
        &pipeline.source_url,
        &url_as(&pipeline.source_url, &user, "not-right"),
    );
    let (code, line) = stops(&pipeline, Kind::Source, "wrong", &config);
    assert_eq!(code, Some(1));
    assert_eq!(
        line,
        format!(
            "tributary-source: error: connect to Postgres at {}: password authentication failed for user \"{user}\" (SQLSTATE 28P01); to do: correct postgres.password (or password_file) of user '{user}', or its line in pg_hba.conf",
            place(&pipeline)
        )
    );
    both_rows_arrive(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privileges_are_told_all_at_once() {
    let (_stack, mut pipeline, client) = pipeline("privileges", TABLE).await;
    let (user, prefix) = (
        format!("{}_user", pipeline.prefix()),
        pipeline.prefix().to_owned(),
    );
    client
        .batch_execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'right'"))
        .await
        .unwrap();
    pipeline.source_url = url_as(&pipeline.source_url, &user, "right");
    let config = pipeline.source_config();
    let (code, text) = check(&pipeline, Kind::Source, &config);
    assert_eq!(code, Some(3), "{text}");
    let publication = format!(
        "CREATE PUBLICATION \"tributary_{prefix}\" FOR TABLE ONLY \"s\".\"t\" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
    );
    let statements = [
        format!("ALTER ROLE \"{user}\" REPLICATION"),
        format!("GRANT USAGE ON SCHEMA \"s\" TO \"{user}\""),
        format!("GRANT SELECT ON s.t TO \"{user}\""),
        publication,
        format!(
            "CREATE PUBLICATION \"tributary_{prefix}_keyless\" WITH (publish = 'insert, truncate', publish_via_partition_root = true)"
        ),
    ];
    for statement in &statements {
        assert!(
            text.contains(statement),
            "{statement} is missing in:\n{text}"
        );
    }
    let (code, line) = stops(&pipeline, Kind::Source, "without", &config);
    assert_eq!(code, Some(1));
    assert_eq!(
        line,
        format!(
            "tributary-source: error: user '{user}' lacks the attribute REPLICATION; to do: ALTER ROLE \"{user}\" REPLICATION"
        )
    );
    // What check prints is all that it takes.
    for statement in &statements {
        client.batch_execute(statement).await.unwrap();
    }
    let (code, text) = check(&pipeline, Kind::Source, &config);
    assert_eq!(code, Some(0), "{text}");
    both_rows_arrive(&pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_level_replica() {
    let dir = tempfile::Builder::new()
        .prefix("wal-level-")
        .tempdir_in(tributary_tests::target_dir())
        .unwrap();
    let options = Options {
        parts: vec![Part::Postgres],
        postgres_settings: BTreeMap::from([("wal_level".to_owned(), "replica".to_owned())]),
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let own = Stack::up(dir.path(), &options).unwrap();
    let (_stack, pipeline, _client) = pipeline("wal_level", TABLE).await;
    let config = pipeline
        .source_config()
        .replace(&pipeline.source_url, own.postgres_url());
    let (code, line) = stops(&pipeline, Kind::Source, "replica", &config);
    assert_eq!(code, Some(1));
    let (_, address) = own.postgres_url().split_once('@').unwrap();
    assert_eq!(
        line,
        format!(
            "tributary-source: error: wal_level is 'replica' on {address}; to do: ALTER SYSTEM SET wal_level = 'logical', then restart the server"
        )
    );
    let (code, text) = check(&pipeline, Kind::Source, &config);
    assert_eq!(code, Some(3));
    assert!(text.contains("wal_level is 'replica'"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_appended() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.log (at timestamptz, msg text); INSERT INTO s.log VALUES (now(), 'a'), (now(), 'a')";
    let (_stack, pipeline, client) = pipeline("no_key", sql).await;
    let [mut source, _, mut redshift] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let warning = "table s.log has no key that identifies a row: its INSERT and TRUNCATE are published, its UPDATE and DELETE are not, \
        and how many they are the source does not learn; to do: nothing, if its rows are only ever inserted; or give it a primary key";
    assert!(source.log().contains(warning), "{}", source.log());
    redshift.start().unwrap();
    client
        .batch_execute("INSERT INTO s.log VALUES (now(), 'a'), (now(), NULL)")
        .await
        .unwrap();
    // The application's own changes are not refused for our publication's sake.
    client
        .batch_execute(
            "UPDATE s.log SET msg = 'b' WHERE msg IS NULL; DELETE FROM s.log WHERE msg = 'b'",
        )
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let warehouse = pipeline.warehouse().await.unwrap();
    let rows = |expected: i64| {
        let warehouse = &warehouse;
        async move {
            let deadline = std::time::Instant::now() + PATIENCE;
            loop {
                let count = warehouse
                    .query_one("SELECT count(*) FROM s.log", &[])
                    .await
                    .map(|row| row.get::<_, i64>(0));
                if count.as_ref().is_ok_and(|count| *count == expected) {
                    return;
                }
                assert!(
                    std::time::Instant::now() < deadline,
                    "{count:?} rows instead of {expected}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    rows(4).await;
    // Killed and started again, neither repeats a row.
    source.kill().unwrap();
    redshift.kill().unwrap();
    source.start().unwrap();
    redshift.start().unwrap();
    client
        .batch_execute("INSERT INTO s.log VALUES (now(), 'c')")
        .await
        .unwrap();
    rows(5).await;
    client
        .batch_execute("TRUNCATE s.log; INSERT INTO s.log VALUES (now(), 'd')")
        .await
        .unwrap();
    rows(1).await;
}

#[test]
fn unknown_configuration_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.toml");
    fs::write(&path, "name = \"x\"\n[postgres]\nurl = \"postgres://a@b/c\"\ntables = [\"s.*\"]\n[kafka]\nbroker = [\"k:9092\"]\nbrokers = [\"k:9092\"]\nregistry = \"http://r\"\ntopic_prefix = \"p\"\n").unwrap();
    let output = Command::new(Kind::Source.path().unwrap())
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "unknown key `kafka.broker` in {} line 6; did you mean `kafka.brokers`?",
        path.display()
    );
    assert!(text.contains(&expected), "{text}");
}

/// Puts a record of somebody else's between ours.
fn produce(stack: &Stack, topic: &str, key: &[u8], value: &[u8]) -> i64 {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let seq = 1_u64.to_be_bytes();
    let headers = OwnedHeaders::new().insert(Header {
        key: "tributary.seq",
        value: Some(&seq),
    });
    producer
        .send(
            BaseRecord::to(topic)
                .partition(0)
                .key(key)
                .payload(value)
                .headers(headers),
        )
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(PATIENCE).unwrap();
    let (_, high) = producer
        .client()
        .fetch_watermarks(topic, 0, PATIENCE)
        .unwrap();
    high - 1
}

/// The registry's id of a subject's newest schema.
async fn schema_id(stack: &Stack, subject: &str) -> u32 {
    let url = format!(
        "{}/subjects/{subject}/versions/latest",
        stack.registry_url()
    );
    let answer = tributary_tests::http::client()
        .get(url)
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// The Avro wire format.
fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// Both sinks stop at a record, and say what is wrong with it; with dead letters they go on, and every row arrives.
/// `record` makes key and value from the ids of their schemas, and says what is wrong and what to do.
async fn sinks_refuse(
    name: &str,
    record: impl Fn(u32, u32) -> (Vec<u8>, Vec<u8>, String, &'static str),
) {
    let (stack, pipeline, client) = pipeline(name, TABLE).await;
    let [mut source, _, _] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let topic = pipeline.topic("s.t");
    let key_id = schema_id(&stack, &format!("{topic}-key")).await;
    let value_id = schema_id(&stack, &format!("{topic}-value")).await;
    let (key, value, what, remedy) = record(key_id, value_id);
    let offset = produce(&stack, &topic, &key, &value);
    client
        .batch_execute("INSERT INTO s.t SELECT g, 'more' FROM generate_series(3, 50) g")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    for kind in [Kind::SinkElastic, Kind::SinkRedshift] {
        let config = pipeline.sink_config(kind);
        let (code, line) = stops(&pipeline, kind, &format!("{kind}-stop"), &config);
        assert_eq!(code, Some(1));
        assert_eq!(
            line,
            format!(
                "{kind}: error: topic {topic} partition 0 offset {offset}: {what}; to do: {remedy}, or set on_error = \"dead-letter\" to put such records aside"
            )
        );
        let divert = format!("on_error = \"dead-letter\"\n{config}");
        let mut sink = pipeline
            .service(kind, &format!("{kind}-divert"), &divert)
            .unwrap();
        sink.start().unwrap();
        all_rows_arrive(&pipeline, kind, &mut sink).await;
        assert_eq!(sink.metric("tributary_sink_dead_letters_total"), Some(1.0));
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

async fn all_rows_arrive(pipeline: &Pipeline, kind: Kind, sink: &mut Service) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let differences = match kind {
            Kind::SinkElastic => pipeline.search_differences(&["s.t"], "").await,
            _ => pipeline.warehouse_differences(&["s.t"], None).await,
        };
        if differences.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        assert!(sink.is_running().unwrap(), "{}", sink.log_tail());
        assert!(
            std::time::Instant::now() < deadline,
            "{differences:?}\n{}",
            sink.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The key {id: 77}, of a row that the table does not have.
const KEY: [u8; 2] = [154, 1];

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_avro() {
    sinks_refuse("not_avro", |_, _| {
        let what = "the key is not in the Avro wire format (a zero byte, the schema's id in four bytes, the body)";
        let remedy = "have all producers of the topic write Avro with the schema registry";
        (b"id=77".to_vec(), b"{}".to_vec(), what.to_owned(), remedy)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_avro_record() {
    sinks_refuse("corrupt_avro", |key_id, value_id| {
        // `before` is null, `after` is a row, whose bytes end where `name` should be.
        let what = format!(
            "the value does not decode with schema id {value_id}: the body does not fit its schema at after.name, byte 4: the body ends 1 bytes too early"
        );
        (framed(key_id, &KEY), framed(value_id, &[0, 2, 154, 1]), what, "find out what wrote the record")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_schema_id() {
    sinks_refuse("unknown_id", |key_id, _| {
        let what = "the value's schema id 1999999999 is unknown to the schema registry".to_owned();
        let remedy =
            "set kafka.registry to the registry that the producer uses, or restore its store";
        (
            framed(key_id, &KEY),
            framed(1_999_999_999, &[0]),
            what,
            remedy,
        )
    })
    .await;
}
