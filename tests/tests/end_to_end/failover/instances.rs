//! Two instances of one source: one works, the other takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::oracle::{compare_changes, install_audit, read_audit};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::{Link, Postgres, Server, Stack};

use super::{
    Application, PATIENCE, TABLE, fold, more_events, records, start_source, table, wait_until,
};

/// How long after the end of the first instance the second one works, at the latest.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// An instance that waits for the slot says so.
fn waits(source: &Service) -> bool {
    let Ok((_, status)) = source.get("/status") else {
        return false;
    };
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["phase"] == "waiting for the slot"
}

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
    wait_until("the second instance's wait", async || waits(&second)).await;
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
    wait_until("the first instance's wait", async || waits(&first)).await;
    assert!(first.is_running().unwrap());
    more_events(&second, 50.0).await;
    application.stop().await;
    pipeline.wait_source(&mut second, PATIENCE).await.unwrap();
    judge(&pipeline, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_waits_quietly() {
    let (pipeline, client, [mut first, mut second], application) =
        two_instances("quiet_second").await;
    // Several looks at the slot later.
    wait_until("ten seconds of waiting", async || {
        let (_, status) = second.get("/status").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["uptime_seconds"].as_u64().unwrap() >= 10
    })
    .await;
    let (code, ready) = second.get("/ready").unwrap();
    assert_eq!(code, 503);
    assert!(ready.contains("waiting: process "), "{ready}");
    let log = second.log();
    assert_eq!(log.matches("waiting: ").count(), 1, "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    // It begins a session when it works, not each time it looks.
    assert_eq!(second.metric("tributary_source_sessions_total"), Some(1.0));
    first.kill().unwrap();
    second.wait_ready(TAKEN_OVER).unwrap();
    more_events(&second, 1.0).await;
    application.stop().await;
    pipeline.wait_source(&mut second, PATIENCE).await.unwrap();
    judge(&pipeline, &client).await;
}

/// One-row transactions as fast as two connections can.
async fn write_until(stop: Arc<AtomicBool>, url: String) {
    let writer = |first: i32| {
        let (stop, url) = (Arc::clone(&stop), url.clone());
        tokio::spawn(async move {
            let client = shop::connect(&url).await.unwrap();
            let insert = client.prepare("INSERT INTO s.t VALUES ($1, 'fast')");
            let insert = insert.await.unwrap();
            for id in (first..).step_by(2) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                client.execute(&insert, &[&id]).await.unwrap();
            }
        })
    };
    let writers = [writer(10_000), writer(10_001)];
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Two instances far from their server: whoever takes over compares what it knows of the server with progress that the
/// other one has written since.
#[tokio::test(flavor = "multi_thread")]
async fn takeover_over_a_slow_connection_is_no_gap() {
    const ROUNDS: usize = 5;
    // A replication connection that has asked where the WAL ends, and not yet for the slot.
    const ABOUT_TO_START: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'walsender'
        AND query NOT LIKE 'START_REPLICATION%' AND query NOT LIKE 'IDENTIFY_SYSTEM%' AND query <> '')";
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "far_away").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let version = Postgres::from_env().unwrap().unwrap_or_default();
    let server = Server::start_new(pipeline.dir(), "far", version, &[]).unwrap();
    let link = Link::slow(server.port(), Duration::from_millis(150)).unwrap();
    pipeline.source_url = server.url("postgres");
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    let far = pipeline
        .source_config()
        .replace(&server.address(), &format!("127.0.0.1:{}", link.port()));
    let mut instances =
        ["first", "second"].map(|name| pipeline.service(Kind::Source, name, &far).unwrap());
    instances[0].start().unwrap();
    instances[0].wait_ready(PATIENCE).unwrap();
    install_audit(&client, "s.t").await.unwrap();
    instances[1].start().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(Arc::clone(&stop), pipeline.source_url.clone()));
    let ready = |source: &Service| source.get("/ready").is_ok_and(|(code, _)| code == 200);
    for round in 0..ROUNDS {
        let works = loop {
            for source in &mut instances {
                assert!(source.is_running().unwrap(), "{}", source.log_tail());
            }
            if let Some(works) = instances.iter().position(ready) {
                break works;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        more_events(&instances[works], 100.0).await;
        if round + 1 == ROUNDS {
            break;
        }
        let waiting = &instances[1 - works];
        wait_until("the other one's look at the server", async || {
            let about_to_start = client.query_one(ABOUT_TO_START, &[]).await.unwrap();
            let (_, ready) = waiting.get("/ready").unwrap_or_default();
            about_to_start.get(0) || ready.contains("waiting: process ")
        })
        .await;
        instances[works].kill().unwrap();
        instances[works].start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    for source in &instances {
        assert!(
            !source.log().contains("was put back"),
            "{}",
            source.log_tail()
        );
    }
    let works = instances.iter_mut().find(|source| ready(source)).unwrap();
    pipeline.wait_source(works, PATIENCE).await.unwrap();
    judge(&pipeline, &client).await;
}
