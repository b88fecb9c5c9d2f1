//! What of the stream is published beside the rows, and how it is received.

use serde::Deserialize;

/// What is published beside the tables' rows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// BEGIN and END of every transaction, in `<prefix>.transaction`, and each event's place in its own.
    pub transactions: bool,
    /// Logical messages, in `<prefix>.message`.
    pub messages: bool,
}
