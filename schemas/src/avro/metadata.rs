//! The schemas of the topics beside the tables': transactions and logical messages.
//!
//! As Debezium names them (`SchemaFactory`, `PostgresSchemaFactory` of 3.x), in the form in which Kafka Connect's
//! Avro converters write them.

use super::block::{SOURCE, TRANSACTION, optional, plain};

/// The schema of the keys of `<prefix>.transaction`: the transaction's id.
pub const TRANSACTION_KEY_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"TransactionMetadataKey","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"id","type":"string"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.TransactionMetadataKey"}"#,
);

/// The schema of the values of `<prefix>.transaction`: BEGIN or END, the latter with counts.
pub const TRANSACTION_VALUE_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"TransactionMetadataValue","namespace":"io.debezium.connector.common","fields":["#,
    r#"{"name":"status","type":"string"},"#,
    r#"{"name":"id","type":"string"},"#,
    r#"{"name":"event_count","type":["null","long"],"default":null},"#,
    r#"{"name":"data_collections","type":["null",{"type":"array","items":["null","#,
    r#"{"type":"record","name":"collection","namespace":"event","fields":["#,
    r#"{"name":"data_collection","type":"string"},"#,
    r#"{"name":"event_count","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"event.collection"}]}],"default":null},"#,
    r#"{"name":"ts_ms","type":"long"}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.common.TransactionMetadataValue"}"#,
);

/// The schema of the keys of `<prefix>.message`: the message's prefix.
pub const MESSAGE_KEY_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"MessageKey","namespace":"io.debezium.connector.postgresql","fields":["#,
    r#"{"name":"prefix","type":["null","string"],"default":null}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.MessageKey"}"#,
);

const MESSAGE: &str = concat!(
    r#"{"type":"record","name":"Message","fields":["#,
    r#"{"name":"prefix","type":["null","string"],"default":null},"#,
    r#"{"name":"content","type":["null","bytes"],"default":null}],"#,
    r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.Message"}"#,
);

/// The schema of the values of `<prefix>.message`.
pub fn message_value_schema() -> String {
    let fields = [
        plain("op", "\"string\""),
        optional("ts_ms", "\"long\""),
        plain("source", SOURCE),
        optional("transaction", TRANSACTION),
        plain("message", MESSAGE),
    ];
    format!(
        concat!(
            r#"{{"type":"record","name":"MessageValue","namespace":"io.debezium.connector.postgresql","fields":[{}],"#,
            r#""connect.version":1,"connect.name":"io.debezium.connector.postgresql.MessageValue"}}"#,
        ),
        fields.join(",")
    )
}
