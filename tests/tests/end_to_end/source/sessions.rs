//! What a role's time-outs, open transactions, kills and a silent server do to the sessions of a source: each on a
//! server of its own.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::{Postgres, Server, Stack};

use super::{PATIENCE, fold, records, table};

const TABLES: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
    CREATE TABLE s.journal (line text); CREATE TABLE public.other (id int);
    INSERT INTO s.t SELECT g, 'old ' || g FROM generate_series(1, 100) g;
    INSERT INTO s.journal SELECT 'line ' || g FROM generate_series(1, 100) g";

struct Stage {
    stack: Stack,
    pipeline: Pipeline,
    client: Client,
    server: Server,
}

impl Stage {
    /// A server of this version with the tables, and a source that connects as `user`, who is nobody else.
    async fn new(name: &str, version: Postgres, user: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        let server = Server::start_new(pipeline.dir(), "server", version, &[]).unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = shop::connect(&server.url("postgres")).await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        pipeline.source_url = format!("postgres://{user}:{user}@{}/postgres", server.address());
        let role = format!("CREATE ROLE {user} LOGIN REPLICATION PASSWORD '{user}'");
        client.batch_execute(&role).await.unwrap();
        Self {
            stack,
            pipeline,
            client,
            server,
        }
    }

    async fn usual(name: &str) -> Self {
        let version = Postgres::from_env().unwrap().unwrap_or_default();
        let stage = Self::new(name, version, "tributary").await;
        stage.run("ALTER ROLE tributary SUPERUSER").await;
        stage
    }

    fn source(&self, postgres: &str) -> Service {
        let section = format!("[postgres]\n{postgres}\n");
        let config = self
            .pipeline
            .source_config()
            .replacen("[postgres]\n", &section, 1);
        self.pipeline
            .service(Kind::Source, "source", &config)
            .unwrap()
    }

    async fn run(&self, sql: &str) {
        let done = self.client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn number(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Waits until a query's number is another one, and returns it.
    async fn until(&self, query: &str, wanted: impl Fn(i64) -> bool) -> i64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let number = self.number(query).await;
            if wanted(number) {
                return number;
            }
            assert!(Instant::now() < deadline, "{query}: still {number}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process of a session that holds a transaction open, which has written something.
    async fn hold_open(&self, user: &str) -> (Client, i64) {
        let url = format!(
            "postgres://{user}:{user}@{}/postgres",
            self.server.address()
        );
        let client = shop::connect(&url).await.unwrap();
        let open = "BEGIN; INSERT INTO public.other VALUES (1)";
        client.batch_execute(open).await.unwrap();
        let pid = "SELECT pg_backend_pid()::bigint";
        let pid = client.query_one(pid, &[]).await.unwrap().get(0);
        (client, pid)
    }

    /// Waits until the source says on `/ready` what it waits for.
    async fn waits_for(&self, source: &mut Service, words: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(source.is_running().unwrap(), "{}", source.log_tail());
            let said = source
                .get("/ready")
                .map(|(_, body)| body)
                .unwrap_or_default();
            if words.iter().all(|words| said.contains(words)) {
                return;
            }
            assert!(Instant::now() < deadline, "{said}\n{}", source.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The topic is the table, once all is read.
    async fn judge(&self, source: &mut Service) {
        self.pipeline.wait_source(source, PATIENCE).await.unwrap();
        let records = records(&self.stack, &self.pipeline, "s.t").await;
        assert_eq!(fold(&records), table(&self.client).await);
    }
}

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const TEMPORARY: &str = "SELECT count(*) FROM pg_replication_slots WHERE temporary";
/// The process that creates a slot.
const CREATING: &str = "SELECT COALESCE(max(active_pid), 0)::bigint FROM pg_replication_slots
    WHERE confirmed_flush_lsn IS NULL";

async fn time_outs_of_a_role(name: &str, version: Postgres) {
    let stage = Stage::new(name, version, "bounded").await;
    stage.run("ALTER ROLE bounded SUPERUSER").await;
    let mut settings = vec![
        "idle_session_timeout = '1s'",
        "lock_timeout = '50ms'",
        "statement_timeout = '50ms'",
        "idle_in_transaction_session_timeout = '50ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
    ];
    if version >= Postgres::V17 {
        settings.push("transaction_timeout = '500ms'");
    }
    for setting in settings {
        stage
            .run(&format!("ALTER ROLE bounded SET {setting}"))
            .await;
    }
    let mut source = stage.source("");
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let ended = "SELECT sessions_fatal FROM pg_stat_database WHERE datname = 'postgres'";
    for round in 0..2 {
        stage
            .run(&format!("INSERT INTO s.t VALUES ({round} + 1000, 'new')"))
            .await;
        stage.judge(&mut source).await;
        // Several times as long as the longest of them.
        let idle =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bounded' AND state = 'idle'
            AND state_change < clock_timestamp() - interval '4 s'";
        let idle = format!("SELECT CASE WHEN ({ended}) > 0 THEN -1 ELSE ({idle}) END");
        assert!(
            stage.until(&idle, |found| found != 0).await > 0,
            "{}",
            source.log_tail()
        );
    }
    assert_eq!(source.metric("tributary_source_sessions_total"), Some(1.0));
    assert!(source.stop(PATIENCE).unwrap().success());
    assert_eq!(stage.number(ended).await, 0);
    assert!(
        !source.log().contains("the session ended"),
        "{}",
        source.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_timeouts_change_nothing() {
    let version = Postgres::from_env().unwrap().unwrap_or_default();
    time_outs_of_a_role("bounded_role", version).await;
    // The first one that knows all of them.
    time_outs_of_a_role("bounded_more", Postgres::V17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_sources_leave_no_temporary_slots() {
    let stage = Stage::usual("temporary").await;
    let mut source = stage.source("");
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    stage.judge(&mut source).await;
    let (_open, _) = stage.hold_open("tributary").await;
    let (code, out, err) = source
        .command(&["snapshot", "--table", "s.journal"])
        .unwrap();
    assert_eq!(code, 0, "{out}{err}");
    let mut before = 0;
    for round in 0..6 {
        before = stage.until(CREATING, |pid| pid != 0 && pid != before).await;
        if round == 5 {
            source.stop(PATIENCE).unwrap();
        } else {
            source.kill().unwrap();
            source.start().unwrap();
        }
    }
    // The transaction is still open.
    stage.until(TEMPORARY, |slots| slots == 0).await;
    let walsenders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    stage.until(walsenders, |count| count == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_behind_an_open_transaction() {
    let version = Postgres::from_env().unwrap().unwrap_or_default();
    let stage = Stage::new("behind_open", version, "tributary").await;
    stage
        .run(
            "GRANT CREATE ON DATABASE postgres TO tributary; ALTER SCHEMA s OWNER TO tributary;
            ALTER TABLE s.t OWNER TO tributary; ALTER TABLE s.journal OWNER TO tributary;
            CREATE ROLE app LOGIN PASSWORD 'app'; GRANT INSERT ON public.other TO app",
        )
        .await;
    let (open, pid) = stage.hold_open("app").await;
    let process = format!("of process {pid}, user 'app', database 'postgres', open for");
    let mut source = stage.source("");
    source.start().unwrap();
    stage
        .waits_for(&mut source, &[&process, "open for more than"])
        .await;
    let log = source.log();
    assert!(log.contains(&process), "{log}");
    let (_, status, _) = source.command(&["status"]).unwrap();
    assert!(status.contains(&process), "{status}");
    assert!(status.contains("snapshot  0.0 % of 2 tables"), "{status}");

    // Ended in good order, and killed: each time the next one waits as the first did, and for nobody else.
    stage.run("GRANT pg_read_all_stats TO tributary").await;
    let mut before = stage.number(CREATING).await;
    for orderly in [true, false] {
        if orderly {
            assert!(source.stop(PATIENCE).unwrap().success());
        } else {
            source.kill().unwrap();
        }
        source.start().unwrap();
        before = stage.until(CREATING, |pid| pid != 0 && pid != before).await;
        stage.waits_for(&mut source, &[&process]).await;
        assert_eq!(stage.number(SLOTS).await, 1);
    }
    assert!(
        !source.log().contains("another instance"),
        "{}",
        source.log()
    );
    stage.waits_for(&mut source, &[&process]).await;
    let (_, ready) = source.get("/ready").unwrap();
    assert!(!ready.contains("open for more than"), "{ready}");

    // A living one keeps its slot; a dead one's can be dropped at once.
    let (code, out, err) = source.command(&["drop", "--yes"]).unwrap();
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("stop the source first"), "{err}");
    source.kill().unwrap();
    let (code, out, err) = source.command(&["drop", "--yes"]).unwrap();
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(stage.number(SLOTS).await, 0);

    // Nobody's process at all.
    open.batch_execute("PREPARE TRANSACTION 'held'")
        .await
        .unwrap();
    source.start().unwrap();
    stage
        .waits_for(&mut source, &["prepared as 'held', user 'app'", "s ago"])
        .await;
    stage.run("ROLLBACK PREPARED 'held'").await;
    source.wait_ready(PATIENCE).unwrap();
    stage.run("INSERT INTO s.t VALUES (1000, 'new')").await;
    stage.judge(&mut source).await;
}

/// The server evaluates a row filter for half a minute, and neither speaks nor listens meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make test-long"]
async fn decoding_for_long_is_no_silence() {
    let version = Postgres::from_env().unwrap().unwrap_or_default();
    if version.major() < 15 {
        return;
    }
    let stage = Stage::usual("decoding").await;
    stage
        .run("CREATE TABLE s.slow (id int PRIMARY KEY, name text, steps bigint)")
        .await;
    // The source puts a row filter right at its next look, which does not come.
    let mut source = stage.source("watch_interval_ms = 3600000");
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    stage.judge(&mut source).await;
    let publication = format!("tributary_{}", stage.pipeline.prefix());
    stage
        .run(&format!(
            "ALTER PUBLICATION {publication} DROP TABLE s.slow;
            ALTER PUBLICATION {publication} ADD TABLE s.slow WHERE (factorial(steps) < 0)"
        ))
        .await;
    let started = Instant::now();
    stage
        .number("SELECT (factorial(15000) > 0)::int::bigint")
        .await;
    let one = started.elapsed().as_secs_f64();
    // Below the hundred at which pgoutput looks up from its work.
    let rows = (45.0 / one).ceil().clamp(2.0, 99.0);
    stage
        .run(&format!(
            "INSERT INTO s.slow SELECT g, 'never', 15000 FROM generate_series(1, {rows}) g;
            INSERT INTO s.t VALUES (1000, 'behind it')"
        ))
        .await;
    let deadline = Instant::now() + 4 * PATIENCE;
    while !source.log().contains("has nothing to send") {
        assert!(Instant::now() < deadline, "{}", source.log_tail());
        assert_eq!(source.metric("tributary_source_sessions_total"), Some(1.0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage
        .pipeline
        .wait_source(&mut source, 4 * PATIENCE)
        .await
        .unwrap();
    stage.judge(&mut source).await;
    assert_eq!(source.metric("tributary_source_sessions_total"), Some(1.0));
    assert!(
        !source.log().contains("the session ended"),
        "{}",
        source.log()
    );
}
