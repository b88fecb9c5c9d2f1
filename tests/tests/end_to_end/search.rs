//! The search sink and an engine of which a part fails.

mod documents;
mod sweeps;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::shop;
use tributary_tests::stack::Stack;

/// The tables that `shop::fill` fills.
const TABLES: [&str; 2] = ["catalog.product", "inventory.stock"];
const PATIENCE: Duration = Duration::from_secs(90);

/// A node that answers 503 to each request; its URL.
async fn node_of_503() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer_503(connection));
        }
    });
    url
}

async fn answer_503(mut connection: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let body = loop {
        if connection.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(end) = request.windows(4).position(|part| part == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&request[..body]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    // A client that still sends would see a broken connection instead of the answer.
    while request.len() < body + length && connection.read_buf(&mut request).await? > 0 {}
    connection
        .write_all(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_node_always_503() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "nodes").await.unwrap();
    let client = pipeline.source().await.unwrap();
    client.batch_execute(shop::SCHEMA).await.unwrap();
    shop::fill(&client, 100).await.unwrap();
    let [mut source, ..] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();

    let bad = node_of_503().await;
    let group = pipeline.group(Kind::SinkElastic);
    let config = pipeline.elastic_config(&group, "");
    let config = config.replace("\nurl = \"", &format!("\nurl = \"{bad},"));
    let mut sink = pipeline
        .service(Kind::SinkElastic, "elastic", &config)
        .unwrap();
    let (code, out, _) = sink.command(&["check"]).unwrap();
    assert_eq!(code, 0, "{out}");
    let host = bad.trim_start_matches("http://");
    assert!(out.contains(host), "{out}");

    sink.start().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&TABLES).await.unwrap();
    pipeline
        .wait_sink(&mut sink, &group, &topics, PATIENCE)
        .await
        .unwrap();
    sink.wait_ready(PATIENCE).unwrap();
    let (_, status) = sink.get("/status").unwrap();
    assert!(status.contains(&format!("{host} answers 503")), "{status}");
    assert_eq!(
        pipeline.search_differences(&TABLES, "").await.unwrap(),
        Vec::<String>::new()
    );
}
