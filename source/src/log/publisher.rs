//! The one transactional producer of a source, on a thread of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::sync::mpsc;
use tributary_runtime::Error;
use tributary_runtime::kafka;
use tributary_schemas::header;

use crate::config::SourceConfig;
use crate::failpoint;
use crate::log::outbox::{Outbox, Record};
use crate::log::progress::{Position, tables_key};
use crate::telemetry;
use limits::Limits;
use offsets::Offsets;
pub(crate) use offsets::WentBack;
pub(crate) use transaction::Transaction;

mod limits;
mod offsets;
mod transaction;

const TRANSACTIONAL_ID: &str = "transactional.id";
/// After this the broker aborts a transaction that its producer left open: a dead source holds readers back
/// no longer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to abort waits for reports that nobody takes meanwhile.
const ABORT_STEP: Duration = Duration::from_millis(20);
/// The pause between two looks at what is in flight. `flush` and `commit_transaction` poll in steps of
/// 100 ms, which would be every commit's latency.
const FLUSH_POLL: Duration = Duration::from_micros(200);

/// The most bytes that the client puts into a batch of several records, before compression.
const BATCH_BYTES: usize = 1_000_000;

/// A committed transaction.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The position that is now in the log.
    pub(crate) position: Position,
    /// The emptied outbox, for reuse.
    pub(crate) outbox: Outbox,
}

/// The handle to the producer's thread. Dropping it ends the thread; an open transaction is aborted.
pub(crate) struct Publisher {
    transactions: mpsc::Sender<Transaction>,
    results: mpsc::Receiver<Result<Committed, Error>>,
}

impl Publisher {
    /// Creates the producer and fences all earlier ones of the same transactional id.
    ///
    /// # Errors
    /// The producer cannot be created, or no coordinator answers in time.
    pub(crate) async fn start(config: &SourceConfig) -> Result<Self, Error> {
        let mut client = kafka::producer_config(&config.kafka_client(), &config.slot_name());
        client
            .set(TRANSACTIONAL_ID, config.transactional_id())
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            .set(
                "message.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("batch.size", BATCH_BYTES.to_string())
            .set("queue.buffering.max.messages", "0")
            .set("message.max.bytes", "1000000000");
        let progress = ProgressKeys {
            topic: config.progress_topic(),
            position: config.name.clone(),
            tables: tables_key(&config.name),
        };
        // Capacity 1: while one transaction is committed the next one is filled, and no more.
        let (transactions, input) = mpsc::channel(1);
        let (output, mut results) = mpsc::channel(2);
        let limits = Limits::new(config);
        let former = config.ambiguous_transactional_id().map(|id| {
            let mut former = client.clone();
            former.set(TRANSACTIONAL_ID, id);
            former
        });
        let clients = (client, former);
        thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || run(&clients, &progress, &limits, input, &output))
            .map_err(Error::retry)?;
        match results.recv().await {
            Some(Ok(_)) => Ok(Self {
                transactions,
                results,
            }),
            Some(Err(error)) => Err(error),
            None => Err(Error::retry_msg(
                "the producer's thread ended before it was ready",
            )),
        }
    }

    /// Waits until a further transaction can be handed over; cancel safe.
    pub(crate) async fn ready(&self) -> Result<mpsc::Permit<'_, Transaction>, Error> {
        self.transactions.reserve().await.map_err(|_| stopped())
    }

    /// The next transaction's outcome; cancel safe. An error is final: begin the start order again.
    pub(crate) async fn committed(&mut self) -> Result<Committed, Error> {
        self.results.recv().await.unwrap_or_else(|| Err(stopped()))
    }

    /// Publishes one transaction and waits for it. Nothing else may be under way.
    pub(crate) async fn publish(&mut self, transaction: Transaction) -> Result<Committed, Error> {
        self.ready().await?.send(transaction);
        self.committed().await
    }
}

fn stopped() -> Error {
    Error::retry_msg("the producer's thread has ended")
}

/// Where progress is written to.
struct ProgressKeys {
    topic: String,
    position: String,
    tables: String,
}

/// Remembers the first record that could not be delivered: its error says more than the commit's.
#[derive(Default)]
struct Deliveries {
    offsets: Offsets,
    failed: Mutex<Option<(String, usize, RDKafkaErrorCode)>>,
}

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Option<(String, usize, RDKafkaErrorCode)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::LogContext.log(level, facility, message);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Ok(message) = result {
            let offsets = &self.offsets;
            offsets.acknowledged(message.topic(), message.partition(), message.offset());
        }
        if let Err((KafkaError::MessageProduction(code), message)) = result {
            let mut failed = self.failed();
            let bytes = message.payload_len() + message.key_len();
            // A purged message is the consequence of an abort, not its reason.
            if !matches!(
                code,
                RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight
            ) {
                failed.get_or_insert_with(|| (message.topic().to_owned(), bytes, *code));
            }
        }
    }
}

fn run(
    (client, former): &(ClientConfig, Option<ClientConfig>),
    progress: &ProgressKeys,
    limits: &Limits,
    mut input: mpsc::Receiver<Transaction>,
    output: &mpsc::Sender<Result<Committed, Error>>,
) {
    let fenced = former
        .as_ref()
        .map_or(Ok(()), |former| fence(former, &progress.topic));
    let started = fenced.and_then(|()| start(client, &progress.topic));
    let producer = match started {
        Ok(producer) => producer,
        Err(error) => {
            let _ = output.blocking_send(Err(error));
            return;
        }
    };
    let ready = Committed {
        position: Position::at_consistent_point(tributary_schemas::Lsn::ZERO, 0),
        outbox: Outbox::default(),
    };
    if output.blocking_send(Ok(ready)).is_err() {
        return;
    }
    while let Some(mut transaction) = input.blocking_recv() {
        let sent = publish(&producer, progress, &transaction, limits);
        let result = sent.map(|()| {
            metrics::counter!(telemetry::TRANSACTIONS).increment(1);
            metrics::counter!(telemetry::EVENTS).increment(transaction.outbox.records.len() as u64);
            transaction.outbox.clear();
            Committed {
                position: transaction.position,
                outbox: transaction.outbox,
            }
        });
        let failed = result.is_err();
        if output.blocking_send(result).is_err() || failed {
            break;
        }
    }
}

/// Fences an instance of an earlier version, which has the id that is not ours alone; and another source, if that still has it:
/// it begins its session again.
fn fence(former: &ClientConfig, topic: &str) -> Result<(), Error> {
    match start(former, topic) {
        Ok(_) => Ok(()),
        // Nor has anybody written with it whom we would have to fence.
        Err(error) if is_not_ours(&error) => Ok(()),
        Err(error) => Err(error.context("fence producers of an earlier version")),
    }
}

/// Whether our user may not have this transactional id.
fn is_not_ours(error: &Error) -> bool {
    let code = error.cause().downcast_ref::<KafkaError>();
    let code = code.and_then(KafkaError::rdkafka_error_code);
    code == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed)
}

fn start(client: &ClientConfig, topic: &str) -> Result<BaseProducer<Deliveries>, Error> {
    let producer: BaseProducer<Deliveries> = client
        .create_with_context(Deliveries::default())
        .map_err(|e| explain(e).context("create the producer"))?;
    // Without a connection, `init_transactions` looks for the coordinator again after half a second (measured).
    producer
        .client()
        .fetch_metadata(Some(topic), INIT_TIMEOUT)
        .map_err(|e| explain(e).context(format!("look topic '{topic}' up")))?;
    producer.init_transactions(INIT_TIMEOUT).map_err(|e| {
        let id = client.get(TRANSACTIONAL_ID).unwrap_or_default();
        explain(e).context(format!(
            "take over the transactional id '{id}' (init_transactions)"
        ))
    })?;
    Ok(producer)
}

/// Commits one transaction, or aborts it. After an error the producer is not used again: its state is unknown
/// (a transaction that timed out reports "fenced" too; behind a refused batch it skips sequence numbers), and the start
/// order finds out what is in the log.
fn publish(
    producer: &BaseProducer<Deliveries>,
    progress: &ProgressKeys,
    transaction: &Transaction,
    limits: &Limits,
) -> Result<(), Error> {
    producer
        .begin_transaction()
        .map_err(|e| explain(e).context("begin a Kafka transaction"))?;
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    let committed = produce(producer, progress, transaction, deadline)
        .and_then(|()| drain(producer, deadline))
        .inspect(|()| {
            failpoint::hit(failpoint::PRODUCED);
            if !transaction.outbox.records.is_empty() {
                failpoint::hit(failpoint::PRODUCED_RECORDS);
            }
        })
        .and_then(|()| commit(producer, deadline))
        .inspect(|()| failpoint::hit(failpoint::COMMITTED));
    committed.map_err(|error| {
        if let Err(abort) = abort(producer) {
            tracing::debug!(error = %abort, "the failed Kafka transaction is left to the broker to abort");
        }
        let failed = producer.context().failed().take();
        match failed {
            Some((topic, bytes, code)) => {
                let changed = limits.changed(&topic, code, transaction);
                changed.unwrap_or_else(|| undelivered(&topic, bytes, code))
            }
            None => error,
        }
    })
}

/// Aborts the transaction. The client waits until the reports of what it throws away are taken, and does not take them.
fn abort(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + ABORT_TIMEOUT;
    loop {
        match producer.abort_transaction(ABORT_STEP) {
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                producer.poll(Duration::ZERO);
            }
            aborted => return aborted,
        }
    }
}

/// What an error of the producer means. Being fenced, or a producer that is beyond repair, is no reason to
/// stop: the start order is begun again, behind the slot.
fn explain(error: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::Fatal
            | Code::UnknownTopicOrPartition
            // The same, as the client says it once its metadata know.
            | Code::UnknownTopic
            | Code::UnknownPartition,
        ) => Error::retry(error),
        _ => kafka::classify(&error),
    }
}

fn undelivered(topic: &str, bytes: usize, code: RDKafkaErrorCode) -> Error {
    let error = explain(KafkaError::MessageProduction(code)).context(format!(
        "write a record of {bytes} bytes to topic '{topic}'"
    ));
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge => error.remedy(format!(
            "raise max.message.bytes of topic '{topic}' (and the brokers' message.max.bytes)"
        )),
        _ => error,
    }
}

fn produce(
    producer: &BaseProducer<Deliveries>,
    progress: &ProgressKeys,
    transaction: &Transaction,
    deadline: Instant,
) -> Result<(), Error> {
    // A topic's limit is one of batches, which hold whatever was sent to a partition since nothing was in flight.
    let mut batches: HashMap<(&str, i32), usize> = HashMap::new();
    for record in &transaction.outbox.records {
        let limit = record.max_batch_bytes;
        if limit < BATCH_BYTES {
            let place = (&*record.topic, record.partition);
            let bytes = record.batch_bytes();
            let before = batches.get(&place).copied().unwrap_or_default();
            if before > 0 && before + bytes > limit {
                drain(producer, deadline)?;
                batches.clear();
            }
            *batches.entry(place).or_default() += bytes;
        }
        send(producer, &transaction.outbox, record, deadline)?;
    }
    let tables = transaction.progress.tables.as_deref();
    let tables = tables.map(|value| (&progress.tables, value));
    let position = (&progress.position, transaction.progress.position.as_slice());
    for (key, value) in tables.into_iter().chain([position]) {
        let record = BaseRecord::<str, [u8]>::to(&progress.topic)
            .partition(0)
            .key(key)
            .payload(value);
        let sent = producer.send(record);
        sent.map_err(|(e, _)| explain(e).context("write the progress record"))?;
    }
    Ok(())
}

fn send(
    producer: &BaseProducer<Deliveries>,
    outbox: &Outbox,
    record: &Record,
    deadline: Instant,
) -> Result<(), Error> {
    let seq = record.seq.to_be_bytes();
    let mut headers = OwnedHeaders::new_with_capacity(1 + record.headers.len()).insert(Header {
        key: header::SEQ,
        value: Some(&seq),
    });
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: Some(value),
        });
    }
    let mut next = BaseRecord::<[u8], [u8]>::to(&record.topic)
        .partition(record.partition)
        .headers(headers);
    if let Some(key) = &record.key {
        next = next.key(outbox.slice(key));
    }
    if let Some(value) = &record.value {
        next = next.payload(outbox.slice(value));
    }
    loop {
        match producer.send(next) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if Instant::now() < deadline =>
            {
                next = back;
                producer.poll(Duration::from_millis(1));
            }
            Err((KafkaError::MessageProduction(code), _)) => {
                let bytes = [&record.key, &record.value]
                    .iter()
                    .filter_map(|r| r.as_ref().map(ExactSizeIterator::len))
                    .sum();
                return Err(undelivered(&record.topic, bytes, code));
            }
            Err((error, _)) => {
                return Err(explain(error).context(format!("write to topic '{}'", record.topic)));
            }
        }
    }
}

/// Waits until nothing is in flight.
fn drain(producer: &BaseProducer<Deliveries>, deadline: Instant) -> Result<(), Error> {
    while producer.in_flight_count() > 0 {
        // A flush without a wait hands lingering records to the broker threads; the poll takes the reports.
        let _ = producer.flush(Duration::ZERO);
        producer.poll(Duration::ZERO);
        if producer.context().failed().is_some() {
            return Err(Error::retry_msg("a record could not be delivered"));
        }
        if Instant::now() >= deadline {
            return Err(Error::retry_msg(format!(
                "the brokers have not acknowledged the records of a transaction within {} s",
                TRANSACTION_TIMEOUT.as_secs()
            )));
        }
        thread::sleep(FLUSH_POLL);
    }
    producer.context().offsets.check()
}

fn commit(producer: &BaseProducer<Deliveries>, deadline: Instant) -> Result<(), Error> {
    producer
        .commit_transaction(
            deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_secs(1)),
        )
        .map_err(|e| explain(e).context("commit a Kafka transaction"))
}

#[cfg(test)]
mod tests;
