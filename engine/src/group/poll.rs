//! The poll thread: fetches, hands records to the writers, answers rebalances, commits what is durable.
//!
//! It alone talks to the group, and never waits for a target: a partition that is to be let go drains
//! while the thread polls on, so the membership and the lease stay alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, gauge};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use crate::destination::Destination;
use crate::group::commit;
use crate::group::holdings::{Holding, Holdings};
use crate::group::life::live;
use crate::group::membership::{GroupClient, Rebalance};
use crate::group::start;
use crate::group::suspects;
use crate::metrics::{BUFFERED, BYTES, PARTITIONS, RECORDS};
use crate::topics::TopicPartition;
use crate::write::assignment::Assignment;
use crate::write::instance::{GROUP, Instance};
use tributary_runtime::{Error, Policy, Result, kafka};

/// How long a poll waits with nothing else to do, and with partitions in a passing state.
const IDLE_WAIT: Duration = Duration::from_millis(50);
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// How often durable offsets are committed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// How long a revoked partition may take to finish its write: longer than a target's request may take, far
/// shorter than the group waits for the answer (`max.poll.interval.ms`).
const REVOKE_WAIT: Duration = Duration::from_secs(60);

/// The same at shutdown, within the time that a service has for it.
pub(crate) const SHUTDOWN_WAIT: Duration = Duration::from_secs(20);

/// The state of the poll thread.
pub(crate) struct Poll<D: Destination> {
    instance: Arc<Instance<D>>,
    client: Arc<GroupClient>,
    runtime: Handle,
    holdings: Holdings,
    revocation: Option<Revocation>,
    housekept_at: Instant,
    committed_at: Instant,
    records: Counter,
    bytes: Counter,
}

/// Partitions that are draining before they are let go.
struct Revocation {
    partitions: Vec<TopicPartition>,
    deadline: Instant,
}

impl<D: Destination> Poll<D> {
    pub(crate) fn new(instance: Arc<Instance<D>>, client: GroupClient, runtime: Handle) -> Self {
        Self {
            instance,
            client: Arc::new(client),
            runtime,
            holdings: Holdings::default(),
            revocation: None,
            housekept_at: Instant::now(),
            committed_at: Instant::now(),
            records: counter!(RECORDS),
            bytes: counter!(BYTES),
        }
    }

    /// Polls until the instance stops, then lets go of everything and leaves the group.
    pub(crate) fn run(mut self) {
        let client = Arc::clone(&self.client);
        while !self.instance.failure.stop.is_cancelled() {
            if let Err(error) = self.turn(&client) {
                self.instance.failure.stop_with(error);
            }
        }
        self.drain(&client);
        client.context().close();
        // The last reference closes the client: the group learns at once that this member has left.
    }

    fn turn(&mut self, client: &GroupClient) -> Result<()> {
        let polled = client.poll(self.wait());
        self.keep_lease();
        let is_idle = polled.is_none();
        match polled {
            Some(Ok(message)) => self.deliver(&message)?,
            Some(Err(error)) => self.judge(&error)?,
            None => {}
        }
        while let Some(rebalance) = client.context().next_rebalance() {
            self.rebalance(rebalance)?;
        }
        if is_idle || self.housekept_at.elapsed() >= BUSY_WAIT {
            self.housekept_at = Instant::now();
            self.housekeep()?;
        }
        Ok(())
    }

    fn wait(&self) -> Duration {
        let is_passing = |holding: &Holding| !holding.is_fetched || holding.is_paused;
        if self.revocation.is_some() || self.holdings.iter().any(is_passing) {
            BUSY_WAIT
        } else {
            IDLE_WAIT
        }
    }

    /// A poll in time renews the lease. After a pause in which the group may have given the partitions
    /// away, only a commit that the group accepts does: it is fenced by the membership.
    fn keep_lease(&self) {
        if self.instance.lease.is_held() {
            self.instance.lease.renew();
            return;
        }
        let list = commit::offsets(self.holdings.iter(), |holding| {
            holding.assignment.position.durable()
        });
        if list.count() > 0
            && let Err(error) = self.client.commit(&list, CommitMode::Sync)
        {
            tracing::warn!(%error, "the poll thread was held up, and the group does not confirm the membership");
            return;
        }
        self.instance.lease.renew_late();
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        let Some(holding) = self.holdings.get_mut(topic, partition) else {
            return Ok(());
        };
        if holding.is_leaving || !holding.is_fetched || offset < holding.next {
            return Ok(());
        }
        holding.next = offset + 1;
        let is_full = holding.assignment.inbox.push(message);
        self.records.increment(1);
        self.bytes
            .increment((message.key_len() + message.payload_len()) as u64);
        if is_full && !holding.is_paused {
            holding.is_paused = true;
            let list = list_of([holding.partition()]);
            self.client
                .pause(&list)
                .map_err(|error| kafka::classify(&error))?;
        }
        Ok(())
    }

    /// What to do about an error that a poll reports.
    fn judge(&self, error: &KafkaError) -> Result<()> {
        let reason = self.client.context().last_reason();
        if kafka::is_unknown_topic(error) {
            // A topic that is named, not matched, may be created later.
            tracing::warn!(reason, "waits for a topic");
            return Ok(());
        }
        match kafka::code(error) {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                for holding in self.holdings.iter().filter(|holding| holding.is_fetched) {
                    start::check_within(&self.client, holding.partition(), holding.next)?;
                }
                Err(Error::stop_msg(format_args!("read the topics: {reason}"))
                    .remedy(start::REBUILD))
            }
            _ => {
                let classified = kafka::classify(error);
                if classified.policy() == Policy::Stop {
                    let unread = suspects::unread(&self.client, &self.holdings);
                    let doing = format!("read the topics, {unread}: {reason}");
                    return Err(classified.context(doing));
                }
                self.instance.status.recurs(&error.to_string(), &reason);
                Ok(())
            }
        }
    }

    fn rebalance(&mut self, rebalance: Rebalance) -> Result<()> {
        match rebalance {
            Rebalance::Assigned(partitions) => self.assign(partitions)?,
            Rebalance::Revoked {
                partitions,
                lost: true,
            } => {
                tracing::warn!(?partitions, "the group has given partitions away");
                self.let_go(&partitions)?;
            }
            Rebalance::Revoked { partitions, .. } => {
                for partition in &partitions {
                    if let Some(holding) = self.holding(partition) {
                        holding.leave();
                    }
                }
                self.revocation = Some(Revocation {
                    partitions,
                    deadline: Instant::now() + REVOKE_WAIT,
                });
            }
        }
        Ok(())
    }

    /// Begins to open the partitions. librdkafka fetches each once its start is known; the group has its
    /// answer right away.
    fn assign(&mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        self.client
            .incremental_assign(&TopicPartitionList::new())
            .map_err(|error| kafka::classify(&error))?;
        self.instance.status.clear(GROUP);
        if self.instance.failure.stop.is_cancelled() {
            return Ok(());
        }
        for partition in partitions {
            tracing::info!(%partition, "is assigned");
            let assignment = Arc::new(Assignment::new(
                partition,
                self.instance.config.batch,
                &self.instance.budget,
            ));
            let task = self.runtime.spawn(live(
                Arc::clone(&assignment),
                Arc::clone(&self.instance),
                Arc::downgrade(&self.client),
            ));
            if let Some(earlier) = self.holdings.insert(Holding::new(assignment, task)) {
                earlier.task.abort();
            }
        }
        self.report_holdings();
        Ok(())
    }

    fn housekeep(&mut self) -> Result<()> {
        self.fetch_opened()?;
        self.resume_emptied()?;
        self.finish_revocation()?;
        self.instance.status.settle();
        if self.committed_at.elapsed() >= COMMIT_INTERVAL {
            self.committed_at = Instant::now();
            gauge!(BUFFERED).set(self.instance.budget.held() as f64);
            if self.client.context().take_commit_failed() {
                self.holdings
                    .iter_mut()
                    .for_each(|holding| holding.committed = None);
            }
            commit::asynchronously(&self.client, &mut self.holdings);
        }
        Ok(())
    }

    fn fetch_opened(&mut self) -> Result<()> {
        if self.client.assignment_lost() {
            return Ok(());
        }
        for holding in self.holdings.iter_mut() {
            if holding.is_fetched || holding.is_leaving {
                continue;
            }
            let Some(start) = holding.assignment.position.start() else {
                continue;
            };
            let TopicPartition { topic, partition } = holding.partition();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, *partition, Offset::Offset(start))
                .and_then(|()| self.client.incremental_assign(&list))
                .map_err(|error| kafka::classify(&error))?;
            holding.next = start;
            holding.is_fetched = true;
        }
        Ok(())
    }

    fn resume_emptied(&mut self) -> Result<()> {
        for holding in self.holdings.iter_mut() {
            if holding.is_paused && !holding.is_leaving && holding.assignment.inbox.has_room() {
                let list = list_of([holding.partition()]);
                self.client
                    .resume(&list)
                    .map_err(|error| kafka::classify(&error))?;
                holding.is_paused = false;
            }
        }
        Ok(())
    }

    /// Lets the revoked partitions go once all their writers have finished, or are too late.
    fn finish_revocation(&mut self) -> Result<()> {
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        let partitions = revocation.partitions.clone();
        let late: Vec<_> = partitions
            .iter()
            .filter(|partition| {
                self.holdings
                    .get_mut(&partition.topic, partition.partition)
                    .is_some_and(|holding| !holding.task.is_finished())
            })
            .collect();
        if !late.is_empty() {
            if Instant::now() < revocation.deadline {
                return Ok(());
            }
            tracing::warn!(
                ?late,
                "let go of partitions whose write has not finished in time"
            );
        }
        self.revocation = None;
        commit::synchronously(&self.client, &mut self.holdings, &partitions);
        self.let_go(&partitions)
    }

    /// Forgets partitions and gives them back to the group. Writers that still run are ended.
    fn let_go(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let mut fetched = TopicPartitionList::new();
        for partition in partitions {
            let Some(holding) = self.holdings.remove(partition) else {
                continue;
            };
            holding.task.abort();
            commit::forget_lag(partition);
            if holding.is_fetched {
                fetched.add_partition(&partition.topic, partition.partition);
            }
            tracing::info!(%partition, "is let go");
        }
        self.report_holdings();
        self.client
            .incremental_unassign(&fetched)
            .or_else(|error| {
                // librdkafka has let go of them by itself; it still waits for an answer.
                tracing::debug!(%error, "could not unassign");
                self.client.incremental_unassign(&TopicPartitionList::new())
            })
            .map_err(|error| kafka::classify(&error))
    }

    /// At the end: finishes what is being written, and commits it. Polls on meanwhile.
    fn drain(&mut self, client: &GroupClient) {
        let all: Vec<_> = self
            .holdings
            .iter()
            .map(|holding| holding.partition().clone())
            .collect();
        self.holdings.iter_mut().for_each(Holding::leave);
        if let Err(error) = self.client.pause(&list_of(
            self.holdings
                .iter()
                .filter(|holding| holding.is_fetched)
                .map(Holding::partition),
        )) {
            tracing::debug!(%error, "could not pause");
        }
        let deadline = Instant::now() + SHUTDOWN_WAIT;
        while self
            .holdings
            .iter()
            .any(|holding| !holding.task.is_finished())
        {
            if Instant::now() >= deadline {
                let late: Vec<_> = self
                    .holdings
                    .iter()
                    .filter(|holding| !holding.task.is_finished())
                    .map(|holding| holding.partition().to_string())
                    .collect();
                tracing::warn!(?late, "stops with writes that have not finished in time");
                break;
            }
            if let Err(error) = self.turn(client) {
                self.instance.failure.stop_with(error);
            }
        }
        commit::synchronously(&self.client, &mut self.holdings, &all);
        if let Err(error) = self.let_go(&all) {
            tracing::debug!(%error, "could not let go of the partitions; closes");
        }
    }

    fn holding(&mut self, partition: &TopicPartition) -> Option<&mut Holding> {
        self.holdings.get_mut(&partition.topic, partition.partition)
    }

    fn report_holdings(&self) {
        let count = self.holdings.len();
        gauge!(PARTITIONS).set(count as f64);
        self.instance.status.set_phase(match count {
            0 => "standing by".to_owned(),
            1 => "writing 1 partition".to_owned(),
            count => format!("writing {count} partitions"),
        });
    }
}

fn list_of<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}
