//! The parts of an envelope that are no row's: the blocks `source` and `transaction`.

use super::binary;
use super::change::{Change, SourceIdentity, TransactionBlock};
use crate::lsn::Lsn;

/// The parts of the `source` block that are the same for every record, as Avro bytes.
#[derive(Debug, Clone)]
pub(super) struct SourceParts {
    /// version, connector, name
    head: Vec<u8>,
    /// db, and that the sequence after it is not null
    database: Vec<u8>,
    /// schema, table
    table: Vec<u8>,
    /// xmin, origin, origin_lsn, region
    tail: Vec<u8>,
}

impl SourceParts {
    pub(super) fn compile(schema: &str, table: &str, source: &SourceIdentity) -> Self {
        let strings = |texts: &[&str]| {
            let mut out = Vec::new();
            for text in texts {
                binary::string(text.as_bytes(), &mut out);
            }
            out
        };
        let mut tail = vec![binary::NULL; 3];
        match &source.region {
            None => tail.push(binary::NULL),
            Some(region) => {
                tail.push(binary::VALUE);
                binary::string(region.as_bytes(), &mut tail);
            }
        }
        let mut database = strings(&[&source.db]);
        database.push(binary::VALUE);
        Self {
            head: strings(&[&source.version, &source.connector, &source.name]),
            database,
            table: strings(&[schema, table]),
            tail,
        }
    }
}

/// Appends the block `source`.
pub(super) fn append_source(source: &SourceParts, change: &Change<'_>, out: &mut Vec<u8>) {
    let commit_us = change.commit_time_us;
    out.extend_from_slice(&source.head);
    binary::long(commit_us.div_euclid(1000), out);
    out.extend_from_slice(change.snapshot.avro());
    out.extend_from_slice(&source.database);
    append_sequence(change.sequence, out);
    binary::optional_long(Some(commit_us), out);
    binary::optional_long(commit_us.checked_mul(1000), out);
    out.extend_from_slice(&source.table);
    binary::optional_long(change.tx_id, out);
    binary::optional_long(change.lsn.map(|lsn| lsn.0.cast_signed()), out);
    out.extend_from_slice(&source.tail);
}

/// `["<last commit LSN>","<this LSN>"]`, with null where there was no commit yet, as Debezium has it.
fn append_sequence((last_commit, this): (Option<Lsn>, Lsn), out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    binary::sized(out, |out| {
        match last_commit {
            None => out.extend_from_slice(b"[null,\""),
            Some(last) => {
                out.extend_from_slice(b"[\"");
                out.extend_from_slice(digits.format(last.0).as_bytes());
                out.extend_from_slice(b"\",\"");
            }
        }
        out.extend_from_slice(digits.format(this.0).as_bytes());
        out.extend_from_slice(b"\"]");
    });
}

/// Appends the block `transaction`, or null.
pub(super) fn append_transaction(transaction: Option<TransactionBlock>, out: &mut Vec<u8>) {
    let Some(block) = transaction else {
        out.push(binary::NULL);
        return;
    };
    out.push(binary::VALUE);
    block.id.append(out);
    binary::long(block.total_order, out);
    binary::long(block.data_collection_order, out);
}
