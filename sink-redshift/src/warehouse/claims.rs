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

    /// What the ledger has said of the partitions until now, for a look at it that begins later.
    pub(crate) fn told(&self) -> Told {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        Told {
            topic: self.topic.clone(),
            claims: taken.clone(),
        }
    }

    /// Where partitions stand whose rows in the ledger the transaction has locked.
    ///
    /// # Errors
    /// Somebody else has taken one of them, or the warehouse has gone back in time.
    pub(crate) fn judge(
        &self,
        ledger: &Ledger,
        partitions: &[i32],
        locked: &[(i32, Entry)],
    ) -> Result<Places, Failure> {
        let entries: BTreeMap<i32, Entry> = locked.iter().copied().collect();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            let claim = taken.get(partition).copied().unwrap_or_default();
            let entry = entries.get(partition);
            if claim.is_lost(entry) {
                let error = went_back(ledger, &self.at(*partition), entry, claim);
                return Err(Failure::TakenOver(error));
            }
            let ours = claim.epoch;
            if let Some(entry) = entry
                && entry.epoch != ours
            {
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
}

impl Claim {
    /// Whether the ledger says less than it has said. A higher epoch is another holder's.
    fn is_lost(self, entry: Option<&Entry>) -> bool {
        entry.is_none_or(|entry| {
            entry.epoch < self.epoch || (entry.epoch == self.epoch && entry.place() < self.durable)
        })
    }
}

/// What the ledger had said of a topic's partitions at some time.
pub(crate) struct Told {
    topic: String,
    claims: BTreeMap<i32, Claim>,
}

impl Told {
    /// The first partition of which the ledger says less now; `rows` are those of all partitions.
    pub(crate) fn lost(&self, ledger: &Ledger, rows: &[(i32, Entry)]) -> Option<Error> {
        let rows: BTreeMap<i32, &Entry> = rows.iter().map(|(at, entry)| (*at, entry)).collect();
        let mut claims = self.claims.iter();
        let (&partition, &claim) =
            claims.find(|(at, claim)| claim.is_lost(rows.get(at).copied()))?;
        let at = TopicPartition {
            topic: self.topic.clone(),
            partition,
        };
        Some(went_back(ledger, &at, rows.get(&partition).copied(), claim))
    }
}

/// A server that took another one's place, or was restored, lacks what was committed: the partition is taken again, and read from
/// where this one stands.
fn went_back(ledger: &Ledger, at: &TopicPartition, entry: Option<&Entry>, claim: Claim) -> Error {
    let (ledger, durable) = (ledger.name(), claim.durable);
    let stands = match entry {
        None => format!("has lost the row of {at}"),
        Some(entry) => format!("stands at offset {} of {at}", entry.place()),
    };
    Error::retry_msg(format_args!(
        "the ledger {ledger} {stands}, and offset {durable} was committed: the warehouse has gone back in time"
    ))
    .remedy("nothing: what it lacks is read again")
}

/// Where the partitions of a transaction stand.
pub(crate) struct Places(BTreeMap<i32, Entry>);

impl Places {
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
    use super::{Claims, Entry, Failure, Ledger, Progress, Told};
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
            .map(|places| !places.0.is_empty())
    }

    /// What was committed before a look began is missing in what it finds; what another holder did is not.
    #[test]
    fn a_look_finds_what_the_ledger_has_lost() {
        let ledger = Ledger::new(Qualified::new("s", "ledger"), "service");
        let claims = Claims::new("t");
        claims.take(1, &entry(3, 10));
        claims.take(2, &entry(1, 5));
        let told = claims.told();
        claims.committed(&[Progress {
            partition: 1,
            next_offset: 20,
        }]);
        let lost = |told: &Told, first: i64| {
            let rows = [(1, entry(3, first)), (2, entry(2, 0))];
            told.lost(&ledger, &rows).is_some()
        };
        assert!(!lost(&told, 10));
        assert!(lost(&told, 9));
        assert!(lost(&claims.told(), 19));
        assert!(told.lost(&ledger, &[(1, entry(3, 10))]).is_some());
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
            ([(1, entry(2, 20))], "gone back in time"),
            ([(2, entry(3, 20))], "lost the row of t[1]"),
        ] {
            match judged(&locked) {
                Err(Failure::TakenOver(error)) => assert!(error.to_string().contains(part)),
                other => panic!("{part}: {other:?}"),
            }
        }
        assert!(judged(&[(1, entry(3, 20))]).is_ok_and(|held| held));
    }
}
