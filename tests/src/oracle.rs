//! The oracle: what the topics and the targets should hold, by other means than the product's.
//!
//! The truth about changes is a second slot, decoded by wal2json and read with pg_recvlogical. The truth about
//! rows is SQL text. Topics are decoded with apache-avro, search documents with the engine's own JSON. Nothing here
//! uses a crate of the product.

mod audit;
mod avro_text;
mod avro_time;
mod change_log;
mod differences;
mod documents;
mod event;
mod fold;
mod name;
mod postgres_text;
mod rows;
mod search;
mod topic;
mod warehouse;

pub use audit::{install_audit, read_audit};
pub use change_log::{ChangeLog, KeyColumns};
pub use differences::compare_changes;
pub use documents::compare_documents;
pub use event::Event;
pub use fold::{Fold, Lineage};
pub use name::topic_name;
pub use rows::{Row, TableRows};
pub use search::compare_search;
pub use topic::plain::PlainRecord;
pub use topic::{Offsets, TopicChange, TopicReader, TopicRecord};
pub use warehouse::compare_warehouse;
