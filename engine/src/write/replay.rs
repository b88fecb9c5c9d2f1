//! What somebody has asked to be replayed, one partition's letters after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tributary_runtime::{Error, Result};

use crate::config::BatchConfig;
use crate::lock::lock;
use crate::topics::TopicPartition;
use crate::write::scan::Ranges;

/// The request that begins a replay.
pub(crate) const REQUEST: &str = "replay";

/// The part of what all lanes may hold together that a replay may hold.
const SHARE: usize = 4;

/// How many bytes a replay may hold: a part of all, and no more than a batch.
pub(crate) fn room(batch: BatchConfig) -> usize {
    batch.bytes.min(batch.buffer_bytes / SHARE)
}

/// The letters of one partition, and where they stand in the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) letters: Ranges,
    /// Those without a key are among them. An earlier version orders only those that have one.
    #[serde(default)]
    pub(crate) keyless: bool,
}

/// What has become of the keys of letters; each is counted once in a pass over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The letter was the key's newest record, and is written.
    pub(crate) applied: u64,
    /// The log has something newer of the key, which is what the target has.
    pub(crate) superseded: u64,
    /// The key's newest record cannot be written, and was put aside again.
    pub(crate) put_aside: u64,
    /// The log has no record of the key any more.
    pub(crate) gone: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.applied += more.applied;
        self.superseded += more.superseded;
        self.put_aside += more.put_aside;
        self.gone += more.gone;
    }
}

/// How the replay of a partition's letters has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fate {
    Replayed,
    /// This instance does not have the partition.
    NotHeld,
    Paused,
    /// The partition was given away, or the sink ends; nothing is lost.
    Interrupted,
    Failed,
}

/// The end of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) state: Fate,
    pub(crate) reason: Option<String>,
    #[serde(flatten)]
    pub(crate) counts: Counts,
}

/// The replay that this process was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// Counts them; 0 before the first.
    run: u64,
    waiting: VecDeque<Order>,
    /// The partition whose turn it is.
    at: Option<TopicPartition>,
    ended: Vec<Verdict>,
}

/// An order under way. Dropped before its end, it was interrupted.
#[derive(Debug)]
pub(crate) struct Ticket {
    replays: Arc<Replays>,
    pub(crate) order: Order,
    has_ended: bool,
}

impl Replays {
    /// Whether one has not ended.
    #[cfg(test)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.asked().is_under_way()
    }

    /// Asks for a replay; returns its number.
    ///
    /// # Errors
    /// Stop: another one is under way.
    pub(crate) fn ask(&self, orders: Vec<Order>) -> Result<u64> {
        let mut asked = self.asked();
        if asked.is_under_way() {
            return Err(Error::stop_msg("a replay is under way already")
                .remedy("wait until it has ended: `status --output json` has it as `replay`"));
        }
        *asked = Asked {
            run: asked.run + 1,
            waiting: orders.into(),
            at: None,
            ended: Vec::new(),
        };
        Ok(asked.run)
    }

    /// The next order, once the one before it has ended.
    pub(crate) fn next(self: &Arc<Self>) -> Option<Ticket> {
        let mut asked = self.asked();
        if asked.at.is_some() {
            return None;
        }
        let order = asked.waiting.pop_front()?;
        asked.at = Some(order.at());
        Some(Ticket {
            replays: Arc::clone(self),
            order,
            has_ended: false,
        })
    }

    /// For programs; null before the first.
    pub(crate) fn report(&self) -> Value {
        let asked = self.asked();
        match asked.run {
            0 => Value::Null,
            run => json!({
                "run": run,
                "is_under_way": asked.is_under_way(),
                "at": asked.at.as_ref().map(ToString::to_string),
                "partitions": asked.ended,
            }),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        lock(&self.0)
    }
}

impl Asked {
    fn is_under_way(&self) -> bool {
        self.at.is_some() || !self.waiting.is_empty()
    }
}

impl Order {
    /// The partition that the letters were in.
    pub(crate) fn at(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: self.partition,
        }
    }
}

impl Ticket {
    /// The order has ended.
    pub(crate) fn end(mut self, state: Fate, reason: Option<String>, counts: Counts) {
        self.note(state, reason, counts);
    }

    fn note(&mut self, state: Fate, reason: Option<String>, counts: Counts) {
        self.has_ended = true;
        let mut asked = self.replays.asked();
        asked.at = None;
        asked.ended.push(Verdict {
            topic: self.order.topic.clone(),
            partition: self.order.partition,
            state,
            reason,
            counts,
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.has_ended {
            self.note(Fate::Interrupted, None, Counts::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Counts, Fate, Order, Replays};
    use crate::write::scan::Ranges;

    fn order(partition: i32) -> Order {
        Order {
            topic: "t".to_owned(),
            partition,
            letters: Ranges::from([(0, (1, 5))]),
            keyless: true,
        }
    }

    #[test]
    fn orders_are_carried_out_one_after_the_other() {
        let replays = Arc::new(Replays::default());
        assert!(replays.report().is_null() && replays.next().is_none());
        assert_eq!(replays.ask(vec![order(0), order(1)]).unwrap(), 1);
        assert!(replays.ask(vec![order(2)]).is_err());
        let first = replays.next().unwrap();
        assert!(replays.next().is_none());
        first.end(Fate::Replayed, None, Counts::default());
        // One that nobody has ended was interrupted.
        drop(replays.next().unwrap());
        let report = replays.report();
        assert_eq!(report["is_under_way"], false);
        assert_eq!(report["partitions"][0]["state"], "replayed");
        assert_eq!(report["partitions"][1]["state"], "interrupted");
        assert_eq!(replays.ask(Vec::new()).unwrap(), 2);
    }

    #[test]
    fn an_order_is_json() {
        let text = serde_json::to_string(&order(3)).unwrap();
        let before = r#"{"topic":"t","partition":3,"letters":{"0":[1,5]}}"#;
        assert_eq!(text, before.replace("}}", r#"},"keyless":true}"#));
        let read = |text: &str| serde_json::from_str::<Order>(text).unwrap();
        assert_eq!(read(&text), order(3));
        assert!(!read(before).keyless, "of an earlier version");
    }
}
