//! What sources write beside change events: known by what it is. A topic's name does not tell it: `eu.shop.progress` is the
//! progress topic of the prefix `eu.shop`, or the table `progress` of the schema `shop`.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tributary_schemas::decode::SchemaError;
use tributary_schemas::wire;

use crate::flow::plans::Plans;
use crate::flow::records::Record;

/// The values that Debezium, and our source like it, write about themselves, by the end of their schemas' names.
const SCHEMAS: [&str; 5] = [
    "Heartbeat",
    "MessageValue",
    "Notification",
    "SchemaChangeValue",
    "TransactionMetadataValue",
];
/// What their names begin with.
const NAMESPACE: &str = "io.debezium.connector.";

/// A record of `<prefix>.progress`: a source's position, or its tables.
#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is enough that the members are there")]
enum ProgressRecord {
    Position { format: u32, position: IgnoredAny },
    Tables { format: u32, tables: IgnoredAny },
}

/// A record of `<prefix>.signals`, ours or Debezium's.
#[derive(Deserialize)]
#[expect(dead_code, reason = "it is enough that the member is there")]
struct Signal {
    r#type: String,
}

/// Whether a record that cannot be applied is none of a table, so that nothing is lost without it.
pub(crate) fn stands_beside(topic: &str, record: Record<'_>, plans: &Plans) -> bool {
    let Some(value) = record.value else {
        return false;
    };
    match wire::parse(value) {
        Some((id, _)) => {
            let plan = plans.values.get(&id);
            let error = plan.and_then(|plan| plan.as_ref()?.as_ref().err());
            error.is_some_and(|error| is_about_the_source(error))
        }
        None => match topic.rsplit('.').next() {
            Some("progress") => serde_json::from_slice::<ProgressRecord>(value).is_ok(),
            Some("signals") => serde_json::from_slice::<Signal>(value).is_ok(),
            _ => false,
        },
    }
}

fn is_about_the_source(error: &SchemaError) -> bool {
    let SchemaError::NotAnEnvelope { name, .. } = error else {
        return false;
    };
    let end = name.rsplit('.').next().unwrap_or(name);
    name.starts_with(NAMESPACE) && SCHEMAS.contains(&end)
}

#[cfg(test)]
mod tests {
    use super::stands_beside;
    use crate::flow::plans::Plans;
    use crate::flow::records::Records;
    use crate::flow::records::tests::message;

    fn is_beside(topic: &str, value: &str) -> bool {
        let mut records = Records::default();
        records.push(&message(0, Some(b"k"), Some(value.as_bytes()), &[]));
        let record = records.get(0).unwrap();
        stands_beside(topic, record, &Plans::default())
    }

    #[test]
    fn progress_and_signals_have_their_topic_and_their_form() {
        let position = r#"{"format":3,"system_id":"7","timeline":1,"position":{"lsn":1}}"#;
        let tables = r#"{"format":3,"tables":{"s.t":{}}}"#;
        let signal = r#"{"type":"pause"}"#;
        for (topic, value, expected) in [
            ("eu.shop.progress", position, true),
            ("eu.shop.progress", tables, true),
            ("eu.shop.signals", signal, true),
            ("eu.shop.progress", signal, false),
            ("eu.shop.signals", tables, false),
            ("eu.shop.orders", position, false),
            ("eu.shop.progress", r#"{"format":3}"#, false),
            ("eu.shop.progress", r#"{"id":1}"#, false),
            ("eu.shop.signals", "pause", false),
        ] {
            assert_eq!(is_beside(topic, value), expected, "{topic}: {value}");
        }
    }
}
