//! An instance that has no partition.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::{PATIENCE, partitions, start};

/// The members of a group that has settled.
fn members(stack: &Stack, group: &str) -> Option<usize> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", stack.kafka());
    let client: BaseConsumer = client.create().unwrap();
    let groups = client.fetch_group_list(Some(group), PATIENCE).ok()?;
    let [group] = groups.groups() else {
        return None;
    };
    (group.state() == "Stable").then(|| group.members().len())
}

/// The group would wait for one that has not said that it leaves, and give nobody anything meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_that_it_leaves() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "standby").await.unwrap();
    pipeline
        .create_topic(&pipeline.topic("s.t"), 1)
        .await
        .unwrap();
    let group = pipeline.group(Kind::SinkRedshift);
    let config = pipeline.redshift_config(&group, None);
    let mut sinks =
        ["one", "other"].map(|name| start(&pipeline, Kind::SinkRedshift, name, &config));
    let begun = Instant::now();
    while members(&stack, &group) != Some(2) || sinks.iter().map(partitions).sum::<f64>() != 1.0 {
        assert!(begun.elapsed() < PATIENCE, "{}", sinks[0].log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let standby = sinks.iter_mut().find(|sink| partitions(sink) == 0.0);
    assert!(standby.unwrap().stop(PATIENCE).unwrap().success());
    let begun = Instant::now();
    let left = loop {
        if let Some(members) = members(&stack, &group) {
            break members;
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert_eq!(left, 1);
}
