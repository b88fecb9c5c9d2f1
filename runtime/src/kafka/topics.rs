//! Many topics described at once, with their ids, which tell a topic from another one that later got its name. rdkafka
//! does not expose either, librdkafka does.

#![allow(
    unsafe_code,
    reason = "librdkafka's DescribeTopics has no safe wrapper; every pointer stays in this file"
)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::classify::classify;
use super::native::{Owned, code_of, text};
use crate::Error;

/// So many topics are described in one request.
const AT_ONCE: usize = 500;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopic {
    /// As Kafka prints it; a broker without ids gives none.
    pub id: Option<String>,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Why topics could not be described.
#[derive(Debug)]
struct Undescribed {
    /// The one that is refused, if it is one.
    topic: Option<String>,
    error: KafkaError,
}

impl From<KafkaError> for Undescribed {
    fn from(error: KafkaError) -> Self {
        Self { topic: None, error }
    }
}

/// By topic.
pub type DescribedTopics = BTreeMap<String, DescribedTopic>;

/// What a broker answers that does not know topic ids: all bits zero.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Those of these topics that exist.
///
/// # Errors
/// The brokers do not answer in time, or refuse (DESCRIBE on the topic is needed).
pub async fn describe<C: ClientContext + 'static>(
    admin: &Arc<AdminClient<C>>,
    topics: &[String],
) -> Result<DescribedTopics, Error> {
    let mut described = BTreeMap::new();
    for some in topics.chunks(AT_ONCE) {
        let (admin, some) = (Arc::clone(admin), some.to_vec());
        let asking = tokio::task::spawn_blocking(move || ask(admin.inner(), &some, TIMEOUT));
        let answer = asking.await.map_err(Error::stop)?;
        described.extend(answer.map_err(|undescribed| {
            let error = classify(&undescribed.error);
            match undescribed.topic {
                Some(topic) => error.context(format!("look topic '{topic}' up")),
                None => error.context("look the topics up"),
            }
        })?);
    }
    Ok(described)
}

/// Those of these topics that exist. One request; blocks, for `timeout` at the most.
///
/// # Errors
/// The brokers do not answer in time, or refuse (DESCRIBE on the topic is needed).
fn ask<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<DescribedTopics, Undescribed> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Result<Vec<CString>, _> = topics.iter().map(|t| CString::new(&**t)).collect();
    let names = names.map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidTopic))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as the borrow of `client`; the names live until the end of this function, and
    // librdkafka copies them; the event, and with it all that is read from it, lives until `event` is dropped.
    unsafe {
        let asked = Owned::new(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        )?;
        let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let event = super::native::ask(rk, kind, timeout, |options, queue| {
            native::rd_kafka_DescribeTopics(rk, asked.object, options, queue);
        })?;
        read(event.object)
    }
}

/// # Safety
/// `event` is an event of librdkafka that lives for the whole call.
unsafe fn read(event: *mut native::rd_kafka_event_t) -> Result<DescribedTopics, Undescribed> {
    let mut described = BTreeMap::new();
    // SAFETY: the caller's promise; the array has `count` descriptions, whose parts live as long as the event.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail).into());
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for at in 0..count {
            let topic = *topics.add(at);
            let Some(name) = text(native::rd_kafka_TopicDescription_name(topic)) else {
                continue;
            };
            match code_of(native::rd_kafka_TopicDescription_error(topic)) {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                    continue;
                }
                code => {
                    return Err(Undescribed {
                        topic: Some(name),
                        error: KafkaError::AdminOp(code),
                    });
                }
            }
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let id = (!id.is_null()).then(|| text(native::rd_kafka_Uuid_base64str(id)));
            let mut partitions = 0;
            native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            let topic = DescribedTopic {
                id: id.flatten().filter(|id| id != NO_ID),
                partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            };
            described.insert(name, topic);
        }
    }
    Ok(described)
}
