//! A server that has a list of output plug-ins, without wal2json in it.

use std::time::Instant;

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::{Postgres, Server, Stack};

use super::{PATIENCE, Side};

const TABLES: &str = "CREATE ROLE plain LOGIN REPLICATION PASSWORD 'plain'; GRANT CREATE ON DATABASE postgres TO plain;
    CREATE SCHEMA s AUTHORIZATION plain; CREATE TABLE s.t (id int PRIMARY KEY); ALTER TABLE s.t OWNER TO plain";
const STATEMENT: &str =
    "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding', 'wal2json'";
const REFUSED: &str = "does not let the output plug-in wal2json be used";

/// What `check` prints, and whether it is content.
fn check(side: &Side) -> (String, bool) {
    let output = std::process::Command::new(Kind::Source.path().unwrap())
        .arg("check")
        .arg("--config")
        .arg(side.service.config_path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (said, output.status.success())
}

async fn show_list(client: &Client) -> String {
    let row = client.query_one("SHOW output_plugin_libraries", &[]);
    row.await.unwrap().get(0)
}

#[tokio::test]
async fn check_knows_that_the_server_refuses_wal2json() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "plugins_refused").await.unwrap();
    // It has the list, as it comes.
    let server = Server::start_new(pipeline.dir(), "refusing", Postgres::V17, &[]).unwrap();
    pipeline.source_url = server.url("postgres");
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    assert_eq!(show_list(&client).await, "pgoutput, test_decoding");
    client.batch_execute(TABLES).await.unwrap();

    // Who may see the list is told what is in it; who may not, what it holds by default.
    let superuser = server.url("postgres");
    let plain = superuser.replace("postgres:postgres@", "plain:plain@");
    for url in [superuser, plain.clone()] {
        pipeline.source_url = url;
        let mut side = Side::new(&pipeline, "wal2json");
        let (said, content) = check(&side);
        assert!(!content && said.contains(REFUSED), "{said}");
        assert!(said.contains(STATEMENT), "{said}");
        assert!(said.contains("pg_reload_conf()"), "{said}");
        side.service.start().unwrap();
        assert!(!side.service.wait(PATIENCE).unwrap().success());
        let log = side.service.log_tail();
        assert!(log.contains(STATEMENT), "{log}");
        assert!(!log.contains("what is missing: REPLICATION"), "{log}");
    }

    // What is there stays: each name an entry of its own.
    client.batch_execute(STATEMENT).await.unwrap();
    client
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while show_list(&client).await != "pgoutput, test_decoding, wal2json" {
        assert!(Instant::now() < deadline, "{}", show_list(&client).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for url in [server.url("postgres"), plain] {
        pipeline.source_url = url;
        let (said, content) = check(&Side::new(&pipeline, "wal2json"));
        assert!(content && !said.contains(REFUSED), "{said}");
    }
}

/// The list is the whole truth: one that was made for wal2json alone keeps pgoutput out.
#[tokio::test]
async fn check_knows_that_the_server_refuses_pgoutput() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "plugins_other").await.unwrap();
    let only = [("output_plugin_libraries", "wal2json, \"odd one\"")];
    let server = Server::start_new(pipeline.dir(), "other", Postgres::V17, &only).unwrap();
    pipeline.source_url = server.url("postgres");
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLES).await.unwrap();
    let (said, content) = check(&Side::new(&pipeline, "pgoutput"));
    let statement = "ALTER SYSTEM SET output_plugin_libraries = 'wal2json', 'odd one', 'pgoutput'";
    assert!(!content && said.contains(statement), "{said}");
}
