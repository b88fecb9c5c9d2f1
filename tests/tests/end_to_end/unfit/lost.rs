//! What the sinks keep of their own is lost or moved: the group's offsets, the ledger; or their targets get other names.

use rdkafka::admin::AdminOptions;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tributary_tests::service::Kind;

use super::{PATIENCE, Place, SINKS, Scene, until_equal};

const PARTITIONS: i32 = 2;
const ROWS: i32 = 60;

impl Scene {
    /// A sink of each kind has read everything; then rows have come, and gone.
    async fn behind(name: &str) -> Self {
        let mut scene = Self::with_rows(name, PARTITIONS, ROWS).await;
        for kind in SINKS {
            scene.read(kind).await;
        }
        scene.insert(ROWS + 1, ROWS + 20).await;
        scene.run("DELETE FROM s.t WHERE id <= 10").await;
        scene.published().await;
        scene
    }

    async fn delete_group(&self, kind: Kind) {
        let group = self.pipeline.group(kind);
        let options = AdminOptions::new();
        let deleted = self.admin().delete_groups(&[&group], &options).await;
        deleted.unwrap()[0].as_ref().unwrap();
    }

    /// As `kafka-consumer-groups --reset-offsets` does.
    fn reset_group(&self, kind: Kind, offset: i64) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka())
            .set("group.id", self.pipeline.group(kind))
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.topic(), partition, Offset::Offset(offset))
                .unwrap();
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_offsets_lost() {
    let scene = Scene::behind("offsets").await;
    for kind in SINKS {
        scene.delete_group(kind).await;
        scene.read(kind).await;
        scene.goes_on(kind).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_offsets_reset() {
    let scene = Scene::behind("reset").await;
    for kind in SINKS {
        scene.reset_group(kind, 0);
        scene.read(kind).await;
        scene.goes_on(kind).await;
        // Beyond the end of the log: a target that holds none of that is not gone on with.
        scene.reset_group(kind, 10_000);
        if kind == Kind::SinkElastic {
            let why = ["but the log ends at"];
            scene.stops_and_is_rebuilt(kind, &why).await;
        } else {
            // The ledger alone counts.
            scene.goes_on(kind).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_lost() {
    let scene = Scene::behind("ledger").await;
    let warehouse = scene.pipeline.warehouse().await.unwrap();
    for loss in [
        "DROP TABLE _tributary._tributary_ledger",
        "DROP SCHEMA _tributary CASCADE",
        "DELETE FROM _tributary._tributary_ledger",
    ] {
        warehouse.batch_execute(loss).await.unwrap();
        let why = ["knows no offset of topic"];
        scene.stops_and_is_rebuilt(Kind::SinkRedshift, &why).await;
        scene.goes_on(Kind::SinkRedshift).await;
    }
}

/// A sink gets another place for its rows, and then the former one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_prefix_or_warehouse_schema_changed() {
    let scene = Scene::behind("place").await;
    for kind in SINKS {
        let group = scene.pipeline.group(kind);
        let other = match kind {
            Kind::SinkElastic => scene.pipeline.elastic_config(&group, "other_"),
            _ => scene.pipeline.redshift_config(&group, Some("other_")),
        };
        let mut sink = scene.configured(kind, "other", &other);
        sink.start().unwrap();
        until_equal(&scene.pipeline, &mut sink, Place::Named("other_")).await;
        scene
            .run("INSERT INTO s.t SELECT max(id) + 1, 'new' FROM s.t")
            .await;
        until_equal(&scene.pipeline, &mut sink, Place::Named("other_")).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
        scene.goes_on(kind).await;
    }
}
