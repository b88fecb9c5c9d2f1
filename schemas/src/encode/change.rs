//! What an envelope is made of.

use super::binary;
use crate::lsn::Lsn;
use crate::record::Op;
use crate::table::Cell;

/// The constant parts of the `source` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// The source's logical name (`source.name`).
    pub name: String,
    /// The database.
    pub db: String,
    /// The region that the configuration gives the source.
    pub region: Option<String>,
    /// The version of the program that writes.
    pub version: String,
    /// The kind of connector: `postgresql`.
    pub connector: String,
}

/// A change event; one without rows is a truncate.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What happened.
    pub op: Op,
    /// The old row.
    pub before: Option<&'a [Cell<'a>]>,
    /// The new row.
    pub after: Option<&'a [Cell<'a>]>,
    /// The commit's time in microseconds since 1970, 0 where unknown.
    pub commit_time_us: i64,
    /// Whether a snapshot read the row, and which of its rows it is.
    pub snapshot: Snapshot,
    /// The last commit's LSN, and this change's.
    pub sequence: (Option<Lsn>, Lsn),
    /// The transaction's id.
    pub tx_id: Option<i64>,
    /// This change's LSN.
    pub lsn: Option<Lsn>,
    /// The change's place in its transaction, where that is wanted.
    pub transaction: Option<TransactionBlock>,
    /// When the source handled the change, in nanoseconds since 1970.
    pub handled_at_ns: i64,
}

/// A change's place in its transaction.
#[derive(Debug, Clone, Copy)]
pub struct TransactionBlock {
    /// The transaction's id, as in the `transaction` topic.
    pub id: TransactionId,
    /// The place among all events of the transaction, from 1.
    pub total_order: i64,
    /// The place among the events of this table, from 1.
    pub data_collection_order: i64,
}

/// A transaction's id: in text `<xid>:<commit LSN>`, both in decimal.
///
/// Debezium's has the LSN of each record instead, so that no two records of a transaction agree on its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionId {
    /// Postgres' id, without its epoch.
    pub xid: u32,
    /// Where it was committed.
    pub commit_lsn: Lsn,
}

impl TransactionId {
    pub(super) fn append(self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        binary::sized(out, |out| {
            out.extend_from_slice(digits.format(self.xid).as_bytes());
            out.push(b':');
            out.extend_from_slice(digits.format(self.commit_lsn.0).as_bytes());
        });
    }
}

/// Whether a snapshot read the row (`source.snapshot`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// By the first snapshot.
    True,
    /// The first of all.
    First,
    /// The first of its table.
    FirstInDataCollection,
    /// The last of its table.
    LastInDataCollection,
    /// The last of all.
    Last,
    /// It comes from the stream.
    False,
    /// By a chunk that was read beside the stream.
    Incremental,
}

impl Snapshot {
    /// The text in the envelope.
    pub const fn text(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::First => "first",
            Self::FirstInDataCollection => "first_in_data_collection",
            Self::LastInDataCollection => "last_in_data_collection",
            Self::Last => "last",
            Self::False => "false",
            Self::Incremental => "incremental",
        }
    }

    /// The field as Avro bytes: the union's first branch, for that is the one with the default,
    /// then the string.
    pub(super) const fn avro(self) -> &'static [u8] {
        match self {
            Self::True => b"\0\x08true",
            Self::First => b"\0\x0afirst",
            Self::FirstInDataCollection => b"\0\x30first_in_data_collection",
            Self::LastInDataCollection => b"\0\x2elast_in_data_collection",
            Self::Last => b"\0\x08last",
            Self::False => b"\0\x0afalse",
            Self::Incremental => b"\0\x16incremental",
        }
    }
}
