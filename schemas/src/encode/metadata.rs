//! Records that are no row's: where transactions begin and end, and logical messages.

use super::binary;
use super::change::{Change, SourceIdentity, TransactionId};
use super::source::{SourceParts, append_source, append_transaction};

impl TransactionId {
    /// Appends the key of its BEGIN and its END, record `TransactionMetadataKey`.
    pub fn encode_key(self, out: &mut Vec<u8>) {
        self.append(out);
    }

    /// Appends its BEGIN, record `TransactionMetadataValue`. The time is the commit's, in microseconds since 1970.
    pub fn encode_begin(self, commit_time_us: i64, out: &mut Vec<u8>) {
        binary::string(b"BEGIN", out);
        self.append(out);
        out.extend_from_slice(&[binary::NULL, binary::NULL]);
        binary::long(commit_time_us.div_euclid(1000), out);
    }

    /// Appends its END, record `TransactionMetadataValue`, with the number of events of each table
    /// (`schema.table`).
    pub fn encode_end<'a>(
        self,
        commit_time_us: i64,
        events: impl ExactSizeIterator<Item = (&'a str, i64)> + Clone,
        out: &mut Vec<u8>,
    ) {
        binary::string(b"END", out);
        self.append(out);
        let all = events.clone().map(|(_, count)| count).sum();
        binary::optional_long(Some(all), out);
        out.push(binary::VALUE);
        let tables = events.len();
        if tables > 0 {
            binary::long(i64::try_from(tables).unwrap_or(i64::MAX), out);
            for (table, count) in events {
                out.push(binary::VALUE);
                binary::string(table.as_bytes(), out);
                binary::long(count, out);
            }
        }
        // The end of the array's blocks.
        binary::long(0, out);
        binary::long(commit_time_us.div_euclid(1000), out);
    }
}

/// How logical messages become Avro.
#[derive(Debug, Clone)]
pub struct MessagePlan {
    source: SourceParts,
}

impl MessagePlan {
    /// Compiles the plan of a source.
    pub fn compile(source: &SourceIdentity) -> Self {
        Self {
            source: SourceParts::compile("", "", source),
        }
    }

    /// Appends the key of a message, record `MessageKey`.
    pub fn encode_key(prefix: &str, out: &mut Vec<u8>) {
        out.push(binary::VALUE);
        binary::string(prefix.as_bytes(), out);
    }

    /// Appends a message, record `MessageValue`. Of the change everything but its rows counts.
    pub fn encode_value(
        &self,
        change: &Change<'_>,
        prefix: &str,
        content: &[u8],
        out: &mut Vec<u8>,
    ) {
        binary::string(b"m", out);
        binary::optional_long(Some(change.handled_at_ns.div_euclid(1_000_000)), out);
        append_source(&self.source, change, out);
        append_transaction(change.transaction, out);
        for bytes in [prefix.as_bytes(), content] {
            out.push(binary::VALUE);
            binary::string(bytes, out);
        }
    }
}
