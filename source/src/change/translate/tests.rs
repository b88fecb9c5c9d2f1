use std::sync::Arc;

use tributary_schemas::table::{Column, ColumnType, Table};
use tributary_schemas::{Lsn, header};

use super::Translator;
use crate::change::relation::RelationShape;
use crate::log::outbox::{Outbox, Record};
use crate::log::progress::Position;
use crate::log::table_topic::TableTopic;
use tributary_postgres::pgoutput;
use tributary_postgres::pgoutput::Message;

mod metadata;

const OID: u32 = 42;

/// `s.t (id int primary key, name text)` as announced.
fn relation() -> Vec<u8> {
    let mut bytes = vec![b'R'];
    bytes.extend(OID.to_be_bytes());
    bytes.extend(b"s\0t\0d");
    bytes.extend(2_u16.to_be_bytes());
    for (key, name, oid) in [(1, "id", 23_u32), (0, "name", 25)] {
        bytes.push(key);
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(oid.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
    }
    bytes
}

fn begin(commit_lsn: u64) -> Vec<u8> {
    [
        &[b'B'][..],
        &commit_lsn.to_be_bytes(),
        &0_u64.to_be_bytes(),
        &7_u32.to_be_bytes(),
    ]
    .concat()
}

fn commit(commit_lsn: u64) -> Vec<u8> {
    [
        &[b'C', 0][..],
        &commit_lsn.to_be_bytes(),
        &(commit_lsn + 8).to_be_bytes(),
        &0_u64.to_be_bytes(),
    ]
    .concat()
}

fn tuple(cells: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = u16::try_from(cells.len()).unwrap().to_be_bytes().to_vec();
    for cell in cells {
        match cell {
            // An empty text stands for a column that the update did not touch.
            Some("") => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            None => bytes.push(b'n'),
        }
    }
    bytes
}

fn change(kind: u8, parts: &[(u8, &[Option<&str>])]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(OID.to_be_bytes());
    for (part, cells) in parts {
        bytes.push(*part);
        bytes.extend(tuple(cells));
    }
    bytes
}

fn insert(id: &str) -> Vec<u8> {
    change(b'I', &[(b'N', &[Some(id), Some("x")])])
}

fn translator(position: Position) -> Translator {
    let column = |name: &str, attnum, column_type, key_position| Column {
        name: name.to_owned(),
        attnum,
        column_type,
        key_position,
    };
    let table = Table {
        oid: OID,
        schema: "s".to_owned(),
        name: "t".to_owned(),
        columns: vec![
            column("id", 1, ColumnType::Int4, Some(0)),
            column("name", 2, ColumnType::Text, None),
        ],
    };
    let mut translator = Translator::new(position);
    let bytes = relation();
    let Message::Relation(relation) = pgoutput::decode(&bytes).unwrap() else {
        panic!("no relation")
    };
    translator.learn(
        &RelationShape::of(&relation),
        Some(Arc::new(TableTopic::for_test(table))),
    );
    assert!(translator.knows(&relation));
    translator
}

fn start() -> Position {
    Position::at_consistent_point(Lsn(100), 100)
}

fn feed(translator: &mut Translator, messages: &[Vec<u8>]) {
    for bytes in messages {
        translator
            .apply(&pgoutput::decode(bytes).unwrap(), Lsn(1))
            .unwrap();
    }
}

fn take(translator: &mut Translator) -> Vec<Record> {
    translator.take(Outbox::default()).0.records
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

#[test]
fn seq_is_the_commit_lsn_or_one_more_than_the_last() {
    let mut translator = translator(start());
    feed(
        &mut translator,
        &[
            begin(200),
            insert("1"),
            insert("2"),
            commit(200),
            begin(201),
            insert("3"),
            commit(201),
        ],
    );
    assert_eq!(seqs(&take(&mut translator)), [200, 201, 202]);
    let position = translator.position();
    assert_eq!(
        (
            position.commit_lsn(),
            position.ordinal(),
            position.published_of(Lsn(201)),
            position.confirm()
        ),
        (Lsn(201), 1, None, Lsn(209))
    );
}

/// Cut anywhere, and continued from the position of the cut over the same messages, the records are the same.
#[test]
fn a_restart_behind_any_message_continues_exactly() {
    let messages = [
        begin(200),
        insert("1"),
        insert("2"),
        commit(200),
        begin(300),
        change(
            b'U',
            &[(b'K', &[Some("1"), None]), (b'N', &[Some("9"), Some("x")])],
        ),
        insert("3"),
        commit(300),
        begin(301),
        change(b'D', &[(b'K', &[Some("2"), None])]),
        commit(301),
    ];
    let mut whole = translator(start());
    feed(&mut whole, &messages);
    let expected = seqs(&take(&mut whole));
    assert_eq!(expected.len(), 2 + 3 + 1 + 2);
    for cut in 0..=messages.len() {
        let mut first = translator(start());
        feed(&mut first, &messages[..cut]);
        let mut seen = seqs(&take(&mut first));
        let mut second = translator(first.position());
        feed(&mut second, &messages);
        seen.extend(seqs(&take(&mut second)));
        assert_eq!(seen, expected, "cut behind message {cut}");
        assert_eq!(
            second.position(),
            whole.position(),
            "cut behind message {cut}"
        );
    }
}

#[test]
fn of_a_transaction_that_is_cut_only_its_predecessor_is_confirmed() {
    let mut translator = translator(start());
    feed(
        &mut translator,
        &[
            begin(200),
            insert("1"),
            commit(200),
            begin(300),
            insert("2"),
        ],
    );
    let position = translator.position();
    assert_eq!(
        (position.published_of(Lsn(300)), position.confirm()),
        (Some(1), Lsn(208))
    );
    // A keepalive in the middle of a transaction says nothing about it.
    translator.skip_to(Lsn(400));
    assert_eq!(translator.position().confirm(), Lsn(208));
    feed(&mut translator, &[commit(300)]);
    translator.skip_to(Lsn(400));
    assert_eq!(translator.position().confirm(), Lsn(400));
}

#[test]
fn a_changed_key_is_a_delete_a_tombstone_and_a_create() {
    let mut translator = translator(start());
    feed(
        &mut translator,
        &[
            begin(200),
            change(
                b'U',
                &[(b'K', &[Some("1"), None]), (b'N', &[Some("2"), Some("x")])],
            ),
        ],
    );
    let records = take(&mut translator);
    let names = |record: &Record| {
        record
            .headers
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
    };
    assert_eq!(records.len(), 3);
    assert_eq!(names(&records[0]), [header::NEW_KEY]);
    // The tombstone too says where the row went, as Debezium's does.
    assert!(records[1].value.is_none() && names(&records[1]) == [header::NEW_KEY]);
    assert_eq!(names(&records[2]), [header::OLD_KEY]);
    assert_eq!(seqs(&records), [200, 201, 202]);
}

#[test]
fn a_truncate_is_one_record_in_each_partition() {
    let mut translator = translator(start());
    let truncate = [&[b'T'][..], &1_u32.to_be_bytes(), &[0], &OID.to_be_bytes()].concat();
    feed(
        &mut translator,
        &[begin(200), insert("1"), truncate, insert("2"), commit(200)],
    );
    let records = take(&mut translator);
    assert_eq!(seqs(&records), [200, 201, 202, 203, 204]);
    assert_eq!(
        records[1..4]
            .iter()
            .map(|record| record.partition)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    for record in &records[1..4] {
        // Above the row before it, and not above the row behind it.
        assert_eq!(
            record.headers,
            [(header::BELOW, 201_u64.to_be_bytes().to_vec())]
        );
    }
}

#[test]
fn an_untouched_column_keeps_its_record_waiting() {
    let mut translator = translator(start());
    feed(
        &mut translator,
        &[
            begin(200),
            change(b'U', &[(b'N', &[Some("1"), Some("")])]),
            insert("2"),
        ],
    );
    let (outbox, incomplete) = translator.take(Outbox::default());
    assert_eq!((outbox.records.len(), incomplete.len()), (2, 1));
    assert!(outbox.records[0].value.is_none() && outbox.records[1].value.is_some());
}

#[test]
fn a_transaction_may_end_before_a_row_that_waits() {
    let untouched = || change(b'U', &[(b'N', &[Some("1"), Some("")])]);
    let messages = [
        begin(200),
        insert("1"),
        untouched(),
        insert("2"),
        untouched(),
        insert("3"),
        commit(200),
    ];
    let mut whole = translator(start());
    feed(&mut whole, &messages);
    let end = whole.position();
    let (mut outbox, mut incomplete) = whole.take(Outbox::default());
    let position = whole.give_back(&mut outbox, incomplete.split_off(1));
    assert_eq!(outbox.records.len(), 3);
    assert_eq!(position.published_of(Lsn(200)), Some(3));
    assert_eq!(position.seq(), outbox.records[2].seq);
    assert!(whole.has_incomplete() && whole.position() == end);
    // What is left is what the stream brings again behind that position.
    let mut again = translator(position);
    feed(&mut again, &messages);
    assert_eq!(again.position(), end);
    assert_eq!(seqs(&take(&mut whole)), seqs(&take(&mut again)));
    assert!(!whole.has_incomplete());
    let nothing = whole.give_back(&mut Outbox::default(), Vec::new());
    assert_eq!(nothing, end);
}

#[test]
fn a_stream_that_contradicts_itself_is_an_error() {
    for messages in [vec![insert("1")], vec![commit(1)], vec![begin(1), begin(2)]] {
        let mut translator = translator(start());
        let results: Vec<_> = messages
            .iter()
            .map(|bytes| translator.apply(&pgoutput::decode(bytes).unwrap(), Lsn(1)))
            .collect();
        assert!(results.last().unwrap().is_err());
    }
}
