//! The reader of wal2json, and the assembly of its records to messages.

use std::collections::HashMap;

use tributary_schemas::Lsn;

use crate::pgoutput::{Message, OldRow, ReplicaIdentity, TupleData};
use crate::wal2json::assembly::{Assembly, Step};
use crate::wal2json::facts::{ColumnFacts, Facts};
use crate::wal2json::{Columns, Reader, Record};

/// Payloads of `XLogData`, one a line, as of one slot: the tables' shapes are remembered from one to the next. The
/// first byte chooses what the catalog would have answered.
pub fn run(input: &[u8]) {
    let Some((choice, payloads)) = input.split_first() else {
        return;
    };
    let (mut assembly, mut reader) = (Assembly::default(), Reader::default());
    let mut oids = HashMap::new();
    let mut widths = HashMap::new();
    for payload in payloads.split(|byte| *byte == b'\n') {
        if assembly.read(payload).is_err() {
            continue;
        }
        for step in 0.. {
            assert!(step < 8, "the record never ends");
            match assembly.step() {
                Err(_) | Ok(Step::Done) => break,
                Ok(Step::Message(message)) => check(&message, &mut widths),
                Ok(Step::Ask) => {
                    let (schema, table, _) = assembly.question().expect("a question");
                    let next = u32::try_from(oids.len() + 1).expect("few tables");
                    let oid = *oids.entry(format!("{schema}.{table}")).or_insert(next);
                    assembly.learn(answer(&mut reader, payload, *choice, oid));
                }
            }
        }
    }
}

/// Rows are as wide as the last Relation message of their table said.
fn check(message: &Message<'_>, widths: &mut HashMap<u32, usize>) {
    let row = |widths: &HashMap<u32, usize>, relation: u32, row: TupleData<'_>| {
        assert_eq!(row.cells().count(), row.len());
        assert_eq!(widths.get(&relation), Some(&row.len()));
    };
    match message {
        Message::Relation(relation) => {
            widths.insert(relation.oid, relation.columns.len());
        }
        Message::Insert(insert) => row(widths, insert.relation, insert.new),
        Message::Update(update) => {
            row(widths, update.relation, update.new);
            if let Some(old) = update.old {
                row(widths, update.relation, old_row(old));
            }
        }
        Message::Delete(delete) => row(widths, delete.relation, old_row(delete.old)),
        _ => {}
    }
}

const fn old_row(old: OldRow<'_>) -> TupleData<'_> {
    match old {
        OldRow::Key(row) | OldRow::Full(row) => row,
    }
}

/// An answer that fits the record, and the bits of `choice`.
fn answer(reader: &mut Reader, payload: &[u8], choice: u8, oid: u32) -> Facts {
    let bit = |bit: u8| choice >> bit & 1 == 1;
    let columns = match reader.read(payload) {
        Ok(Record::Row(row)) if !bit(2) => {
            let longer = row.columns.len() >= row.identity.len();
            column_facts(
                if longer { row.columns } else { row.identity },
                row.key,
                bit(3),
            )
        }
        _ => Vec::new(),
    };
    Facts {
        read_at: Lsn::ZERO,
        oid,
        identity: match (bit(0), bit(1)) {
            (false, false) => ReplicaIdentity::Default,
            (true, false) => ReplicaIdentity::Full,
            (false, true) => ReplicaIdentity::Index,
            (true, true) => ReplicaIdentity::Nothing,
        },
        ordinary: !bit(4),
        has_generated: columns.iter().any(|column| column.generated),
        columns,
    }
}

fn column_facts(columns: Columns<'_>, key: Columns<'_>, some_generated: bool) -> Vec<ColumnFacts> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let columns = columns.iter().zip(1..);
    let facts = columns.map(|(column, attnum)| ColumnFacts {
        name: text(column.name),
        attnum,
        type_oid: column.type_oid,
        type_modifier: -1,
        type_name: text(column.type_name),
        toastable: column.type_oid != 23,
        generated: some_generated && attnum % 3 == 0,
        key: key.iter().any(|key| key.name == column.name),
    });
    facts.collect()
}
