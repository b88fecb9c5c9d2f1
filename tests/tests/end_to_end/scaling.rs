//! Several instances share the work; a new group replays from the beginning.

mod standby;
mod steady;
mod turnover;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop::{self, TABLES, Workload};
use tributary_tests::stack::Stack;

const PRODUCTS: i64 = 500;
const PATIENCE: Duration = Duration::from_secs(90);

fn partitions(service: &Service) -> f64 {
    service
        .metric("tributary_sink_assigned_partitions")
        .unwrap_or_default()
}

/// Waits until these instances hold these shares of the topics' 12 partitions.
async fn wait_shares(services: &[&Service], right: impl Fn(&[f64]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shares: Vec<f64> = services.iter().map(|service| partitions(service)).collect();
        if right(&shares) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "shares {shares:?}\n{}",
            services[0].log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sink of a pipeline that runs.
fn start(pipeline: &Pipeline, kind: Kind, instance: &str, config: &str) -> Service {
    let mut service = pipeline.service(kind, instance, config).unwrap();
    service.start().unwrap();
    service
}

/// Two instances of a sink; once both have their share of the work, the first one leaves. Gives the other one.
async fn share_and_take_over(pipeline: &Pipeline, kind: Kind, config: &str) -> Service {
    let mut first = start(pipeline, kind, &format!("{kind}-first"), config);
    let second = start(pipeline, kind, &format!("{kind}-second"), config);
    wait_shares(&[&first, &second], |shares| {
        shares.iter().sum::<f64>() == 12.0 && shares.iter().all(|share| *share >= 4.0)
    })
    .await;
    assert!(first.stop(PATIENCE).unwrap().success());
    wait_shares(&[&second], |shares| shares[0] == 12.0).await;
    second
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_and_a_third_group_replays() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "scaling").await.unwrap();
    let client = pipeline.source().await.unwrap();
    client.batch_execute(shop::SCHEMA).await.unwrap();
    shop::fill(&client, PRODUCTS).await.unwrap();
    let [mut source, ..] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let workload = Arc::new(Workload::default());
    let runner = {
        let (workload, url) = (Arc::clone(&workload), pipeline.source_url.clone());
        tokio::spawn(async move { workload.run(&url, 7, PRODUCTS, 40.0).await })
    };
    let (search, warehouse) = (
        pipeline.group(Kind::SinkElastic),
        pipeline.group(Kind::SinkRedshift),
    );
    let (search_config, warehouse_config) = (
        pipeline.elastic_config(&search, ""),
        pipeline.redshift_config(&warehouse, None),
    );
    let (elastic, redshift) = tokio::join!(
        share_and_take_over(&pipeline, Kind::SinkElastic, &search_config),
        share_and_take_over(&pipeline, Kind::SinkRedshift, &warehouse_config),
    );
    workload.stop();
    runner.await.unwrap().unwrap();

    // Groups that nobody has used read everything from the beginning, into targets of their own.
    let replayed = pipeline.elastic_config("third", "third-");
    let elastic_replay = start(&pipeline, Kind::SinkElastic, "elastic-third", &replayed);
    let replayed = pipeline.redshift_config("third-warehouse", Some("third"));
    let redshift_replay = start(&pipeline, Kind::SinkRedshift, "redshift-third", &replayed);

    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&TABLES).await.unwrap();
    for (mut sink, group) in [
        (elastic, search.as_str()),
        (redshift, warehouse.as_str()),
        (elastic_replay, "third"),
        (redshift_replay, "third-warehouse"),
    ] {
        pipeline
            .wait_sink(&mut sink, group, &topics, PATIENCE)
            .await
            .unwrap();
    }
    for (schema, prefix) in [(None, ""), (Some("third"), "third-")] {
        assert_eq!(
            pipeline
                .warehouse_differences(&TABLES, schema)
                .await
                .unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            pipeline.search_differences(&TABLES, prefix).await.unwrap(),
            Vec::<String>::new()
        );
    }
}
