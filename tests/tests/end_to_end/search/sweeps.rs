//! A truncate of a big table: what it leaves behind is deleted beside the writes that follow.

use std::time::Instant;

use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::PATIENCE;

const ROWS: f64 = 50_000.0;
const SWEPT: &str = "tributary_sink_elastic_swept_documents_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_is_swept_beside_writes_and_after_a_kill() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "sweeps").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let table = format!(
        "CREATE SCHEMA s; CREATE TABLE s.big (id int PRIMARY KEY, name text);
         INSERT INTO s.big SELECT n, 'old' FROM generate_series(1, {ROWS}) n"
    );
    client.batch_execute(&table).await.unwrap();
    let [mut source, mut sink, _] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    sink.start().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let group = pipeline.group(Kind::SinkElastic);
    let topics = pipeline.read_topics(&["s.big"]).await.unwrap();
    pipeline
        .wait_sink(&mut sink, &group, &topics, PATIENCE)
        .await
        .unwrap();

    client.batch_execute("TRUNCATE s.big").await.unwrap();
    let index = format!("{}/{}", stack.search_url(), pipeline.topic("s.big"));
    let (http, deadline) = (http::client(), Instant::now() + PATIENCE);
    // A row that comes after the truncate is there while rows before it are still being deleted.
    for id in 100_001.. {
        let row = format!("INSERT INTO s.big VALUES ({id}, 'new')");
        client.batch_execute(&row).await.unwrap();
        let path = format!("{index}/_doc/{id}");
        while !http.get(&path).send().await.unwrap().status().is_success() {
            assert!(Instant::now() < deadline, "{}", sink.log_tail());
        }
        let swept = sink.metric(SWEPT).unwrap_or_default();
        assert!(swept < ROWS, "row {id} comes after the sweep");
        if swept > 0.0 {
            break;
        }
    }
    sink.kill().unwrap();
    let left = pipeline.search_differences(&["s.big"], "").await.unwrap();
    assert!(!left.is_empty(), "the sweep was not interrupted");

    // The truncate is read again: what is left is found.
    sink.start().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&["s.big"]).await.unwrap();
    pipeline
        .wait_sink(&mut sink, &group, &topics, PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        pipeline.search_differences(&["s.big"], "").await.unwrap(),
        Vec::<String>::new()
    );
}
