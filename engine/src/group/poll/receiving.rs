//! What comes from Kafka: records for the lanes, and errors.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tributary_runtime::kafka::Headed;
use tributary_runtime::{Policy, Result, kafka};

use super::Poll;
use super::fetching::Fetching;
use crate::cluster::Cluster;
use crate::config::OnUnfitTarget;
use crate::group::commit;
use crate::group::holdings::Holdings;
use crate::group::member::{Member, Reached};
use crate::group::suspects;
use crate::target::Target;
use crate::write::instance::Instance;
use crate::write::judge;

/// So many records are taken before anything else is looked at: each look at the clock and the locks costs as much as a record.
const AT_ONCE: usize = 64;

impl<T: Target, M: Member, C: Cluster> Poll<T, M, C> {
    /// Takes what comes in time, and the records that have come by then; whether there was something.
    pub(super) fn receive(&mut self, wait: Duration) -> Result<bool> {
        let mut polled = self.member.poll(wait);
        keep_lease(&self.instance, &self.member, &self.holdings);
        let (mut received, mut records, mut bytes) = (0, 0, 0);
        let outcome = loop {
            match polled {
                Some(Ok(message)) => {
                    let (instance, holdings) = (&self.instance, &mut self.holdings);
                    if let Some(more) = deliver(instance, holdings, &mut self.fetching, &message) {
                        records += 1;
                        bytes += more as u64;
                    }
                }
                Some(Err(error)) => break self.judge(&error).map(|()| true),
                None => break Ok(received > 0),
            }
            received += 1;
            if received == AT_ONCE || self.fetching.has_filled() {
                break Ok(true);
            }
            polled = self.member.poll(Duration::ZERO);
        };
        self.records.increment(records);
        self.bytes.increment(bytes);
        outcome
    }

    /// What to do about an error that a poll reports.
    fn judge(&self, error: &KafkaError) -> Result<()> {
        let reason = self.member.last_reason();
        if kafka::is_unknown_topic(error) {
            // A topic that is named, not matched, may be created later.
            tracing::warn!(reason, "waits for a topic");
            return Ok(());
        }
        match kafka::code(error) {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.out_of_range(&reason)
            }
            _ => {
                let classified = kafka::classify(error);
                if classified.policy() == Policy::Stop {
                    let unread = suspects::unread(&self.member, &self.holdings);
                    let doing = format!("read the topics, {unread}: {reason}");
                    return Err(classified.context(doing));
                }
                self.instance.status.recurs(&error.to_string(), &reason);
                Ok(())
            }
        }
    }

    /// The log does not have what comes next. librdkafka reports that without saying of which partition; and by now it may have as much
    /// again, of another topic of the name.
    fn out_of_range(&self, reason: &str) -> Result<()> {
        for holding in self.holdings.iter().filter(|holding| holding.is_fetched) {
            let (low, high) = match self.member.log_of(holding.partition()) {
                Ok(log) => log,
                Err(error) if error.policy() == Policy::Stop => return Err(error),
                // It is judged when it is opened again.
                Err(_) => continue,
            };
            if let Err(found) = judge::within(holding.partition(), holding.next, low, high)
                && self.instance.config.on_unfit_target == OnUnfitTarget::Stop
            {
                return Err(judge::unfit(found));
            }
        }
        // Each target is judged anew then.
        self.instance.failure.start_over(reason);
        Ok(())
    }
}

/// A poll in time renews the lease. After a pause in which the group may have given the partitions
/// away, only a commit that the group accepts does: it is fenced by the membership.
fn keep_lease<T>(instance: &Instance<T>, member: &impl Member, holdings: &Holdings) {
    if instance.lease.is_held() {
        instance.lease.renew();
        return;
    }
    let fetched = holdings.iter().filter(|holding| holding.is_fetched);
    let all: Vec<Reached<'_>> = fetched
        .filter_map(|holding| {
            let durable = holding.hold.durable()?;
            // Control records may have moved the commit beyond what is durable; it does not go back.
            let offset = durable.max(holding.committed.unwrap_or(durable));
            Some(commit::reached(holding.partition(), holding, offset))
        })
        .collect();
    if !all.is_empty()
        && let Err(error) = member.commit(&all)
    {
        tracing::warn!(%error, "the poll thread was held up, and the group does not confirm the membership");
        return;
    }
    instance.lease.renew_late();
}

/// Hands a record to its lane; returns the bytes of its key and value. `None` for one that is not to be taken.
fn deliver<T>(
    instance: &Instance<T>,
    holdings: &mut Holdings,
    fetching: &mut Fetching,
    message: &impl Headed,
) -> Option<usize> {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    let held = holdings.topic_mut(topic)?;
    let holding = held.partitions.get_mut(&partition)?;
    if holding.is_leaving || !holding.is_fetched || offset < holding.next {
        return None;
    }
    holding.next = offset + 1;
    let may_take_more = held.lane.inbox.push(partition, message);
    if !may_take_more || instance.budget.is_spent() {
        fetching.note_full(topic);
    }
    let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    Some(bytes(message.key()) + bytes(message.payload()))
}
