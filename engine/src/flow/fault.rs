//! A record that cannot be applied, and the message that says so.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;
use tributary_schemas::decode::{DecodeError, SchemaError};
use tributary_schemas::header;
use tributary_schemas::record::Op;

use crate::flow::records::Record;
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

/// How the fault of a record begins that has no version among such that have.
const UNVERSIONED: &str = "the record lacks the header";

const SET_ASIDE: &str = "or set on_error = \"dead-letter\" to put such records aside";

/// What Debezium's connectors have to do. The records that are there stay as they are, so the topic is begun again.
const AS_AVRO: &str = "set the connector's key.converter and value.converter to an Avro converter with the schema registry, \
     and begin the topic again (delete it, and take the connector's snapshot again)";
const AS_ENVELOPES: &str = "have the producer write change events, and begin the topic again (delete it, and take the \
     producer's snapshot again)";

const WITH_KEYS: &str = "give the table a primary key, or set the connector's message.key.columns to columns that are NOT NULL, \
     and begin the topic again (delete it, and take the connector's snapshot again)";
/// Of Apicurio's converter, whose defaults are others.
const APICURIO: &str = "set headers.enabled=false, as-confluent=true and use-id=contentId, each behind key.converter.apicurio.registry. \
     and value.converter.apicurio.registry., and begin the topic again (delete it, and take the connector's snapshot again)";
/// How the headers begin in which Apicurio's converter puts the id of the schema.
const APICURIO_HEADER: &str = "apicurio.";

/// The one remedy that begins with putting the record aside.
const UNAPPLIED_TRUNCATE: &str = "set on_error = \"dead-letter\" to put the record aside, and delete from the target the \
     rows that the table has no more; to have such records applied, give the topic one partition, and to have none, \
     leave Debezium's skipped.operations at its default";

impl RecordFault {
    pub(crate) fn not_wire_format(record: Record<'_>, part: Part, data: &[u8]) -> Self {
        let offset = record.offset;
        let mut headers = record.headers();
        if headers.any(|(name, _)| name.starts_with(APICURIO_HEADER)) {
            return Self {
                offset,
                what: format!("the {part}'s schema id is in a header, not in front of it"),
                remedy: APICURIO,
            };
        }
        if let Some(form) = json_form(data) {
            return Self {
                offset,
                what: format!("the {part} is JSON {form}, not Avro"),
                remedy: AS_AVRO,
            };
        }
        Self {
            offset,
            what: format!(
                "the {part} is not in the Avro wire format (a zero byte, the schema's id in four bytes, the body)"
            ),
            remedy: "have all producers of the topic write Avro with the schema registry",
        }
    }

    pub(crate) fn unversioned(offset: i64) -> Self {
        Self {
            offset,
            what: format!(
                "{UNVERSIONED} {}, which records of the partition have, so that nothing says what of the row is newer",
                header::SEQ
            ),
            remedy: "let one source only write to the topic",
        }
    }

    pub(crate) fn truncate_of_a_part(offset: i64, partitions: i32) -> Self {
        Self {
            offset,
            what: format!(
                "the record says that the table was emptied (op t), and the topic has {partitions} partitions, between \
                 which nothing tells what was before that"
            ),
            remedy: UNAPPLIED_TRUNCATE,
        }
    }

    pub(crate) fn unknown_schema(offset: i64, part: Part, id: u32) -> Self {
        if id == 0 {
            return Self {
                offset,
                what: format!(
                    "the {part}'s schema id is 0, as is the first half of an id in eight bytes"
                ),
                remedy: APICURIO,
            };
        }
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
            remedy: AS_ENVELOPES,
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

    /// An update or a delete that does not say of which row.
    pub(crate) fn keyless_change(offset: i64, op: Op) -> Self {
        let what = match op {
            Op::Delete => "a delete",
            _ => "an update",
        };
        Self {
            offset,
            what: format!("the record is {what} without a key"),
            remedy: WITH_KEYS,
        }
    }

    pub(crate) fn null_in_key(offset: i64, column: &str) -> Self {
        Self {
            offset,
            what: format!(
                "the key's column '{column}' is null, so that several rows may have this key"
            ),
            remedy: WITH_KEYS,
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
        let error = Error::stop_msg(format_args!("{place}: {}", self.what));
        if self.remedy == UNAPPLIED_TRUNCATE {
            return error.remedy(self.remedy);
        }
        error.remedy(format!("{}, {SET_ASIDE}", self.remedy))
    }
}

/// Whether a fault says that the partition's records have versions, which this one lacks.
pub(crate) fn says_versioned(what: &str) -> bool {
    what.starts_with(UNVERSIONED)
}

/// Where a record stands, as all messages about one say it.
pub(crate) fn place(partition: &TopicPartition, offset: i64) -> String {
    format!(
        "topic {} partition {} offset {offset}",
        partition.topic, partition.partition
    )
}

/// What Connect's JsonConverter wraps a value in, unless it is told not to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is enough that the members are there")]
struct WithSchema {
    schema: IgnoredAny,
    payload: IgnoredAny,
}

/// Which JSON it is, if it is an object or a list: a text or a number alone may be anything.
fn json_form(data: &[u8]) -> Option<&'static str> {
    let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
    if !matches!(first, Some(b'{' | b'[')) || serde_json::from_slice::<IgnoredAny>(data).is_err() {
        return None;
    }
    Some(match serde_json::from_slice::<WithSchema>(data) {
        Ok(_) => "with its schema in each record (schemas.enable=true)",
        Err(_) => "without a schema (schemas.enable=false)",
    })
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}
