//! Every crash window crossed by SIGKILL (`source/src/failpoint.rs`), and then the log compared with the oracle.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use tokio_postgres::Client;
use tributary_tests::marks::Marks;
use tributary_tests::oracle::{
    ChangeLog, Event, KeyColumns, Lineage, Offsets, TableRows, TopicReader, TopicRecord,
};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::property::{Evidence, judge};
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);
/// A table with a key and values stored out of line, and one without a key.
const SQL: &str =
    "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n int NOT NULL, name text);
    ALTER TABLE s.t ALTER name SET STORAGE EXTERNAL;
    CREATE TABLE s.journal (line text);
    INSERT INTO s.t SELECT g, 0, repeat('x', 3000) || g FROM generate_series(1, 4000) g;
    INSERT INTO s.journal SELECT 'before ' || g FROM generate_series(1, 500) g";
const TABLES: [&str; 2] = ["s.t", "s.journal"];

/// A source, what is judged about it, and how many rounds of work it has seen.
struct Scene {
    pipeline: Pipeline,
    client: Client,
    source: Service,
    reader: TopicReader,
    marks: Marks,
    offsets: Offsets,
    records: [Vec<TopicRecord>; 2],
    rounds: i32,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned(), Marks::TABLE.to_owned()];
        let client = pipeline.source().await.unwrap();
        client
            .batch_execute(&format!("{SQL}; {}", Marks::SQL))
            .await
            .unwrap();
        let config = format!("{}[snapshot]\nchunk_pages = 8\n", pipeline.source_config());
        let source = pipeline.service(Kind::Source, "source", &config).unwrap();
        let reader = TopicReader::new(stack.kafka(), stack.registry_url());
        Self {
            pipeline,
            client,
            source,
            reader,
            marks: Marks::default(),
            offsets: Offsets::new(),
            records: Default::default(),
            rounds: 0,
        }
    }

    /// Changes of every sort, in transactions of several rows, of one, and of two tables.
    async fn work(&mut self) {
        self.rounds += 1;
        let round = self.rounds;
        let sql = format!(
            "BEGIN; INSERT INTO s.t SELECT 100000 * {round} + g, {round}, repeat('y', 3000) FROM generate_series(1, 60) g;
                INSERT INTO s.journal VALUES ('round {round}'); COMMIT;
             UPDATE s.t SET n = n + 1 WHERE id % 50 = {round};
             UPDATE s.t SET id = -id WHERE id = 700 + {round};
             BEGIN; DELETE FROM s.t WHERE id % 211 = {round}; SAVEPOINT s; UPDATE s.t SET n = -1; ROLLBACK TO s; COMMIT;
             INSERT INTO s.t VALUES (-100000 - {round}, 0, NULL)"
        );
        for statement in sql.split_inclusive("COMMIT;") {
            self.client.batch_execute(statement).await.unwrap();
        }
    }

    /// Lets the source run into a failpoint while there is work, and be killed there.
    async fn die_at(&mut self, failpoint: &str) {
        self.source.start_armed(failpoint).unwrap();
        self.work().await;
        let status = self
            .source
            .wait(PATIENCE)
            .unwrap_or_else(|error| panic!("{failpoint}: {error:#}"));
        assert_eq!(
            status.signal(),
            Some(9),
            "{failpoint}: {status}; {}",
            self.source.log_tail()
        );
        self.work().await;
    }

    async fn quiet(&mut self) {
        let Self {
            pipeline,
            client,
            source,
            reader,
            marks,
            ..
        } = self;
        marks
            .quiet(pipeline, client, reader, source, PATIENCE)
            .await
            .unwrap();
    }

    /// Reads what the topics have more than before.
    async fn collect(&mut self) {
        let topics = TABLES.map(|table| self.pipeline.topic(table));
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mut read = self
            .reader
            .read_on(&names, &mut self.offsets)
            .await
            .unwrap();
        for (records, topic) in self.records.iter_mut().zip(&topics) {
            records.extend(read.remove(topic).unwrap());
        }
    }

    /// A slot of the oracle, which tells what comes behind the records that are there now.
    async fn listen(&mut self) -> (ChangeLog, [usize; 2]) {
        self.quiet().await;
        self.collect().await;
        let before = self.records.each_ref().map(Vec::len);
        let slot = format!("oracle_{}", self.pipeline.prefix());
        let (client, url) = (&self.client, &self.pipeline.source_url);
        let changes = ChangeLog::create(client, url, &slot, self.pipeline.dir());
        (changes.await.unwrap(), before)
    }

    /// Judges both topics: the fold, and each change that the oracle's slot tells.
    async fn judge(&mut self, changes: Option<(ChangeLog, [usize; 2])>) {
        self.quiet().await;
        self.collect().await;
        let keys = KeyColumns::from([("s.t".to_owned(), ["id".to_owned()].into())]);
        let (events, before) = match changes {
            Some((changes, before)) => (
                Some(changes.read_keyed(&self.client, &keys).await.unwrap()),
                before,
            ),
            None => (None, [0, 0]),
        };
        for (at, table) in TABLES.into_iter().enumerate() {
            let own = |events: &Vec<Event>| {
                let own = events.iter().filter(|event| event.table == table);
                own.cloned().collect()
            };
            let evidence = Evidence {
                table: table.to_owned(),
                key: if table == "s.t" {
                    vec!["id".to_owned()]
                } else {
                    Vec::new()
                },
                partitioned: false,
                before_events: before[at],
                records: self.records[at].clone(),
                rows: TableRows::read(&self.client, table).await.unwrap(),
                lineage: Lineage::default(),
                events: events.as_ref().map(own),
            };
            let found = judge(&evidence);
            assert!(
                found.is_empty(),
                "{table}: {found:#?}\n{}",
                self.source.log_tail()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_is_killed_in_each_of_its_windows() {
    let mut scene = Scene::new("failpoints_first").await;
    for failpoint in [
        "taken-over",
        "registering",
        "registered:2",
        "creating-slot",
        // Before this one all rows are read at once, behind it beside the stream.
        "snapshot-chunk:2",
        "watermark-chunk:2",
        "produced:2",
        "committed:2",
        "taken-over",
    ] {
        scene.die_at(failpoint).await;
    }
    scene.source.start().unwrap();
    scene.judge(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_killed_in_each_of_its_windows() {
    let mut scene = Scene::new("failpoints_stream").await;
    scene.source.start().unwrap();
    let changes = scene.listen().await;
    scene.source.kill().unwrap();
    for failpoint in [
        "taken-over",
        "registering",
        "registered",
        "produced",
        "produced:3",
        "committed",
        "committed:4",
        "confirming:2",
    ] {
        scene.die_at(failpoint).await;
    }
    scene.source.start().unwrap();
    scene.judge(Some(changes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_is_killed_behind_the_creation_of_its_slot() {
    let mut scene = Scene::new("failpoints_slot").await;
    for failpoint in ["created-slot", "watermark-chunk", "confirming"] {
        scene.die_at(failpoint).await;
    }
    scene.source.start().unwrap();
    scene.judge(None).await;
}
