//! A test's corner of the server: a schema, a publication and a slot that nobody else uses.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tributary_postgres::replication::{
    ReplicationConfig, ReplicationConnection, ReplicationError, ReplicationStream,
};
use tributary_schemas::Lsn;

const TIME_LIMIT: Duration = Duration::from_secs(60);

/// One test's corner of the server.
pub(crate) struct Corner {
    /// Schema, publication, slot and role are called so.
    pub(crate) name: String,
    pub(crate) config: ReplicationConfig,
    sql: tokio_postgres::Client,
}

impl Corner {
    /// Runs `test` in a corner called `name`, and clears it also when the test panics.
    pub(crate) async fn run(name: &str, test: impl AsyncFnOnce(&Corner)) {
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

    pub(crate) async fn sql(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    /// The first column of a query's rows, as text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.sql.simple_query(sql).await.unwrap();
        rows.iter()
            .filter_map(|row| match row {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }

    pub(crate) async fn lsn(&self, sql: &str) -> Lsn {
        self.texts(sql).await[0].parse().unwrap()
    }

    /// Marks the end of the stream. Such messages reach all slots of the database, hence the name in it.
    pub(crate) async fn emit_stop(&self) {
        let name = &self.name;
        self.sql(&format!(
            "SELECT pg_logical_emit_message(true, '{name}', 'stop')"
        ))
        .await;
    }

    pub(crate) async fn connect(&self) -> ReplicationConnection {
        ReplicationConnection::connect(&self.config).await.unwrap()
    }

    pub(crate) async fn create_slot(&self) {
        let name = &self.name;
        self.sql(&format!(
            "SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ))
        .await;
    }

    pub(crate) async fn start(&self) -> ReplicationStream {
        self.start_over(&self.config).await.unwrap()
    }

    pub(crate) async fn start_over(
        &self,
        config: &ReplicationConfig,
    ) -> Result<ReplicationStream, ReplicationError> {
        let connection = ReplicationConnection::connect(config).await?;
        connection
            .start_replication(&self.name, Lsn::ZERO, &self.options())
            .await
    }

    pub(crate) fn options(&self) -> [(&str, &str); 3] {
        [
            ("proto_version", "1"),
            ("publication_names", &self.name),
            ("messages", "true"),
        ]
    }
}
