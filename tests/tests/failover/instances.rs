//! Two instances of one source: one works, the other takes over.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::oracle::{compare_changes, install_audit, read_audit};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Service;
use tributary_tests::stack::Stack;

use crate::{
    Application, PATIENCE, TABLE, fold, more_events, records, start_source, table, wait_until,
};

/// How long after the end of the first instance the second one works, at the latest.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// A first instance that works, a second one that waits, and an application.
async fn two_instances(name: &str) -> (Pipeline, Client, [Service; 2], Application) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    let mut first = start_source(&pipeline, "first", "");
    first.wait_ready(PATIENCE).unwrap();
    install_audit(&client, "s.t").await.unwrap();
    let second = start_source(&pipeline, "second", "");
    wait_until("the second instance's wait", async || {
        second.log().contains("SQLSTATE 55006")
    })
    .await;
    let application = Application::start(&pipeline.source_url);
    more_events(&first, 100.0).await;
    // The one that waits has not fenced it.
    assert_eq!(first.metric("tributary_source_sessions_total"), Some(1.0));
    (pipeline, client, [first, second], application)
}

/// Every change that was committed is in the topic once, in order.
async fn judge(pipeline: &Pipeline, client: &Client) {
    let records = records(pipeline).await;
    let noted = read_audit(client, "s.t", &["id"]).await.unwrap();
    assert!(noted.len() > 100, "{} changes", noted.len());
    assert_eq!(compare_changes(&noted, &records), Vec::<String>::new());
    assert_eq!(fold(&records), table(client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_takes_over_from_a_killed_one() {
    let (pipeline, client, [mut first, mut second], application) =
        two_instances("killed_first").await;
    first.kill().unwrap();
    let killed = Instant::now();
    second.wait_ready(TAKEN_OVER).unwrap();
    more_events(&second, 1.0).await;
    assert!(killed.elapsed() <= TAKEN_OVER, "{:?}", killed.elapsed());
    application.stop().await;
    pipeline.wait_source(&mut second, PATIENCE).await.unwrap();
    judge(&pipeline, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_stopped_and_continues_is_fenced() {
    let (pipeline, client, [mut first, mut second], application) =
        two_instances("stopped_first").await;
    first.freeze().unwrap();
    second.wait_ready(PATIENCE).unwrap();
    more_events(&second, 50.0).await;
    first.thaw().unwrap();
    wait_until("the first instance's wait", async || {
        first.log().contains("SQLSTATE 55006")
    })
    .await;
    assert!(first.is_running().unwrap());
    more_events(&second, 50.0).await;
    application.stop().await;
    pipeline.wait_source(&mut second, PATIENCE).await.unwrap();
    judge(&pipeline, &client).await;
}
