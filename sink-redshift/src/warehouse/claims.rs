//! What an instance may write of a topic: the partitions that it has taken, compared with what the ledger says of them now.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tributary_engine::TopicPartition;
use tributary_runtime::Error;

use crate::warehouse::batch::Changes;
use crate::warehouse::failure::Failure;
use crate::warehouse::ledger::{Entry, Ledger, Progress};

/// The partitions of a topic that this instance has taken.
pub(crate) struct Claims {
    topic: String,
    taken: Mutex<BTreeMap<i32, Claim>>,
}

/// What the ledger has said of a partition that was taken.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    epoch: i64,
    /// It has said that everything below is committed.
    durable: i64,
}

impl Claims {
    /// None yet.
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            taken: Mutex::new(BTreeMap::new()),
        }
    }

    /// A partition of the topic.
    pub(crate) fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition,
        }
    }

    /// The partition was taken with this entry.
    pub(crate) fn take(&self, partition: i32, entry: &Entry) {
        let claim = Claim {
            epoch: entry.epoch,
            durable: entry.place(),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(partition, claim);
    }

    /// What is committed now.
    pub(crate) fn committed(&self, progress: &[Progress]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in progress {
            if let Some(claim) = taken.get_mut(&partition.partition) {
                claim.durable = claim.durable.max(partition.next_offset);
            }
        }
    }

    /// Where partitions stand whose rows in the ledger the transaction has locked.
    ///
    /// # Errors
    /// Somebody else has taken one of them, a row is gone, or the warehouse has gone back in time.
    pub(crate) fn judge(
        &self,
        ledger: &Ledger,
        partitions: &[i32],
        locked: &[(i32, Entry)],
    ) -> Result<Places, Failure> {
        let entries: BTreeMap<i32, Entry> = locked.iter().copied().collect();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            let Some(entry) = entries.get(partition) else {
                return Err(Error::stop_msg(format_args!(
                    "the ledger {} has lost the row of {}",
                    ledger.name(),
                    self.at(*partition)
                ))
                .remedy("start again; the table asks for a rebuild where that is needed")
                .into());
            };
            let Claim {
                epoch: ours,
                durable,
            } = taken.get(partition).copied().unwrap_or_default();
            if entry.epoch == ours && entry.place() < durable {
                let error = self.went_back(ledger, *partition, entry, durable);
                return Err(Failure::TakenOver(error));
            }
            if entry.epoch != ours {
                let error = Error::retry_msg(format_args!(
                    "another instance has taken {} over (epoch {}, ours is {ours})",
                    self.at(*partition),
                    entry.epoch
                ))
                .remedy(
                    "nothing while the consumer group rebalances; otherwise look for a second service of this name",
                );
                return Err(Failure::TakenOver(error));
            }
        }
        Ok(Places(entries))
    }

    /// A server that took another one's place, or was restored, lacks what was committed: the partition is taken again, and read from
    /// where this one stands.
    fn went_back(&self, ledger: &Ledger, partition: i32, entry: &Entry, durable: i64) -> Error {
        Error::retry_msg(format_args!(
            "the ledger {} stands at offset {} of {}, and offset {durable} was committed: the warehouse has gone back in time",
            ledger.name(),
            entry.place(),
            self.at(partition),
        ))
        .remedy("nothing: what it lacks is read again")
    }
}

/// Where the partitions of a transaction stand.
pub(crate) struct Places(BTreeMap<i32, Entry>);

impl Places {
    /// Whether any of them has written into the table.
    pub(crate) fn are_loaded(&self) -> bool {
        self.0.values().any(|entry| entry.loaded)
    }

    /// What of a batch is in the table already, because the ledger covers it.
    pub(crate) fn covered(&self, batch: &impl Changes) -> i64 {
        if batch.is_replay() {
            return 0;
        }
        self.place(batch)
    }

    /// How far the batch brings its partition; the ledger never goes back.
    pub(crate) fn behind(&self, batch: &impl Changes) -> Progress {
        Progress {
            partition: batch.partition(),
            next_offset: batch.next_offset().max(self.place(batch)),
        }
    }

    fn place(&self, batch: &impl Changes) -> i64 {
        self.0.get(&batch.partition()).map_or(0, Entry::place)
    }
}

#[cfg(test)]
mod tests {
    use tributary_runtime::Policy;

    use super::{Claims, Entry, Failure, Ledger, Progress};
    use crate::warehouse::name::Qualified;

    /// What a claim of epoch 3 at offset 10 leads to, with 20 committed since, where the ledger says this.
    fn judged(locked: &[(i32, Entry)]) -> Result<bool, Failure> {
        let ledger = Ledger::new(Qualified::new("s", "ledger"), "service");
        let claims = Claims::new("t");
        claims.take(1, &entry(3, 10));
        claims.committed(&[Progress {
            partition: 1,
            next_offset: 20,
        }]);
        claims
            .judge(&ledger, &[1], locked)
            .map(|places| places.are_loaded())
    }

    fn entry(epoch: i64, next_offset: i64) -> Entry {
        Entry {
            epoch,
            next_offset: Some(next_offset),
            loaded: true,
        }
    }

    #[test]
    fn a_claim_holds_while_the_ledger_says_so() {
        for (locked, part) in [
            ([(1, entry(4, 20))], "another instance has taken t[1] over"),
            ([(1, entry(3, 19))], "gone back in time"),
        ] {
            match judged(&locked) {
                Err(Failure::TakenOver(error)) => assert!(error.to_string().contains(part)),
                other => panic!("{part}: {other:?}"),
            }
        }
        let lost = judged(&[(2, entry(3, 20))]).map_err(Failure::into_error);
        assert_eq!(lost.map_err(|error| error.policy()), Err(Policy::Stop));
        assert!(judged(&[(1, entry(3, 20))]).is_ok_and(|loaded| loaded));
    }
}
