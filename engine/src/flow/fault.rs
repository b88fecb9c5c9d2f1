//! A record that cannot be applied, and the message that says so.

use std::fmt;

use tributary_schemas::decode::{DecodeError, SchemaError};

use crate::topics::TopicPartition;
use tributary_runtime::Error;

/// A record that cannot be applied. The message is part of the operator's interface: keep it stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordFault {
    pub(crate) offset: i64,
    pub(crate) what: String,
    remedy: &'static str,
}

/// The part of a record that a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

const SET_ASIDE: &str = "or set on_error = \"dead-letter\" to put such records aside";

impl RecordFault {
    pub(crate) fn not_wire_format(offset: i64, part: Part) -> Self {
        Self {
            offset,
            what: format!(
                "the {part} is not in the Avro wire format (a zero byte, the schema's id in four bytes, the body)"
            ),
            remedy: "have all producers of the topic write Avro with the schema registry",
        }
    }

    pub(crate) fn unknown_schema(offset: i64, part: Part, id: u32) -> Self {
        Self {
            offset,
            what: format!("the {part}'s schema id {id} is unknown to the schema registry"),
            remedy: "set kafka.registry to the registry that the producer uses, or restore its store",
        }
    }

    pub(crate) fn unusable_schema(offset: i64, part: Part, id: u32, error: &SchemaError) -> Self {
        Self {
            offset,
            what: format!("the {part}'s schema id {id} cannot be used: {error}"),
            remedy: "have the producer write change events",
        }
    }

    pub(crate) fn corrupt(offset: i64, part: Part, id: u32, error: &DecodeError) -> Self {
        Self {
            offset,
            what: format!("the {part} does not decode with schema id {id}: {error}"),
            remedy: "find out what wrote the record",
        }
    }

    pub(crate) fn malformed_header(offset: i64, name: &str) -> Self {
        Self {
            offset,
            what: format!("the header {name} is not a positive number in eight big-endian bytes"),
            remedy: "find out what wrote the record",
        }
    }

    pub(crate) fn nothing_to_apply(offset: i64, what: &str) -> Self {
        Self {
            offset,
            what: what.to_owned(),
            remedy: "have the topic carry one table's changes only",
        }
    }

    pub(crate) fn rejected(offset: i64, reason: &str) -> Self {
        Self {
            offset,
            what: format!("the target refuses the record: {reason}"),
            remedy: "make the target take it",
        }
    }

    /// The error that stops the service.
    pub(crate) fn into_error(self, partition: &TopicPartition) -> Error {
        let place = place(partition, self.offset);
        Error::stop_msg(format_args!("{place}: {}", self.what))
            .remedy(format!("{}, {SET_ASIDE}", self.remedy))
    }
}

/// Where a record stands, as all messages about one say it.
pub(crate) fn place(partition: &TopicPartition, offset: i64) -> String {
    format!(
        "topic {} partition {} offset {offset}",
        partition.topic, partition.partition
    )
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}
