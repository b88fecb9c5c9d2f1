//! Names and forms of the record headers.

/// The row's version: eight bytes, big-endian, positive, strictly increasing per source in the stream.
pub const SEQ: &str = "tributary.seq";
/// On an `op = t` record: rows of that source and table with a [`SEQ`] below this one are gone. Form as [`SEQ`].
pub const BELOW: &str = "tributary.below";
/// The columns that the source completed by a look-up, as a comma-separated list.
pub const COMPLETED: &str = "tributary.completed";
/// The columns that could not be completed (row, column or table gone meanwhile), as a comma-separated list.
pub const INCOMPLETE: &str = "tributary.incomplete";
/// On the delete that a changed key begins with: the new key, in the wire format of the topic's keys.
pub const NEW_KEY: &str = "__debezium.newkey";
/// On the create that a changed key ends with: the old key, in the wire format of the topic's keys.
pub const OLD_KEY: &str = "__debezium.oldkey";

/// Reads the value of [`SEQ`] or [`BELOW`]; `None` unless it is eight bytes and positive.
pub fn parse_seq(value: &[u8]) -> Option<u64> {
    let seq = i64::from_be_bytes(value.try_into().ok()?);
    u64::try_from(seq).ok().filter(|&seq| seq > 0)
}
