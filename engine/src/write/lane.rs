//! A lane at work: the partitions of one topic that this instance holds, written together.
//!
//! It works as group commit does: while one write is under way the next one fills, so load makes writes larger instead of
//! queues longer, and a light load waits for nobody. A lane that cannot go on holds back nobody but itself.

mod founding;
mod held;
mod keeping;
mod opening;
mod replaying;
mod settling;
mod sweeping;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, OnceCell};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Result};

use crate::cluster::Cluster;
use crate::flow::inbox::{Inbox, Taken};
use crate::flow::plans::Plans;
use crate::target::{Lane as _, Swept, Target};
use crate::write::account::Account;
use crate::write::ground::{Ground, is_another};
use crate::write::hold::Hold;
use crate::write::instance::Instance;
use crate::write::job::{Ended, Job, Turn, Turns};
use crate::write::replay::Ticket;
use crate::write::work::{Share, Work};
use founding::Founding;
use held::Held;
use keeping::Keeping;
use opening::Opening;
use replaying::Replaying;
use sweeping::Sweeping;

/// What the poll thread asks of a lane.
#[derive(Debug)]
enum Command {
    /// The partition was assigned, or is taken again for a replay.
    Take(Arc<Hold>, Option<Ticket>),
    /// The partition is to be let go: what is under way is finished, nothing else begins.
    Leave(i32),
}

/// A lane, as the poll thread has it. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LaneHandle {
    commands: UnboundedSender<Command>,
    pub(crate) inbox: Arc<Inbox>,
}

/// The state of the lane's task.
struct LaneTask<T: Target, C> {
    instance: Arc<Instance<T>>,
    cluster: C,
    topic: Arc<str>,
    account: Arc<Account>,
    inbox: Arc<Inbox>,
    /// Set by the first partition that is opened.
    ground: Arc<OnceCell<Arc<Ground<T::Lane>>>>,
    keeping: Keeping,
    sweeping: Sweeping,
    founding: Founding,
    /// Told of writes that have failed.
    failed: Arc<Notify>,
    held: BTreeMap<i32, Held>,
    opening: JoinSet<(Arc<Hold>, Result<i64>)>,
    jobs: JoinSet<Ended>,
    turns: Turns,
    /// The partitions of the jobs and replays under way, and how to interrupt each.
    busy: BTreeMap<i32, CancellationToken>,
    /// What interrupted jobs had not written.
    unwritten: VecDeque<Work>,
    /// For the next jobs: what they know of schemas.
    plans: Vec<Plans>,
    /// When what is accepted and not durable is to be made durable.
    settle_at: Option<Instant>,
    backoff: Backoff,
    /// An error has stopped the instance: nothing is begun any more.
    has_failed: bool,
}

/// What has happened to a lane.
enum Event {
    Command(Option<Command>),
    Opened(std::result::Result<(Arc<Hold>, Result<i64>), JoinError>),
    Ended(std::result::Result<Ended, JoinError>),
    Kept(Result<bool>),
    Swept(std::result::Result<Result<Swept>, JoinError>),
    Failed,
    Due,
    Filled(Taken),
}

impl LaneHandle {
    /// Starts the lane of a topic.
    pub(crate) fn start<T: Target>(
        instance: &Arc<Instance<T>>,
        cluster: impl Cluster,
        topic: &str,
        runtime: &Handle,
    ) -> Self {
        let (commands, received) = unbounded_channel();
        let budget = Arc::clone(&instance.budget);
        let inbox = Arc::new(Inbox::new(instance.config.batch, budget));
        let lane = LaneTask {
            instance: Arc::clone(instance),
            cluster,
            topic: Arc::from(topic),
            account: instance.lasting.accounts.of(topic),
            inbox: Arc::clone(&inbox),
            ground: Arc::default(),
            keeping: Keeping::new(),
            sweeping: Sweeping::new(),
            founding: Founding::default(),
            failed: Arc::default(),
            held: BTreeMap::new(),
            opening: JoinSet::new(),
            jobs: JoinSet::new(),
            turns: Turns::default(),
            busy: BTreeMap::new(),
            unwritten: VecDeque::new(),
            plans: Vec::new(),
            settle_at: None,
            backoff: Backoff::default(),
            has_failed: false,
        };
        lane.account.figures.begin();
        runtime.spawn(lane.run(received));
        Self { commands, inbox }
    }

    /// The partition was assigned: it is opened, letters are replayed, and it is written once records come.
    pub(crate) fn take(&self, hold: Arc<Hold>, replay: Option<Ticket>) {
        // A lane that is gone has stopped the instance.
        let _ = self.commands.send(Command::Take(hold, replay));
    }

    /// Lets go of a partition; [`Hold::has_left`] says when it is done.
    pub(crate) fn leave(&self, partition: i32) {
        let _ = self.commands.send(Command::Leave(partition));
    }
}

impl<T: Target, C: Cluster> LaneTask<T, C> {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            self.begin_unwritten();
            self.settle_if_due().await;
            self.let_go();
            self.sweep();
            let caught_up = self.held.iter();
            let caught_up =
                caught_up.filter_map(|(&at, held)| Some((at, held.hold.caught_up_ms()?)));
            self.keeping.keep(self.ground.get(), caught_up);
            match self.next(&mut commands).await {
                Event::Command(Some(Command::Take(hold, replay))) => self.take(hold, replay),
                Event::Command(Some(Command::Leave(partition))) => self.leave(partition),
                Event::Command(None) => {
                    // What is under way may have kept some.
                    for held in self.held.values() {
                        self.account.let_go(&held.hold);
                    }
                    self.instance.note_topic(&self.topic, None);
                    return;
                }
                Event::Kept(answer) => self.kept(answer),
                Event::Swept(Ok(piece)) => self.swept(piece),
                Event::Opened(Ok((hold, opened))) => self.opened(&hold, opened),
                Event::Ended(Ok(ended)) => self.ended(ended),
                Event::Opened(Err(error)) | Event::Ended(Err(error)) | Event::Swept(Err(error)) => {
                    self.fail(Error::stop(error));
                }
                Event::Failed => self.keeping.look_soon(),
                Event::Due => {}
                Event::Filled(taken) => self.begin_received(taken),
            }
        }
    }

    /// Waits for what comes next. Safe to cancel, as each of its waits is.
    async fn next(&mut self, commands: &mut UnboundedReceiver<Command>) -> Event {
        let may_begin = self.may_begin();
        let busy: BTreeSet<i32> = if may_begin {
            self.busy.keys().copied().collect()
        } else {
            BTreeSet::new()
        };
        #[cfg(test)]
        let busy = if crate::outside::given::has(crate::outside::given::Flaw::Reorder) {
            BTreeSet::new()
        } else {
            busy
        };
        let (look_at, is_asking) = (self.keeping.due(), self.keeping.is_asking());
        tokio::select! {
            biased;
            command = commands.recv() => Event::Command(command),
            Some(opened) = self.opening.join_next() => Event::Opened(opened),
            Some(ended) = self.jobs.join_next() => Event::Ended(ended),
            Some(answer) = self.keeping.answer() => Event::Kept(answer),
            Some(piece) = self.sweeping.ended() => Event::Swept(piece),
            () = self.failed.notified() => Event::Failed,
            () = sleep_until(self.settle_at), if self.jobs.is_empty() => Event::Due,
            () = tokio::time::sleep_until(look_at), if !is_asking => Event::Due,
            taken = self.inbox.next(&busy), if may_begin => Event::Filled(taken),
        }
    }

    fn take(&mut self, hold: Arc<Hold>, replay: Option<Ticket>) {
        let number = hold.partition().partition;
        let replay = replay.map(|ticket| {
            self.busy.insert(number, hold.leave.clone());
            Replaying {
                ticket,
                figures: Arc::clone(&self.account.figures),
                failed: Arc::clone(&self.failed),
                turns: Arc::clone(&self.turns),
            }
        });
        self.inbox.forget(number);
        self.account.hold(&hold);
        self.held.insert(number, Held::new(&hold));
        let opening = Opening {
            instance: Arc::clone(&self.instance),
            cluster: self.cluster.clone(),
            ground: Arc::clone(&self.ground),
            hold,
            replay,
        };
        self.opening.spawn(opening.run());
    }

    fn opened(&mut self, hold: &Arc<Hold>, opened: Result<i64>) {
        let number = hold.partition().partition;
        if hold.is_for_replay {
            self.busy.remove(&number);
        }
        let held = self.held.get_mut(&number);
        let Some(held) = held.filter(|held| Arc::ptr_eq(&held.hold, hold)) else {
            return;
        };
        match opened {
            Ok(start) => {
                tracing::info!(partition = %hold.partition(), offset = start, "begins");
                (held.accepted, held.durable, held.is_open) = (start, start, true);
                hold.open_at(start);
                self.instance.changed.note(hold);
                if let Some(ground) = self.ground.get() {
                    self.account.ask(ground);
                    self.founding.begin(&self.instance, ground, &self.topic);
                }
            }
            Err(error) if error.is_interrupted() => {}
            Err(error) => self.fail(error),
        }
    }

    fn leave(&mut self, partition: i32) {
        self.inbox.forget(partition);
        let Some(held) = self.held.get_mut(&partition) else {
            return;
        };
        held.is_leaving = true;
        held.hold.leave.cancel();
        if let Some(job) = self.busy.get(&partition) {
            job.cancel();
        }
        if !self.sweeping.is_settled(held) {
            self.settle_at = Some(Instant::now());
        }
    }

    /// Lets go of the partitions with which nothing is under way any more.
    fn let_go(&mut self) {
        let (busy, sweeping) = (&self.busy, &self.sweeping);
        let gone = self.held.extract_if(.., |partition, held| {
            held.is_leaving && sweeping.is_settled(held) && !busy.contains_key(partition)
        });
        for (_, held) in gone {
            self.account.let_go(&held.hold);
            held.hold.set_left();
            self.instance.changed.note(&held.hold);
        }
    }

    fn may_begin(&self) -> bool {
        let wants_to_settle = self.settle_at.is_some_and(|at| at <= Instant::now());
        let width = self.ground.get().map_or(0, |ground| {
            let in_flight = self.instance.config.batch.in_flight;
            ground.lane.width().min(in_flight)
        });
        !self.has_failed && !wants_to_settle && self.jobs.len() < width
    }

    fn begin_received(&mut self, taken: Taken) {
        let mut shares = Vec::new();
        for (partition, records) in taken {
            match self.held.get_mut(&partition) {
                Some(held) if !held.is_leaving => shares.push(Share {
                    source: Arc::clone(&held.hold.source),
                    history: std::mem::take(&mut held.history),
                    records,
                    is_replay: false,
                }),
                _ => self.inbox.release(records.bytes()),
            }
        }
        self.begin(Work::new(shares));
    }

    /// Begins again what was interrupted, before anything newer of the same partitions.
    fn begin_unwritten(&mut self) {
        while let Some(work) = self.unwritten.pop_front() {
            let (held, before) = (&self.held, work.bytes());
            let work = work.without(|source| {
                let held = held.get(&source.partition.partition);
                held.is_none_or(|held| held.is_leaving || !Arc::ptr_eq(&held.hold.source, source))
            });
            self.inbox.release(before - work.bytes());
            if self.has_failed {
                self.inbox.release(work.bytes());
            } else {
                self.begin(work);
            }
        }
    }

    fn begin(&mut self, work: Work) {
        let Some(ground) = self.ground.get().filter(|_| !work.is_empty()) else {
            return;
        };
        let cancel = CancellationToken::new();
        for partition in work.partitions() {
            self.busy.insert(partition, cancel.clone());
        }
        let job = Job {
            instance: Arc::clone(&self.instance),
            cluster: self.cluster.clone(),
            ground: Arc::clone(ground),
            topic: Arc::clone(&self.topic),
            figures: Arc::clone(&self.account.figures),
            work,
            plans: self.plans.pop().unwrap_or_default(),
            cancel,
            failed: Arc::clone(&self.failed),
            turn: Turn::Together(Arc::clone(&self.turns)),
        };
        self.jobs.spawn(job.run());
    }

    fn ended(&mut self, ended: Ended) {
        self.plans.push(ended.plans);
        for partition in ended.work.partitions() {
            self.busy.remove(&partition);
        }
        match ended.outcome {
            Ok(written) => {
                self.inbox.release(ended.work.bytes());
                self.take_over(ended.work, written);
            }
            Err(error) if error.is_interrupted() => self.unwritten.push_back(ended.work),
            Err(error) => {
                self.inbox.release(ended.work.bytes());
                self.fail(error);
            }
        }
    }

    /// What the target said of itself.
    fn kept(&mut self, answer: Result<bool>) {
        match answer {
            Ok(true) => {}
            Ok(false) => {
                let reason = is_another(&self.topic).to_string();
                self.instance.failure.start_over(&reason);
            }
            Err(error) if error.policy() == Policy::Stop => self.fail(error),
            // What must be written fails as well, and says so.
            Err(error) => tracing::debug!(%error, "could not look at the target's mark"),
        }
    }

    fn fail(&mut self, error: Error) {
        self.has_failed = true;
        self.give_up_leaving();
        self.instance.failure.stop_with(error);
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
