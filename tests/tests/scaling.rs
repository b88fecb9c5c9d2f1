//! Several instances share the work; a new group replays from the beginning.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_and_a_third_group_replays() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "scaling").await.unwrap();
    let client = pipeline.source().await.unwrap();
    client.batch_execute(shop::SCHEMA).await.unwrap();
    shop::fill(&client, PRODUCTS).await.unwrap();
    let [mut source, mut elastic, mut redshift] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let workload = Arc::new(Workload::default());
    let runner = {
        let (workload, url) = (Arc::clone(&workload), pipeline.source_url.clone());
        tokio::spawn(async move { workload.run(&url, 7, PRODUCTS, 40.0).await })
    };

    let second = |kind, config: String| {
        let mut service = pipeline
            .service(kind, &format!("{kind}-second"), &config)
            .unwrap();
        service.start().unwrap();
        service
    };
    elastic.start().unwrap();
    redshift.start().unwrap();
    let mut elastic_2 = second(
        Kind::SinkElastic,
        pipeline.elastic_config(&pipeline.group(Kind::SinkElastic), ""),
    );
    let mut redshift_2 = second(
        Kind::SinkRedshift,
        pipeline.redshift_config(&pipeline.group(Kind::SinkRedshift), None),
    );
    for pair in [[&elastic, &elastic_2], [&redshift, &redshift_2]] {
        wait_shares(&pair, |shares| {
            shares.iter().sum::<f64>() == 12.0 && shares.iter().all(|share| *share >= 4.0)
        })
        .await;
    }
    // The first ones leave in the middle of the work; the others take over all of it.
    assert!(elastic.stop(PATIENCE).unwrap().success());
    assert!(redshift.stop(PATIENCE).unwrap().success());
    for rest in [&elastic_2, &redshift_2] {
        wait_shares(&[rest], |shares| shares[0] == 12.0).await;
    }
    workload.stop();
    runner.await.unwrap().unwrap();

    // A group that nobody has used reads everything from the beginning, into targets of its own.
    let mut elastic_3 = pipeline
        .service(
            Kind::SinkElastic,
            "elastic-third",
            &pipeline.elastic_config("third", "third-"),
        )
        .unwrap();
    let mut redshift_3 = pipeline
        .service(
            Kind::SinkRedshift,
            "redshift-third",
            &pipeline.redshift_config("third-warehouse", Some("third")),
        )
        .unwrap();
    elastic_3.start().unwrap();
    redshift_3.start().unwrap();

    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&TABLES).await.unwrap();
    for (sink, group) in [
        (&mut elastic_2, pipeline.group(Kind::SinkElastic)),
        (&mut redshift_2, pipeline.group(Kind::SinkRedshift)),
        (&mut elastic_3, "third".to_owned()),
        (&mut redshift_3, "third-warehouse".to_owned()),
    ] {
        pipeline
            .wait_sink(sink, &group, &topics, PATIENCE)
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
