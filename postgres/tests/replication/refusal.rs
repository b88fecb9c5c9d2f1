//! What the server refuses, and the words for it.

use tributary_postgres::replication::{Failure, ReplicationConfig, ReplicationConnection};
use tributary_schemas::Lsn;

use crate::corner::Corner;
use crate::replica::error_of;

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
