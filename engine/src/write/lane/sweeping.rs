//! Rows that a truncate or a re-snapshot has left behind are deleted beside the lane's writes, a bounded piece at a time.
//!
//! A record that says so counts as written at once, and what follows it is written meanwhile. It is durable once a sweep has ended
//! that began after it was read: until then the group's offset stays in front of it, so whoever comes next reads it again.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_runtime::Result;

use super::held::Held;
use crate::figures::Figures;
use crate::status::On;
use crate::target::{Lane as _, Swept, Target};
use crate::write::attempts::Attempts;
use crate::write::ground::Ground;
use crate::write::hold::Hold;
use crate::write::instance::Instance;

/// What a lane sweeps, and what it is going to.
///
/// Each partition has a record of its own that says the same; those that were read when a sweep begins share it.
#[derive(Debug)]
pub(super) struct Sweeping {
    /// Ends the waits of a piece that nobody wants any more; dropped before [`Sweeping::piece`].
    _waits: DropGuard,
    cancel: CancellationToken,
    /// For the sweep under way.
    swept: Vec<Due>,
    /// For the next one.
    waiting: Vec<Due>,
    /// The one piece under way.
    piece: JoinSet<Result<Swept>>,
}

/// What a partition's record asks for.
#[derive(Debug)]
struct Due {
    hold: Arc<Hold>,
    below: u64,
    /// What is durable without it.
    before: i64,
}

impl Sweeping {
    pub(super) fn new() -> Self {
        let cancel = CancellationToken::new();
        Self {
            _waits: cancel.clone().drop_guard(),
            cancel,
            swept: Vec::new(),
            waiting: Vec::new(),
            piece: JoinSet::new(),
        }
    }

    /// The rows below are to go: a record behind `before` says so.
    pub(super) fn add(&mut self, hold: &Arc<Hold>, below: u64, before: i64) {
        let hold = Arc::clone(hold);
        self.waiting.push(Due {
            hold,
            below,
            before,
        });
    }

    /// How far the partition is durable at most; `None` where that is all that was written.
    pub(super) fn bound(&self, hold: &Arc<Hold>) -> Option<i64> {
        #[cfg(test)]
        if crate::outside::given::has(crate::outside::given::Flaw::Unswept) {
            return None;
        }
        let all = self.swept.iter().chain(&self.waiting);
        let ours = all.filter(|due| Arc::ptr_eq(&due.hold, hold));
        ours.map(|due| due.before).min()
    }

    /// What was written of the partition is durable, as far as no sweep is still to come.
    pub(super) fn advance(&self, held: &mut Held) {
        held.advance(self.bound(&held.hold).unwrap_or(held.accepted));
    }

    /// Whether nothing of the partition waits to be made durable. What waits for a sweep is left to the next holder.
    pub(super) fn is_settled(&self, held: &Held) -> bool {
        held.durable == held.accepted || self.bound(&held.hold).is_some()
    }

    /// Begins the next piece, of the next sweep if none is under way.
    pub(super) fn go_on<T: Target>(
        &mut self,
        instance: &Arc<Instance<T>>,
        ground: &Arc<Ground<T::Lane>>,
        topic: &Arc<str>,
        figures: &Figures,
        failed: &Arc<Notify>,
    ) {
        if !self.piece.is_empty() {
            return;
        }
        let below = self.next();
        figures.sweeps(below.is_some());
        if let Some(below) = below {
            let piece = Piece {
                instance: Arc::clone(instance),
                ground: Arc::clone(ground),
                who: format!("{topic}[sweep]"),
                failed: Arc::clone(failed),
                cancel: self.cancel.clone(),
            };
            self.piece.spawn(piece.run(below));
        }
    }

    /// The boundary of the sweep under way, or of the next one, which begins then.
    fn next(&mut self) -> Option<u64> {
        if self.swept.is_empty() {
            // Who has let go of a partition leaves it to the next holder.
            self.waiting.retain(|due| !due.hold.has_left());
            std::mem::swap(&mut self.swept, &mut self.waiting);
        }
        self.swept.iter().map(|due| due.below).max()
    }

    /// Waits for the piece under way.
    pub(super) async fn ended(&mut self) -> Option<std::result::Result<Result<Swept>, JoinError>> {
        self.piece.join_next().await
    }

    /// The sweep has ended.
    pub(super) fn finish(&mut self) {
        self.swept.clear();
    }
}

/// One piece of a sweep. It holds no place of a write.
struct Piece<T: Target> {
    instance: Arc<Instance<T>>,
    ground: Arc<Ground<T::Lane>>,
    /// Named as a part of the topic, so that `status` shows what is in the way.
    who: String,
    /// Told where it fails: the target may be another one than before, or gone.
    failed: Arc<Notify>,
    cancel: CancellationToken,
}

impl<T: Target> Piece<T> {
    async fn run(self, below: u64) -> Result<Swept> {
        let mut attempts = Attempts::new(&self.who, &self.instance.status, &self.cancel);
        loop {
            attempts
                .unless_cancelled(self.instance.lease.held())
                .await?;
            match self.ground.lane.sweep(below).await {
                Ok(swept) => {
                    attempts.succeeded();
                    return Ok(swept);
                }
                Err(error) => {
                    self.failed.notify_one();
                    attempts.wait_after(On::Target, error).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Sweeping;
    use crate::topics::TopicPartition;
    use crate::write::hold::Hold;

    fn hold(partition: i32) -> Arc<Hold> {
        let topic = "a.b.c".to_owned();
        Arc::new(Hold::new(TopicPartition { topic, partition }))
    }

    /// However many partitions say the same: those that come while a sweep is under way share the next one.
    #[test]
    fn partitions_share_a_sweep() {
        let holds: Vec<_> = (0..8).map(hold).collect();
        let mut sweeping = Sweeping::new();
        sweeping.add(&holds[0], 50, 7);
        assert_eq!(sweeping.next(), Some(50));
        for hold in &holds[1..] {
            sweeping.add(hold, 50, 9);
        }
        sweeping.add(&holds[0], 60, 20);
        assert_eq!(sweeping.next(), Some(50), "it is not begun anew");
        assert_eq!(sweeping.bound(&holds[0]), Some(7));
        sweeping.finish();
        // What follows the first record is durable up to the second one.
        assert_eq!(sweeping.bound(&holds[0]), Some(20));
        assert_eq!(sweeping.next(), Some(60));
        sweeping.finish();
        assert_eq!(sweeping.next(), None);
        assert!(holds.iter().all(|hold| sweeping.bound(hold).is_none()));
    }

    #[test]
    fn a_partition_that_was_let_go_asks_for_nothing() {
        let (one, other) = (hold(0), hold(0));
        let mut sweeping = Sweeping::new();
        sweeping.add(&one, 50, 7);
        one.set_left();
        assert_eq!(sweeping.next(), None);
        // Taken again, it is another one.
        assert_eq!(sweeping.bound(&other), None);
    }
}
