//! The topics beside the tables': where transactions begin and end, and logical messages.

use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::avro::{
    MESSAGE_KEY_SCHEMA, TRANSACTION_KEY_SCHEMA, TRANSACTION_VALUE_SCHEMA, message_value_schema,
};
use tributary_schemas::encode::{Change, MessagePlan, TransactionId};
use tributary_schemas::wire;

use crate::config::SourceConfig;
use crate::log::outbox::{Outbox, Record};
use crate::log::table_topic::Registrar;
use crate::log::topics::{Cleanup, TopicSpec};

/// What `[publish]` asks for.
#[derive(Debug, Default)]
pub(crate) struct MetadataTopics {
    pub(crate) transactions: Option<TransactionTopic>,
    pub(crate) messages: Option<MessageTopic>,
}

impl MetadataTopics {
    /// Registers the schemas of what is wanted.
    ///
    /// # Errors
    /// The registry is away (retry) or refuses a schema (stop).
    pub(crate) async fn prepare(
        config: &SourceConfig,
        registrar: &Registrar,
    ) -> Result<Self, Error> {
        let mut topics = Self::default();
        if config.publish.transactions {
            let topic = config.transaction_topic();
            let schemas = [TRANSACTION_KEY_SCHEMA, TRANSACTION_VALUE_SCHEMA];
            topics.transactions = Some(TransactionTopic(
                SchemaTarget::prepare(topic, schemas, registrar).await?,
            ));
        }
        if config.publish.messages {
            let topic = config.message_topic();
            let schemas = [MESSAGE_KEY_SCHEMA, &message_value_schema()];
            topics.messages = Some(MessageTopic {
                target: SchemaTarget::prepare(topic, schemas, registrar).await?,
                plan: MessagePlan::compile(registrar.identity()),
            });
        }
        Ok(topics)
    }

    /// The topics that are wanted. Each has one partition, so that its records are in commit order.
    pub(crate) fn specs(config: &SourceConfig) -> Vec<TopicSpec> {
        [
            (config.publish.transactions, config.transaction_topic()),
            (config.publish.messages, config.message_topic()),
        ]
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, name)| TopicSpec {
            name,
            partitions: 1,
            cleanup: Cleanup::Expire,
        })
        .collect()
    }
}

/// A topic and its schemas' ids.
#[derive(Debug)]
struct SchemaTarget {
    topic: Arc<str>,
    key_schema_id: u32,
    value_schema_id: u32,
    max_batch_bytes: usize,
}

impl SchemaTarget {
    async fn prepare(
        topic: String,
        [key, value]: [&str; 2],
        registrar: &Registrar,
    ) -> Result<Self, Error> {
        Ok(Self {
            key_schema_id: registrar.register(&format!("{topic}-key"), key).await?,
            value_schema_id: registrar.register(&format!("{topic}-value"), value).await?,
            max_batch_bytes: registrar.max_batch_bytes(&topic).await?,
            topic: topic.into(),
        })
    }

    fn append(
        &self,
        outbox: &mut Outbox,
        seq: u64,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = outbox.bytes.len();
        outbox
            .bytes
            .extend_from_slice(&wire::prefix(self.key_schema_id));
        key(&mut outbox.bytes);
        let middle = outbox.bytes.len();
        outbox
            .bytes
            .extend_from_slice(&wire::prefix(self.value_schema_id));
        value(&mut outbox.bytes);
        outbox.records.push(Record {
            topic: Arc::clone(&self.topic),
            partition: 0,
            key: Some(start..middle),
            value: Some(middle..outbox.bytes.len()),
            seq,
            max_batch_bytes: self.max_batch_bytes,
            headers: Vec::new(),
        });
    }
}

/// `<prefix>.transaction`.
#[derive(Debug)]
pub(crate) struct TransactionTopic(SchemaTarget);

impl TransactionTopic {
    pub(crate) fn append_begin(
        &self,
        outbox: &mut Outbox,
        seq: u64,
        id: TransactionId,
        commit_time_us: i64,
    ) {
        self.0.append(
            outbox,
            seq,
            |out| id.encode_key(out),
            |out| id.encode_begin(commit_time_us, out),
        );
    }

    /// `events` holds the number of events per table.
    pub(crate) fn append_end<'a>(
        &self,
        outbox: &mut Outbox,
        seq: u64,
        id: TransactionId,
        commit_time_us: i64,
        events: impl ExactSizeIterator<Item = (&'a str, i64)> + Clone,
    ) {
        self.0.append(
            outbox,
            seq,
            |out| id.encode_key(out),
            |out| id.encode_end(commit_time_us, events, out),
        );
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self(SchemaTarget {
            topic: "p.transaction".into(),
            key_schema_id: 11,
            value_schema_id: 12,
            max_batch_bytes: usize::MAX,
        })
    }
}

/// `<prefix>.message`.
#[derive(Debug)]
pub(crate) struct MessageTopic {
    target: SchemaTarget,
    plan: MessagePlan,
}

impl MessageTopic {
    /// What the transaction metadata calls the messages' "table", as Debezium does.
    pub(crate) const DATA_COLLECTION: &str = "LOGICAL_DECODING_MESSAGE";

    pub(crate) fn append(
        &self,
        outbox: &mut Outbox,
        seq: u64,
        change: &Change<'_>,
        prefix: &str,
        content: &[u8],
    ) {
        self.target.append(
            outbox,
            seq,
            |out| MessagePlan::encode_key(prefix, out),
            |out| self.plan.encode_value(change, prefix, content, out),
        );
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let identity = tributary_schemas::encode::SourceIdentity {
            version: "0".to_owned(),
            connector: "postgresql".to_owned(),
            name: "p".to_owned(),
            db: "d".to_owned(),
            region: None,
        };
        Self {
            target: SchemaTarget {
                topic: "p.message".into(),
                key_schema_id: 21,
                value_schema_id: 22,
                max_batch_bytes: usize::MAX,
            },
            plan: MessagePlan::compile(&identity),
        }
    }
}
