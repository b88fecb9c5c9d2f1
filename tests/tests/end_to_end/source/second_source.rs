//! Another source, of another database, whose tables have the same topics: it never writes to them.

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::{PATIENCE, fold, records, source, wait_until};

const FIRST: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
    INSERT INTO s.t SELECT g, 'first ' || g FROM generate_series(1, 50) g;
    CREATE TABLE s.empty (id int PRIMARY KEY, name text)";
const SECOND: &str = "CREATE SCHEMA s; CREATE TABLE s.mine (id int PRIMARY KEY, name text);
    INSERT INTO s.mine VALUES (1, 'second'); CREATE SCHEMA later";
const SAME: &str =
    "CREATE TABLE s.t (id int PRIMARY KEY, name text); INSERT INTO s.t VALUES (1, 'second');
    CREATE TABLE s.empty (id int PRIMARY KEY, name text); INSERT INTO s.empty VALUES (1, 'second')";

struct Scene {
    stack: Stack,
    first: Pipeline,
    second: Pipeline,
    client: Client,
}

impl Scene {
    /// A second source of these tables, whose topics begin as those of the first one do.
    fn second(&self, instance: &str, tables: &[&str]) -> Service {
        let config = self.second.source_config();
        let prefix = |of: &Pipeline| format!("topic_prefix = \"{}\"", of.prefix());
        let config = config.replace(&prefix(&self.second), &prefix(&self.first));
        let config = config.replace("[\"s.*\"]", &format!("{tables:?}"));
        self.second
            .service(Kind::Source, instance, &config)
            .unwrap()
    }

    /// What it says of a topic that is not its own.
    fn told(&self, table: &str) -> [String; 2] {
        let (topic, owner) = (self.first.topic(table), self.first.prefix());
        [
            format!("topic '{topic}' is that of source '{owner}'"),
            "set another kafka.topic_prefix".to_owned(),
        ]
    }

    async fn first_topic_is_its_table(&self) {
        let records = records(&self.stack, &self.first, "s.t").await;
        assert!(records.iter().all(|record| record.below.is_none()));
        let names: Vec<String> = fold(&records).into_values().collect();
        assert_eq!(names.len(), 50);
        assert!(
            names.iter().all(|name| name.starts_with("first")),
            "{names:?}"
        );
    }
}

fn has(text: &str, words: &[String]) {
    for words in words {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_source_on_the_same_topic() {
    let (stack, first, _client) = super::pipeline("second_a", FIRST).await;
    let mut owner = source(&first);
    first.wait_source(&mut owner, PATIENCE).await.unwrap();
    let (_, second, client) = super::pipeline("second_b", SECOND).await;
    let scene = Scene {
        stack,
        first,
        second,
        client,
    };

    // It joins later, while the second one runs: that goes on without it.
    let mut joined = scene.second("joined", &["s.*"]);
    joined.start().unwrap();
    scene
        .second
        .wait_source(&mut joined, PATIENCE)
        .await
        .unwrap();
    scene.client.batch_execute(SAME).await.unwrap();
    for table in ["s.t", "s.empty"] {
        let told = scene.told(table);
        wait_until("what is told of a table that joined", || {
            let log = joined.log_tail();
            told.iter().all(|words| log.contains(words))
        })
        .await;
    }
    let mine = "INSERT INTO s.mine VALUES (2, 'second')";
    scene.client.batch_execute(mine).await.unwrap();
    scene
        .second
        .wait_source(&mut joined, PATIENCE)
        .await
        .unwrap();
    scene.first_topic_is_its_table().await;
    assert!(joined.stop(PATIENCE).unwrap().success());

    // The next start finds it, and so does that of a source that has written nothing yet; whatever option is given.
    let slot = format!("tributary_{}", scene.second.prefix());
    for (instance, tables) in [
        ("again", &["s.*"][..]),
        ("rows", &["s.t"]),
        ("empty", &["s.empty"]),
    ] {
        let table = if instance == "rows" { "s.t" } else { "s.empty" };
        let told = scene.told(table);
        let mut source = scene.second(instance, tables);
        for arguments in [&[][..], &["--adopt"]] {
            source.start_with(arguments).unwrap();
            let code = source.wait(PATIENCE).unwrap().code();
            let log = source.log_tail();
            assert_eq!(code, Some(1), "{instance} {arguments:?}: {log}");
            has(&log, &told);
            assert!(!log.contains("run --adopt"), "{log}");
        }
        let (code, out, err) = source.command(&["check"]).unwrap();
        assert_eq!(code, 3, "{out}{err}");
        has(&format!("{out}{err}"), &told);
        scene.first_topic_is_its_table().await;
        if instance == "again" {
            // From here on it has neither slot nor progress that its topics are in.
            let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
            scene.client.batch_execute(&drop).await.unwrap();
        }
    }
    assert_eq!(owner.command(&["check"]).unwrap().0, 0, "the owner");
    scene.first_topic_is_its_table().await;
}

/// Two sources whose prefix and name make the same words with a dash between them: neither is fenced by the other, and each
/// fences its own instances of an earlier version.
#[tokio::test(flavor = "multi_thread")]
async fn sources_with_the_same_words_run_beside_each_other() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)";
    let (stack, pipeline, client) = super::pipeline("words", sql).await;
    let word = pipeline.prefix();
    let both = format!("{word}-{word}");
    let service = |prefix: &str, name: &str| {
        let config = pipeline.source_config();
        let (of, one) = ("topic_prefix = ", format!("{word:?}"));
        let config = config.replace(&format!("{of}{one}"), &format!("{of}{prefix:?}"));
        let config = config.replacen(&format!("name = {one}"), &format!("name = {name:?}"), 1);
        pipeline.service(Kind::Source, name, &config).unwrap()
    };
    let mut first = service(&both, word);
    first.start().unwrap();
    first.wait_ready(PATIENCE).unwrap();
    first.kill().unwrap();
    let earlier: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .set("transactional.id", format!("tributary-{both}-{word}"))
        .create()
        .unwrap();
    earlier.init_transactions(PATIENCE).unwrap();
    earlier.begin_transaction().unwrap();
    let topic = format!("{both}.progress");
    let record = BaseRecord::to(&topic).key("other").payload("{}");
    earlier.send(record).map_err(|(error, _)| error).unwrap();
    earlier.flush(PATIENCE).unwrap();
    first.start().unwrap();
    first.wait_ready(PATIENCE).unwrap();
    let fenced = earlier.commit_transaction(PATIENCE).unwrap_err();
    let code = fenced.rdkafka_error_code();
    let is_fenced = [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced];
    assert!(
        code.is_some_and(|code| is_fenced.contains(&code)),
        "{fenced:?}"
    );

    let mut second = service(word, &both);
    second.start().unwrap();
    second.wait_ready(PATIENCE).unwrap();
    let insert = "INSERT INTO s.t VALUES (1, 'both')";
    client.batch_execute(insert).await.unwrap();
    for source in [&first, &second] {
        wait_until("the row", || super::events(source) >= 1.0).await;
        let log = source.log();
        assert!(!log.contains("the session ended"), "{log}");
    }
}
