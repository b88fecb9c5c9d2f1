//! What gets into Kafka, and what of it is remembered: topics, records, the one producer, progress. It opens no connection
//! to Postgres.

pub(crate) mod claims;
pub(crate) mod log_end;
pub(crate) mod metadata;
pub(crate) mod outbox;
pub(crate) mod progress;
pub(crate) mod publisher;
pub(crate) mod specs;
pub(crate) mod steps;
pub(crate) mod table_topic;
pub(crate) mod topics;
