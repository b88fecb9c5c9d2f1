//! What a connection asks of the server, and what it answers.

use tributary_postgres::replication::ReplicationConnection;

use crate::corner::Corner;

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
