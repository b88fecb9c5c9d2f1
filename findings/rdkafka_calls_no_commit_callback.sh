#!/usr/bin/env bash
# The crate rdkafka, version 0.39: ConsumerContext::commit_callback says of itself that it is called after an attempt to commit offsets.
# It is called for none that was begun with CommitMode::Async, whether it succeeds or fails, however long one polls: the crate takes
# events instead of callbacks, and librdkafka makes an event only of a commit that came with a queue, which the crate gives it none of.
# librdkafka then finds nobody to tell of a failure, and writes a log line, COMMITFAIL.
# Who is hit: whoever commits in the background and commits again in the callback what has failed: a commit that a rebalance refuses is
# lost, and the group's lag stays until the next record of that partition.
# What helps: CommitMode::Sync; or ClientContext::log, which is given the line with the facility COMMITFAIL.
# Versions: rdkafka 0.39.0 (crates.io, librdkafka of its own), kafka_2.13 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes some minutes.
# Needs: bash, a JDK from 17 on, mvn, cargo, a C and C++ compiler, make.
set -euo pipefail

work=$(mktemp -d)
broker=
cleanup() {
    [ -z "$broker" ] || { kill -9 "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; }
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.4.0</version></dependency>
  </dependencies>
</project>
POM

mkdir -p commits/src
cat >commits/Cargo.toml <<'TOML'
[package]
name = "commits"
version = "0.1.0"
edition = "2021"

[dependencies]
rdkafka = "=0.39.0"
TOML
cat >commits/src/main.rs <<'RUST'
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

#[derive(Default)]
struct Heard {
    callbacks: AtomicU32,
    failed: AtomicU32,
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, _: &str) {
        self.failed.fetch_add(u32::from(facility == "COMMITFAIL"), SeqCst);
    }
}

impl ConsumerContext for Heard {
    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.callbacks.fetch_add(1, SeqCst);
    }
}

fn consumer(brokers: &str) -> BaseConsumer<Heard> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "g").set("enable.auto.commit", "false");
    config.set_log_level(RDKafkaLogLevel::Notice);
    config.create_with_context(Heard::default()).unwrap()
}

fn poll(consumers: &[&BaseConsumer<Heard>], seconds: u64, until: impl Fn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) && !until() {
        for consumer in consumers {
            let _ = consumer.poll(Duration::from_millis(50));
        }
    }
}

fn main() {
    let brokers = std::env::args().nth(1).unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic = NewTopic::new("t", 1, TopicReplication::Fixed(1));
    // The runtime of this crate's futures is a thread of its own: waiting for them wants no other.
    let created = admin.create_topics([&topic], &AdminOptions::new());
    let results = std::pin::pin!(created);
    assert!(wait(results).unwrap()[0].is_ok());

    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("t", 0, Offset::Offset(0)).unwrap();
    // Alone in its group.
    let alone = consumer(&brokers);
    alone.assign(&offsets).unwrap();
    alone.commit(&offsets, CommitMode::Async).unwrap();
    let is_committed = || {
        let asked = alone.committed(Duration::from_secs(10)).unwrap();
        asked.find_partition("t", 0).unwrap().offset() == Offset::Offset(0)
    };
    poll(&[&alone], 30, is_committed);
    assert!(is_committed(), "the first commit did not arrive");
    poll(&[&alone], 5, || false);
    let of_success = alone.context().callbacks.load(SeqCst);

    // Beside a member of the same group, whose commits alone the group takes.
    let member = consumer(&brokers);
    member.subscribe(&["t"]).unwrap();
    poll(&[&member], 30, || member.assignment().unwrap().count() == 1);
    alone.commit(&offsets, CommitMode::Async).unwrap();
    let failed = || alone.context().failed.load(SeqCst);
    poll(&[&alone, &member], 30, || failed() > 0);
    poll(&[&alone, &member], 5, || false);
    let of_failure = alone.context().callbacks.load(SeqCst) - of_success;
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    println!("rdkafka 0.39.0, librdkafka {librdkafka}");
    println!("begun with CommitMode::Async: calls of commit_callback after a success: {of_success}; after a failure: {of_failure}; COMMITFAIL lines: {}", failed());
    std::process::exit(i32::from(!(of_success == 0 && of_failure == 0 && failed() > 0)));
}

/// Runs a future to its end.
fn wait<F: std::future::Future>(mut future: std::pin::Pin<&mut F>) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
RUST
(cd commits && cargo build --quiet --release) || exit 1

mvn -q -B -DoutputDirectory="$work/jars" dependency:copy-dependencies >mvn.log 2>&1 || { cat mvn.log; exit 1; }
port() { # a port that is free now
    local candidate
    while candidate=$((RANDOM % 20000 + 20000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then echo "$candidate"; return; fi
    done
}
client_port=$(port)
controller_port=$(port)
cat >server.properties <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$client_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$client_port
controller.listener.names=CONTROLLER
log.dirs=$work/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
CONF
java -cp "jars/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c server.properties >format.log 2>&1 || { cat format.log; exit 1; }
java -Xmx384m -cp "jars/*" kafka.Kafka server.properties >broker.log 2>&1 &
broker=$!
for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$client_port") 2>/dev/null; then break; fi
    kill -0 "$broker" 2>/dev/null || { cat broker.log; exit 1; }
    sleep 0.2
done
echo "Kafka $(basename jars/kafka-clients-*.jar .jar | sed 's/kafka-clients-//')"
commits/target/release/commits "127.0.0.1:$client_port" 2>client.log || { echo "CHANGED"; tail -5 client.log; exit 1; }
