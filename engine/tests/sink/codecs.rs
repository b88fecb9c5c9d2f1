//! What Kafka has compressed, and what does not decompress.

use std::fs;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::producer::FutureProducer;

use crate::double::Target;
use crate::stage::{Stage, start};

/// All that a broker takes (`org.apache.kafka.common.record.CompressionType`).
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

impl Stage {
    /// The stage with a producer of this codec.
    fn compressing(mut self, codec: &str) -> Self {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka().brokers.join(","))
            .set("compression.codec", codec)
            .set("linger.ms", "100")
            .create()
            .unwrap();
        self.producer = producer;
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_compressed_with_zstd_is_read() {
    let mut stage = Stage::new("codecs").await;
    let topics: Vec<_> = CODECS.iter().map(|codec| stage.topic(codec)).collect();
    for (topic, codec) in topics.iter().zip(CODECS) {
        // The broker compresses anew what comes in another form than the topic's.
        stage
            .create_with(topic, 1, &[("compression.type", codec)])
            .await;
    }
    let target = Target::new();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let sink = start(stage.config(&topics), target.clone());
    for (base, (topic, codec)) in (0..).step_by(1_000).zip(topics.iter().zip(CODECS)) {
        let records = (0..10).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(topic, 0, records).await;
        stage = stage.compressing(codec);
        let records = (10..20).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(topic, 0, records).await;
    }
    target
        .until("all rows", |state| state.rows.len() == 80)
        .await;
    assert_eq!(sink.health.not_ready(), None);
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_stop_the_sink() {
    let stage = Stage::new("damaged").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..20).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records).await;
    damage(&segment_of(&topic));

    let error = start(stage.config(&[&topic]), Target::new()).stops().await;
    let message = error.to_string();
    assert!(
        message.starts_with(&format!(
            "read the topics, {topic}[0] at offset 0: MessageSet"
        )) && message.contains("; to do: the records are damaged where the broker keeps them"),
        "{message}"
    );
}

/// The file that holds a topic's first records.
fn segment_of(topic: &str) -> PathBuf {
    let stack = std::env::var("TRIBUTARY_STACK_DIR").unwrap();
    let name = format!("{topic}-0");
    let mut folders = vec![PathBuf::from(stack)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().is_dir()) {
            if entry.file_name().to_str() == Some(&name) {
                return entry.path().join("00000000000000000000.log");
            }
            folders.push(entry.path());
        }
    }
    panic!("{topic} is not in the stack's folder")
}

/// Turns a bit of a record's value; what describes the records (61 bytes, of which the broker looks at some) stays.
fn damage(segment: &Path) {
    let mut bytes = fs::read(segment).unwrap();
    assert!(bytes.len() > 120, "{} bytes", bytes.len());
    bytes[100] ^= 1;
    // In place: the broker has the file open.
    let mut file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
}
