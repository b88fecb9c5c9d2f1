//! What stands at the end of the log: the last progress record, and the highest `seq` given.

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tributary_runtime::Error;
use tributary_runtime::kafka;
use tributary_schemas::header;

use crate::config::SourceConfig;
use crate::log::progress::{PositionRecord, Progress, tables_key};
use crate::log::steps::Counter;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long reading may take without coming to the end of any partition. Another source's open transaction on the same
/// topic holds us back for its time-out at the most.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The newest record is near the end: the search begins there and goes back in growing steps. The last offset is
/// mostly a transaction's marker.
const FIRST_STEP: i64 = 16;
/// How much larger each step is than the one before.
const GROWTH: i64 = 4;
/// So many partitions are asked about in one request: librdkafka compares each with each.
const ASKED_AT_ONCE: usize = 1_000;
/// So many are read at the same time.
const READ_AT_ONCE: usize = 250;
/// The pause before a topic that was just created is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_millis(200);

/// A topic's name, and the number of a partition of it.
type Partition<'a> = (&'a str, i32);

/// What the last committed progress records of this source say; `None` if there is none.
///
/// Call it behind `init_transactions` only: before, an earlier producer may still commit.
///
/// # Errors
/// Kafka does not answer, or the records are not ours.
pub(crate) fn progress(config: &SourceConfig) -> Result<Option<Progress>, Error> {
    let topic = config.progress_topic();
    let end = LogEnd::new(config)?;
    let last = |key: &str| {
        let mut found = None;
        let pick = |message: &BorrowedMessage<'_>| match message.key() {
            Some(found) if found == key.as_bytes() => message.payload().map(<[u8]>::to_vec),
            _ => None,
        };
        end.last(&[(&topic, 0)], pick, |value| found = Some(value))?;
        Ok(found)
    };
    let complete = |value: Vec<u8>| {
        let record = PositionRecord::parse(&value, &topic)?;
        record.complete(&topic, || last(&tables_key(&config.name)))
    };
    let progress = last(&config.name)?.map(complete).transpose();
    end.close();
    progress
}

/// Gives `visit` the committed records of a topic of one partition, from an offset on; without one, all.
///
/// # Errors
/// Kafka does not answer.
pub(super) fn read_from(
    config: &SourceConfig,
    topic: &str,
    from: Option<i64>,
    visit: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), Error> {
    let end = LogEnd::new(config)?;
    let done = end.read_from((topic, 0), from, visit);
    end.close();
    done
}

/// The highest `tributary.seq` in topics with these numbers of partitions; `None` if they hold no record with one.
/// `counter` counts the partitions.
///
/// # Errors
/// Kafka does not answer.
pub(crate) fn highest_seq(
    config: &SourceConfig,
    topics: &[(String, i32)],
    counter: &Counter,
) -> Result<Option<u64>, Error> {
    let partitions = topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |partition| (topic.as_str(), partition)));
    let partitions: Vec<Partition<'_>> = partitions.collect();
    counter.expect(partitions.len());
    let end = LogEnd::new(config)?;
    let mut highest = None;
    for some in partitions.chunks(ASKED_AT_ONCE) {
        // In a partition it never falls: the last record has the highest.
        end.last(some, seq, |seq| highest = highest.max(Some(seq)))?;
        counter.add(some.len());
    }
    end.close();
    Ok(highest)
}

fn seq(message: &BorrowedMessage<'_>) -> Option<u64> {
    let (_, value) = kafka::headers(message).find(|(name, _)| name == header::SEQ)?;
    Some(u64::from_be_bytes(value?.try_into().ok()?))
}

/// Reads partitions from their ends: any number of them with the same two clients.
struct LogEnd {
    /// To a reader of committed records the partition ends before the first transaction that is open, another source's
    /// maybe: our own records may be behind it.
    uncommitted: BaseConsumer<kafka::LogContext>,
    committed: BaseConsumer<kafka::LogContext>,
}

/// What is left to be read of a partition.
#[derive(Debug, Clone, Copy)]
struct Rest<'a> {
    partition: Partition<'a>,
    low: i64,
    /// All from here on is read.
    end: i64,
    step: i64,
}

impl Rest<'_> {
    /// Where the next step begins.
    fn begin(&self) -> i64 {
        (self.end - self.step).max(self.low)
    }

    /// What is left behind that step, in which nothing was found.
    fn next(self) -> Option<Self> {
        let end = self.begin();
        (end > self.low).then_some(Self {
            end,
            step: self.step.saturating_mul(GROWTH),
            ..self
        })
    }
}

impl LogEnd {
    fn new(config: &SourceConfig) -> Result<Self, Error> {
        let mut client = kafka::consumer_config(&config.kafka_client(), &config.slot_name());
        client
            .set("client.id", config.slot_name())
            .set("enable.partition.eof", "true")
            // The end of a partition is told by an empty answer, for which the broker would wait.
            .set("fetch.wait.max.ms", "10");
        let mut consumer = |isolation: &str| {
            client.set("isolation.level", isolation);
            let created = client.create_with_context(kafka::LogContext);
            created.map_err(|e| kafka::classify(&e))
        };
        Ok(Self {
            uncommitted: consumer("read_uncommitted")?,
            committed: consumer("read_committed")?,
        })
    }

    /// Lets go of the clients. That takes 100 ms, for which nobody waits.
    fn close(self) {
        thread::spawn(move || drop(self));
    }

    /// Gives what `pick` takes from the last record of each partition that it takes something from.
    fn last<T>(
        &self,
        partitions: &[Partition<'_>],
        pick: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
        mut give: impl FnMut(T),
    ) -> Result<(), Error> {
        let mut rests = self.filled(partitions)?;
        while !rests.is_empty() {
            let mut left = Vec::new();
            for some in rests.chunks(READ_AT_ONCE) {
                for (rest, found) in some.iter().zip(self.last_in(some, &pick)?) {
                    match found {
                        Some(value) => give(value),
                        None => left.extend(rest.next()),
                    }
                }
            }
            rests = left;
        }
        Ok(())
    }

    /// Reads a partition to the end of what is committed.
    fn read_from(
        &self,
        partition: Partition<'_>,
        from: Option<i64>,
        mut visit: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), Error> {
        let Some(filled) = self.filled(&[partition])?.pop() else {
            return Ok(());
        };
        let begin = from.unwrap_or(filled.low).max(filled.low);
        if begin >= filled.end {
            return Ok(());
        }
        let begin = list([(partition, Offset::Offset(begin))].into_iter())?;
        let explain = |e: &KafkaError| reading(partition, e);
        self.committed.assign(&begin).map_err(|e| explain(&e))?;
        let mut deadline = Instant::now() + REQUEST_TIMEOUT;
        while Instant::now() < deadline {
            match self.committed.poll(POLL) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => return Err(explain(&error)),
                Some(Ok(message)) => {
                    deadline = Instant::now() + REQUEST_TIMEOUT;
                    visit(&message);
                }
            }
        }
        Err(Error::retry_msg(format!(
            "the broker gives no more records of topic '{}'",
            partition.0
        )))
    }

    /// The partitions that have offsets, and which.
    fn filled<'a>(&self, partitions: &[Partition<'a>]) -> Result<Vec<Rest<'a>>, Error> {
        let ends = self.offsets(partitions, Offset::End)?;
        let ends = partitions.iter().copied().zip(ends);
        let filled: Vec<_> = ends.filter(|(_, end)| *end > 0).collect();
        let names: Vec<Partition<'a>> = filled.iter().map(|(partition, _)| *partition).collect();
        let lows = self.offsets(&names, Offset::Beginning)?;
        let rests = filled
            .into_iter()
            .zip(lows)
            .map(|((partition, end), low)| Rest {
                partition,
                low,
                end,
                step: FIRST_STEP,
            });
        Ok(rests.filter(|rest| rest.end > rest.low).collect())
    }

    /// The first or last offsets of partitions, in their order.
    fn offsets(&self, partitions: &[Partition<'_>], which: Offset) -> Result<Vec<i64>, Error> {
        let Some(first) = partitions.first() else {
            return Ok(Vec::new());
        };
        let asked = list(partitions.iter().map(|partition| (*partition, which)))?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let answer = loop {
            match self
                .uncommitted
                .offsets_for_times(asked.clone(), REQUEST_TIMEOUT)
            {
                Ok(answer) => break answer,
                // A topic that was just created has no leader for a moment, or its leader does not know of it yet.
                Err(error) if is_electing(&error) && Instant::now() < deadline => {
                    thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(reading(*first, &error)),
            }
        };
        let offset = |partition: &Partition<'_>| {
            let refused = |e: &KafkaError| reading(*partition, e);
            let found = answer.find_partition(partition.0, partition.1);
            let Some(found) = found else {
                return Err(refused(&KafkaError::OffsetFetch(
                    RDKafkaErrorCode::UnknownPartition,
                )));
            };
            found.error().map_err(|e| refused(&e))?;
            match found.offset() {
                Offset::Offset(offset) => Ok(offset),
                // So librdkafka reads the offset 0 of a list that it filled, or -1: nothing is there.
                _ => Ok(0),
            }
        };
        partitions.iter().map(offset).collect()
    }

    /// What `pick` takes from the last record in the next step of each partition; in their order.
    fn last_in<T>(
        &self,
        rests: &[Rest<'_>],
        pick: &impl Fn(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<Vec<Option<T>>, Error> {
        let begin = rests
            .iter()
            .map(|rest| (rest.partition, Offset::Offset(rest.begin())));
        let assigned = self.committed.assign(&list(begin)?);
        assigned.map_err(|e| reading(rests[0].partition, &e))?;
        let mut unread = Unread::new(rests);
        let mut found: Vec<Option<T>> = rests.iter().map(|_| None).collect();
        let mut deadline = Instant::now() + READ_TIMEOUT;
        while let Some(first) = unread.first() {
            if Instant::now() >= deadline {
                return Err(Error::retry_msg(format!(
                    "the end of topic '{}' could not be read within {} s: another producer's transaction is open there",
                    first.0,
                    READ_TIMEOUT.as_secs()
                ))
                .remedy(format!(
                    "it goes on by itself once that transaction ends. If it stays open for longer than its producer's transaction.timeout.ms, the brokers have lost sight of it, as may happen where one is killed: `kafka-transactions.sh --bootstrap-server … describe-producers --topic {topic} --partition {partition}` shows its CurrentTransactionStartOffset, and the same with `abort` and `--start-offset` ends it",
                    topic = first.0,
                    partition = first.1,
                )));
            }
            let before = unread.count();
            match self.committed.poll(POLL) {
                Some(Ok(message)) => {
                    let Some(at) = unread.place(message.topic(), message.partition()) else {
                        continue;
                    };
                    if message.offset() < rests[at].end
                        && let Some(value) = pick(&message)
                    {
                        found[at] = Some(value);
                    }
                    unread.reached(at, message.offset() + 1);
                }
                // The end of what is committed, of some partition; the step's end may lie behind an open transaction.
                Some(Err(KafkaError::PartitionEOF(_))) | None => {
                    let positions = self.committed.position();
                    for reached in positions.map_err(|e| reading(first, &e))?.elements() {
                        if let Offset::Offset(offset) = reached.offset()
                            && let Some(at) = unread.place(reached.topic(), reached.partition())
                        {
                            unread.reached(at, offset);
                        }
                    }
                }
                Some(Err(error)) => return Err(reading(first, &error)),
            }
            if unread.count() < before {
                deadline = Instant::now() + READ_TIMEOUT;
            }
        }
        Ok(found)
    }
}

/// The partitions of a step that are not read to its end.
struct Unread<'a> {
    rests: &'a [Rest<'a>],
    /// Places in `rests`.
    left: BTreeSet<usize>,
    /// The same by topic and partition, of all.
    places: HashMap<&'a str, HashMap<i32, usize>>,
}

impl<'a> Unread<'a> {
    fn new(rests: &'a [Rest<'a>]) -> Self {
        let mut places: HashMap<&str, HashMap<i32, usize>> = HashMap::new();
        for (at, rest) in rests.iter().enumerate() {
            let (topic, partition) = rest.partition;
            places.entry(topic).or_default().insert(partition, at);
        }
        Self {
            rests,
            left: (0..rests.len()).collect(),
            places,
        }
    }

    fn first(&self) -> Option<Partition<'a>> {
        let first = self.left.first()?;
        Some(self.rests[*first].partition)
    }

    fn count(&self) -> usize {
        self.left.len()
    }

    fn place(&self, topic: &str, partition: i32) -> Option<usize> {
        let at = self.places.get(topic)?.get(&partition)?;
        self.left.contains(at).then_some(*at)
    }

    /// All of a partition before this offset is read.
    fn reached(&mut self, at: usize, offset: i64) {
        if offset >= self.rests[at].end {
            self.left.remove(&at);
        }
    }
}

fn list<'a>(
    partitions: impl Iterator<Item = (Partition<'a>, Offset)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in partitions {
        let added = list.add_partition_offset(topic, partition, offset);
        added.map_err(|e| reading((topic, partition), &e))?;
    }
    Ok(list)
}

/// Whether a partition's leader is about to be known.
fn is_electing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

fn reading((topic, _): Partition<'_>, error: &KafkaError) -> Error {
    kafka::classify(error).context(format!("read the end of topic '{topic}'"))
}
