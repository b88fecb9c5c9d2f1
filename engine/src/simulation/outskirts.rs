//! The schema registry, and where records are put aside.

use std::pin::Pin;

use tributary_runtime::Result;
use tributary_runtime::registry::Schema;

use crate::flow::fault::RecordFault;
use crate::flow::plans::Schemas;
use crate::flow::records::Record;
use crate::sample::{KEY_ID, KEY_SCHEMA, TRUNCATE_ID, TRUNCATE_SCHEMA, VALUE_ID, VALUE_SCHEMA};
use crate::topics::TopicPartition;
use crate::write::dead_letter::{Gathered, Letters, Put, Search};
use crate::write::replay::Order;

use super::letterbox::Letter;
use super::log::place;
use super::scene::{Scene, Server};
use super::trace::Step;

/// The registry, or the dead-letter topic, as one instance has it.
#[derive(Debug, Clone)]
pub(super) struct Outskirts {
    scene: Scene,
    who: usize,
}

impl Outskirts {
    pub(super) fn new(scene: &Scene, who: usize) -> Self {
        Self {
            scene: scene.clone(),
            who,
        }
    }
}

impl Schemas for Outskirts {
    fn schema(&self, id: u32) -> Pin<Box<dyn Future<Output = Result<Option<Schema>>> + Send + '_>> {
        Box::pin(async move {
            self.scene.way(self.who, Server::Registry).await?;
            let mut world = self.scene.world();
            let is_behind = !world.faults.are_over && world.dice.chance(50);
            let schema = match id {
                KEY_ID => KEY_SCHEMA,
                TRUNCATE_ID => TRUNCATE_SCHEMA,
                VALUE_ID => VALUE_SCHEMA,
                _ => return Ok(None),
            };
            Ok((!is_behind).then(|| Schema::Avro(schema.to_owned())))
        })
    }

    /// Half the time nobody has registered one yet.
    fn latest<'a>(
        &'a self,
        subject: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>>> + Send + 'a>> {
        Box::pin(async move {
            self.scene.way(self.who, Server::Registry).await?;
            let is_there = self.scene.world().dice.chance(500);
            let schema = if subject.ends_with("-key") {
                KEY_SCHEMA
            } else {
                VALUE_SCHEMA
            };
            Ok(is_there.then(|| schema.to_owned()))
        })
    }
}

impl Letters for Outskirts {
    fn put<'a>(
        &'a self,
        partition: &'a TopicPartition,
        record: Record<'a>,
        fault: &'a RecordFault,
    ) -> Put<'a> {
        Box::pin(async move {
            self.scene.way(self.who, Server::Kafka).await?;
            {
                let mut world = self.scene.world();
                let (who, at, offset) = (self.who, place(partition), record.offset);
                world.step(Step::PutAside { who, at, offset });
                world.letterbox.put(Letter {
                    at,
                    offset,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    error: fault.what.clone(),
                });
                world.stores[at.0].do_without(at.1, offset);
            }
            self.scene.way(self.who, Server::Kafka).await
        })
    }

    fn gather(&self, search: Search) -> Gathered<'_> {
        Box::pin(async move {
            self.scene.way(self.who, Server::Kafka).await?;
            let mut keys = self.scene.world().letterbox.keys(self.who, &search);
            self.scene.way(self.who, Server::Kafka).await?;
            let (topic, partition) = place(&search.order.at());
            let world = self.scene.world();
            let log = world.topics[topic].partition(partition);
            let from = keys.from().unwrap_or(search.until).max(log.low());
            for entered in (from..search.until).filter_map(|offset| log.get(offset)) {
                keys.take(&entered.message());
                keys.check_room()?;
            }
            Ok(keys.finish(&search.order.letters, search.until))
        })
    }

    fn note_replayed<'a>(&'a self, order: &'a Order) -> Put<'a> {
        Box::pin(async move {
            self.scene.way(self.who, Server::Kafka).await?;
            {
                let mut world = self.scene.world();
                let (who, at) = (self.who, place(&order.at()));
                world.step(Step::Replayed { who, at });
                world.letterbox.note_replayed(order);
            }
            self.scene.way(self.who, Server::Kafka).await
        })
    }
}
