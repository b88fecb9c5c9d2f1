//! The replication connection and the decoder against a real server.
//!
//! Needs `TRIBUTARY_POSTGRES_URL`: a superuser's URL, a server with `wal_level = logical` that asks for
//! passwords. Every test works in a schema of its own, and removes it and its slot.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tributary_schemas::Lsn;
use tributary_source::pgoutput::{Cell, Message, OldRow, TupleData, decode};
use tributary_source::replication::{
    Failure, Frame, ReplicationConfig, ReplicationConnection, ReplicationError, ReplicationStream,
};

const TIME_LIMIT: Duration = Duration::from_secs(60);

/// One test's corner of the server.
struct Corner {
    /// Schema, publication, slot and role are called so.
    name: String,
    config: ReplicationConfig,
    sql: tokio_postgres::Client,
}

impl Corner {
    /// Runs `test` in a corner called `name`, and clears it also when the test panics.
    async fn run(name: &str, test: impl AsyncFnOnce(&Corner)) {
        let url = std::env::var("TRIBUTARY_POSTGRES_URL").expect(
            "TRIBUTARY_POSTGRES_URL is not set: it names the Postgres server to test with (make up starts one)",
        );
        let (sql, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let corner = Corner {
            name: format!("replication_{name}_{}", std::process::id()),
            config: ReplicationConfig::from_url(&url).unwrap(),
            sql,
        };
        let name = &corner.name;
        corner
            .sql(&format!(
                "CREATE SCHEMA {name};
                 CREATE TABLE {name}.t (id int PRIMARY KEY, text text);
                 CREATE PUBLICATION {name} FOR TABLE {name}.t"
            ))
            .await;
        let test = AssertUnwindSafe(tokio::time::timeout(TIME_LIMIT, test(&corner)));
        let result = test.catch_unwind().await;
        corner.clear().await;
        match result {
            Ok(in_time) => in_time.expect("the test takes too long"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// One statement at a time: dropping a slot is not for a transaction that has written.
    async fn clear(&self) {
        let name = &self.name;
        for statement in [
            format!(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{name}' AND active"
            ),
            format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
            ),
            format!("DROP PUBLICATION {name}"),
            format!("DROP SCHEMA {name} CASCADE"),
            format!("DROP ROLE IF EXISTS {name}"),
        ] {
            self.sql(&statement).await;
        }
    }

    async fn sql(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    /// The first column of a query's rows, as text.
    async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.sql.simple_query(sql).await.unwrap();
        rows.iter()
            .filter_map(|row| match row {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }

    async fn lsn(&self, sql: &str) -> Lsn {
        self.texts(sql).await[0].parse().unwrap()
    }

    /// Marks the end of the stream. Such messages reach all slots of the database, hence the name in it.
    async fn emit_stop(&self) {
        let name = &self.name;
        self.sql(&format!(
            "SELECT pg_logical_emit_message(true, '{name}', 'stop')"
        ))
        .await;
    }

    async fn connect(&self) -> ReplicationConnection {
        ReplicationConnection::connect(&self.config).await.unwrap()
    }

    async fn create_slot(&self) {
        let name = &self.name;
        self.sql(&format!(
            "SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ))
        .await;
    }

    async fn start(&self) -> ReplicationStream {
        self.start_over(&self.config).await.unwrap()
    }

    async fn start_over(
        &self,
        config: &ReplicationConfig,
    ) -> Result<ReplicationStream, ReplicationError> {
        let connection = ReplicationConnection::connect(config).await?;
        connection
            .start_replication(&self.name, Lsn::ZERO, &self.options())
            .await
    }

    fn options(&self) -> [(&str, &str); 3] {
        [
            ("proto_version", "1"),
            ("publication_names", &self.name),
            ("messages", "true"),
        ]
    }
}

/// What a consumer makes of the stream.
#[derive(Default)]
struct Replica {
    rows: BTreeMap<i32, String>,
    changes: usize,
    /// How many of them came before the transaction that is open.
    changes_before: usize,
    /// The commit LSN of each transaction that changed a row, in order.
    commits: Vec<Lsn>,
    end_lsn: Lsn,
}

impl Replica {
    /// Applies a message; true for the logical message that says to stop.
    fn apply(&mut self, message: &Message<'_>, name: &str) -> bool {
        match message {
            Message::Begin(_) => self.changes_before = self.changes,
            Message::Commit(commit) if self.changes > self.changes_before => {
                self.commits.push(commit.commit_lsn);
                self.end_lsn = commit.end_lsn;
            }
            Message::Insert(insert) => self.put(insert.new),
            Message::Update(update) => {
                if let Some(old) = update.old {
                    self.remove(old);
                }
                self.put(update.new);
            }
            Message::Delete(delete) => {
                self.changes += 1;
                self.remove(delete.old);
            }
            Message::Logical(message) => return message.prefix == name,
            _ => {}
        }
        false
    }

    fn put(&mut self, row: TupleData<'_>) {
        self.changes += 1;
        let [id, text] = texts(row);
        self.rows
            .insert(id.unwrap().parse().unwrap(), text.unwrap());
    }

    fn remove(&mut self, row: OldRow<'_>) {
        let (OldRow::Key(row) | OldRow::Full(row)) = row;
        let [id, _] = texts(row);
        assert!(self.rows.remove(&id.unwrap().parse().unwrap()).is_some());
    }

    /// Follows the stream to the commit of the stop message, or to the one after which `stop` says so.
    async fn follow(
        &mut self,
        name: &str,
        stream: &mut ReplicationStream,
        stop: impl Fn(&Self) -> bool,
    ) {
        let mut stopping = false;
        loop {
            match stream.next_buffered().unwrap() {
                Some(Frame::XLogData { payload, .. }) => {
                    let message = decode(payload).unwrap();
                    stopping |= self.apply(&message, name);
                    if matches!(message, Message::Commit(_)) && (stopping || stop(self)) {
                        return;
                    }
                }
                Some(Frame::Keepalive { .. }) => {}
                None => stream.fill().await.unwrap(),
            }
        }
    }
}

fn texts<const N: usize>(row: TupleData<'_>) -> [Option<String>; N] {
    let cells = row.cells().map(|cell| match cell {
        Cell::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Cell::Null => None,
        Cell::Unchanged | Cell::Binary(_) => panic!("not a text or null: {cell:?}"),
    });
    cells.collect::<Vec<_>>().try_into().unwrap()
}

/// Reads until the next keepalive: whether it asks for a reply, and its position.
async fn next_keepalive(stream: &mut ReplicationStream) -> (bool, Lsn) {
    loop {
        match stream.next_buffered().unwrap() {
            Some(Frame::Keepalive {
                wal_end,
                sent_at_us,
                reply_requested,
            }) => {
                assert!(sent_at_us > 1_700_000_000_000_000);
                return (reply_requested, wal_end);
            }
            Some(Frame::XLogData { .. }) => {}
            None => stream.fill().await.unwrap(),
        }
    }
}

/// Reads until the stream fails.
async fn error_of(stream: &mut ReplicationStream) -> ReplicationError {
    loop {
        match stream.next_buffered() {
            Ok(Some(_)) => {}
            Ok(None) => {
                if let Err(error) = stream.fill().await {
                    return error;
                }
            }
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn snapshot_and_stream_together_give_the_table() {
    Corner::run("table", async |corner| {
        let name = &corner.name;
        corner.sql(&format!("INSERT INTO {name}.t SELECT i, 'before' FROM generate_series(1, 100) i")).await;
        let mut connection = corner.connect().await;
        let slot = connection.create_slot_exporting_snapshot(name, "pgoutput").await.unwrap();
        corner.sql(&format!("INSERT INTO {name}.t SELECT i, 'after' FROM generate_series(101, 3000) i")).await;
        for round in 0..20 {
            for statement in [
                format!("UPDATE {name}.t SET text = 'round {round} ' || id WHERE id % 20 = {round}"),
                format!("DELETE FROM {name}.t WHERE id % 100 = {round}"),
                format!("UPDATE {name}.t SET id = id + 100000 WHERE id < 100000 AND id % 100 = {round} + 50"),
            ] {
                corner.sql(&statement).await;
            }
        }
        corner.emit_stop().await;

        let mut replica = Replica::default();
        let snapshot = corner.texts(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; SELECT id FROM {name}.t; COMMIT",
            slot.snapshot_name
        )).await;
        assert_eq!(snapshot.len(), 100);
        replica.rows.extend(snapshot.iter().map(|id| (id.parse().unwrap(), "before".to_owned())));

        let options = corner.options();
        let mut stream = connection.start_replication(name, slot.consistent_point, &options).await.unwrap();
        replica.follow(name, &mut stream, |_| false).await;
        stream.close().await.unwrap();

        assert!(replica.changes > 6000, "{}", replica.changes);
        assert_eq!(replica.commits.len(), 1 + 3 * 20);
        assert!(replica.commits.is_sorted());
        assert!(replica.commits[0] >= slot.consistent_point);
        let expected = corner.texts(&format!("SELECT id || ':' || text FROM {name}.t ORDER BY id")).await;
        assert!(expected.len() > 1000);
        assert!(replica.rows.iter().map(|(id, text)| format!("{id}:{text}")).eq(expected));
    })
    .await;
}

#[tokio::test]
async fn the_stream_goes_on_behind_the_confirmed_transaction() {
    Corner::run("confirm", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        for id in 1..=200 {
            corner
                .sql(&format!("INSERT INTO {name}.t VALUES ({id}, '')"))
                .await;
        }
        corner.emit_stop().await;

        let mut all = Replica::default();
        let mut stream = corner.start().await;
        all.follow(name, &mut stream, |replica| replica.commits.len() == 80)
            .await;
        let confirmed = all.end_lsn;
        stream
            .send_status(confirmed, confirmed, confirmed, false)
            .await
            .unwrap();
        // More is read, but not confirmed.
        all.follow(name, &mut stream, |replica| replica.commits.len() == 120)
            .await;
        stream.close().await.unwrap();

        let flushed = format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{name}'"
        );
        assert_eq!(corner.lsn(&flushed).await, confirmed);
        let mut rest = Replica::default();
        let mut stream = corner.start().await;
        rest.follow(name, &mut stream, |_| false).await;
        assert_eq!(rest.commits[..40], all.commits[80..]);
        assert!(rest.rows.keys().copied().eq(81..=200));
        stream.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_status_is_answered_and_silence_gives_the_slot_up() {
    Corner::run("silence", async |corner| {
        corner.create_slot().await;
        let mut config = corner.config.clone();
        config.wal_sender_timeout_ms = 1500;
        let mut stream = corner.start_over(&config).await.unwrap();
        let started = Instant::now();
        stream
            .send_status(Lsn::ZERO, Lsn::ZERO, Lsn::ZERO, true)
            .await
            .unwrap();
        // The answer asks for nothing; half the time-out later the server asks.
        let mut keepalive = next_keepalive(&mut stream).await;
        assert!(keepalive.1 > Lsn::ZERO && stream.silence() < Duration::from_secs(1));
        while !keepalive.0 {
            keepalive = next_keepalive(&mut stream).await;
        }
        assert!(
            started.elapsed() >= Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
        let error = error_of(&mut stream).await;
        assert!(error.is_connection_lost(), "{error}");
        assert!(
            started.elapsed() >= Duration::from_millis(1000),
            "{:?}",
            started.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn a_value_of_many_megabytes_comes_whole() {
    Corner::run("big", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        corner
            .sql(&format!(
                "INSERT INTO {name}.t VALUES (1, repeat('x', 40000000)), (2, 'small')"
            ))
            .await;
        corner.emit_stop().await;
        let mut replica = Replica::default();
        let mut stream = corner.start().await;
        replica.follow(name, &mut stream, |_| false).await;
        assert_eq!(replica.rows[&1].len(), 40_000_000);
        assert_eq!(replica.rows[&2], "small");
        stream.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_session_outranks_the_settings_of_the_role() {
    Corner::run("settings", async |corner| {
        let name = &corner.name;
        corner
            .sql(&format!(
                "CREATE ROLE {name} LOGIN REPLICATION PASSWORD 'päss word';
             ALTER ROLE {name} SET DateStyle = 'German';
             ALTER ROLE {name} SET IntervalStyle = 'iso_8601';
             ALTER ROLE {name} SET TimeZone = 'Asia/Tokyo';
             ALTER ROLE {name} SET extra_float_digits = 0;
             ALTER ROLE {name} SET bytea_output = 'escape';
             ALTER ROLE {name} SET search_path = 'public';
             ALTER ROLE {name} SET client_encoding = 'LATIN1';
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = 10"
            ))
            .await;
        let mut config = corner.config.clone();
        config.user.clone_from(name);
        config.password = Some("päss word".into());
        let mut connection = ReplicationConnection::connect(&config).await.unwrap();
        let expected = [
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
            ("search_path", ""),
            ("client_encoding", "UTF8"),
            ("lc_monetary", "C"),
            ("row_security", "off"),
            ("wal_sender_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "0"),
            ("application_name", "tributary"),
        ];
        for (setting, value) in expected {
            let rows = connection
                .simple_query(&format!("SHOW {setting}"))
                .await
                .unwrap();
            assert_eq!(rows, [[Some(value.to_owned())]], "{setting}");
        }
    })
    .await;
}

#[tokio::test]
async fn identity_and_queries_answer() {
    Corner::run("identity", async |corner| {
        let mut connection = corner.connect().await;
        let before = corner.lsn("SELECT pg_current_wal_flush_lsn()").await;
        let identity = connection.identify_system().await.unwrap();
        let system_id = corner
            .texts("SELECT system_identifier FROM pg_control_system()")
            .await;
        assert_eq!([identity.system_id], *system_id);
        assert_eq!(identity.dbname, corner.config.dbname);
        assert!(identity.timeline >= 1 && identity.xlogpos >= before);

        let error = connection
            .simple_query("SELECT nonsense")
            .await
            .unwrap_err();
        assert_eq!(error.sqlstate(), Some("42703"));
        assert!(!error.is_connection_lost());
        let rows = connection
            .simple_query("SELECT NULL, 'ü', '' UNION ALL SELECT '1', NULL, '2'")
            .await;
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            rows.unwrap(),
            [
                vec![None, text("ü"), text("")],
                vec![text("1"), None, text("2")]
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn refused_log_ins_say_why() {
    Corner::run("login", async |corner| {
        let name = &corner.name;
        let at = format!("{}:{}, database '{}'", corner.config.host, corner.config.port, corner.config.dbname);
        corner.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'right'")).await;
        let mut config = corner.config.clone();
        config.user.clone_from(name);

        config.password = Some("wrong".into());
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28P01"));
        assert!(!error.is_connection_lost());
        assert_eq!(
            error.to_string(),
            format!(
                "connect for replication to {at}, as '{name}': password authentication failed for user \"{name}\" \
                 (FATAL, SQLSTATE 28P01)"
            )
        );

        config.password = None;
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert!(error.to_string().contains("asks for a password and none is configured"), "{error}");

        config.password = Some("right".into());
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42501"), "{error}");

        let elsewhere = ReplicationConfig { dbname: "no such database".to_owned(), ..corner.config.clone() };
        let error = ReplicationConnection::connect(&elsewhere).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("3D000"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn one_reader_at_a_time_holds_the_slot() {
    Corner::run("mutex", async |corner| {
        let name = &corner.name;
        let error = corner.start_over(&corner.config).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42704"), "{error}");

        corner.create_slot().await;
        let holder = corner.start().await;
        let error = corner.start_over(&corner.config).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("55006"));
        assert!(!error.is_connection_lost());
        let pid = corner.texts(&format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{name}'")).await;
        assert_eq!(
            error.to_string(),
            format!(
                "start replication from slot '{name}': replication slot \"{name}\" is active for PID {} \
                 (ERROR, SQLSTATE 55006)",
                pid[0]
            )
        );
        holder.close().await.unwrap();
        corner.start().await.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn odd_names_and_options_reach_the_server_as_they_are() {
    Corner::run("quoting", async |corner| {
        corner.create_slot().await;
        let mut connection = corner.connect().await;
        let refused = connection
            .create_slot_exporting_snapshot("it's", "pgoutput")
            .await;
        assert_eq!(refused.unwrap_err().sqlstate(), Some("42602"));
        let refused = connection
            .create_slot_exporting_snapshot("a\"b", "pgoutput")
            .await;
        assert!(matches!(
            refused.unwrap_err().failure(),
            Failure::Settings(_)
        ));
        let options = [
            ("proto_version", "1"),
            ("publication_names", "\"it's \\ odd\""),
        ];
        let start = corner
            .connect()
            .await
            .start_replication(&corner.name, Lsn::ZERO, &options)
            .await;
        // The publication is looked up with the first change.
        corner
            .sql(&format!("INSERT INTO {}.t VALUES (1, '')", corner.name))
            .await;
        let error = error_of(&mut start.unwrap()).await;
        assert_eq!(error.sqlstate(), Some("42704"), "{error}");
        assert!(
            error
                .to_string()
                .contains("publication \"it's \\ odd\" does not exist"),
            "{error}"
        );
        assert!(!error.is_connection_lost());
    })
    .await;
}

#[tokio::test]
async fn a_terminated_walsender_is_a_lost_connection() {
    Corner::run("terminated", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        let mut stream = corner.start().await;
        corner.sql(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{name}'"
        )).await;
        let error = error_of(&mut stream).await;
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
        assert!(error.is_connection_lost());
        corner.start().await.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_vanished_server_is_a_lost_connection() {
    Corner::run("vanished", async |corner| {
        corner.create_slot().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = corner.config.clone();
        config.host = "127.0.0.1".to_owned();
        config.port = listener.local_addr().unwrap().port();
        let server = (corner.config.host.clone(), corner.config.port);
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        let mut stream = corner.start_over(&config).await.unwrap();
        proxy.abort();
        let error = error_of(&mut stream).await;
        assert!(
            matches!(error.failure(), Failure::Closed | Failure::Lost(_)),
            "{error}"
        );
        assert!(error.is_connection_lost());
        // The listener went with the proxy.
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert!(
            matches!(error.failure(), Failure::Unreachable(_)),
            "{error}"
        );
        assert!(error.is_connection_lost());
    })
    .await;
}
