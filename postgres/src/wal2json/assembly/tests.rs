use std::collections::HashMap;

use tributary_schemas::Lsn;

use super::super::facts::{ColumnFacts, Facts};
use super::{Assembly, Step};
use crate::pgoutput::{Cell, Message, OldRow, ReplicaIdentity, TupleData};

fn column(name: &str, type_oid: u32, type_name: &str, key: bool) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        attnum: 0,
        type_oid,
        type_modifier: -1,
        type_name: type_name.to_owned(),
        toastable: !matches!(type_oid, 23 | 701),
        generated: false,
        key,
    }
}

fn facts(read_at: u64, columns: Vec<ColumnFacts>) -> Facts {
    let number = |(index, column)| ColumnFacts {
        attnum: i16::try_from(index).unwrap() + 1,
        ..column
    };
    let columns: Vec<_> = columns.into_iter().enumerate().map(number).collect();
    Facts {
        read_at: Lsn(read_at),
        oid: 9,
        identity: ReplicaIdentity::Default,
        ordinary: true,
        has_generated: columns.iter().any(|column| column.generated),
        columns,
    }
}

/// id int primary key, a text, f double precision, b text
fn ordinary(read_at: u64) -> Facts {
    facts(
        read_at,
        vec![
            column("id", 23, "integer", true),
            column("a", 25, "text", false),
            column("f", 701, "double precision", false),
            column("b", 25, "text", false),
        ],
    )
}

const TYPES: [(&str, u32, &str); 6] = [
    ("id", 23, "integer"),
    ("a", 25, "text"),
    ("f", 701, "double precision"),
    ("b", 25, "text"),
    ("b2", 25, "text"),
    ("g", 25, "text"),
];

/// `[{"name":…}]` of `name=value`, or of `name` alone.
fn list(columns: &[&str]) -> String {
    let items = columns.iter().map(|column| {
        let (name, value) = column.split_once('=').unwrap_or((column, ""));
        let (_, oid, type_name) = TYPES.iter().find(|(known, ..)| *known == name).unwrap();
        let value = if value.is_empty() {
            String::new()
        } else {
            format!(",\"value\":{value}")
        };
        format!(r#"{{"name":"{name}","type":"{type_name}","typeoid":{oid}{value}}}"#)
    });
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A record of table s.t.
fn record(action: char, columns: &[&str], identity: &[&str], key: &[&str]) -> String {
    let mut json = format!(r#"{{"action":"{action}","xid":1,"lsn":"0/1","schema":"s","table":"t""#);
    if action != 'D' {
        json += &format!(",\"columns\":{}", list(columns));
    }
    if action != 'I' {
        json += &format!(",\"identity\":{}", list(identity));
    }
    json + &format!(",\"pk\":{}}}", list(key))
}

fn begin(assembly: &mut Assembly, lsn: u32) {
    let json = format!(
        r#"{{"action":"B","xid":1,"timestamp":"2026-01-01 00:00:00+00","lsn":"0/{lsn:X}"}}"#
    );
    assert_eq!(steps(assembly, &json, &[]), ["begin"]);
}

fn cells(tuple: TupleData<'_>) -> String {
    let cell = |cell| match cell {
        Cell::Null => "-".to_owned(),
        Cell::Unchanged => "?".to_owned(),
        Cell::Text(text) | Cell::Binary(text) => String::from_utf8_lossy(text).into_owned(),
    };
    tuple.into_iter().map(cell).collect::<Vec<_>>().join(" ")
}

fn shown(message: &Message<'_>) -> String {
    let old = |old: &OldRow<'_>| match old {
        OldRow::Key(row) => format!("key {}", cells(*row)),
        OldRow::Full(row) => format!("full {}", cells(*row)),
    };
    match message {
        Message::Begin(_) => "begin".to_owned(),
        Message::Relation(relation) => {
            let columns = relation
                .columns
                .iter()
                .map(|column| format!("{}{}", if column.key { "*" } else { "" }, column.name));
            format!(
                "relation {} {}",
                relation.oid,
                columns.collect::<Vec<_>>().join(" ")
            )
        }
        Message::Insert(insert) => format!("insert {}", cells(insert.new)),
        Message::Update(update) => {
            let old = update
                .old
                .as_ref()
                .map_or_else(String::new, |row| old(row) + ", ");
            format!("update {old}{}", cells(update.new))
        }
        Message::Delete(delete) => format!("delete {}", old(&delete.old)),
        Message::Truncate(truncate) => format!("truncate {:?}", truncate.relations),
        Message::Unpublished => "unpublished".to_owned(),
        other => panic!("{other:?}"),
    }
}

/// All steps of a record; the catalog's answers are taken in their order.
fn steps(assembly: &mut Assembly, json: &str, answers: &[Facts]) -> Vec<String> {
    let mut answers = answers.iter();
    let mut found = Vec::new();
    assembly.read(json.as_bytes()).unwrap();
    loop {
        match assembly.step() {
            Ok(Step::Message(message)) => found.push(shown(&message)),
            Ok(Step::Done) => break,
            Ok(Step::Ask) => {
                found.push("ask".to_owned());
                assembly.learn(answers.next().expect("an answer").clone());
            }
            Err(error) => {
                found.push(format!("error: {error}"));
                break;
            }
        }
    }
    assert_eq!(answers.len(), 0, "answers are left");
    found
}

/// An assembly that has seen one row of the ordinary table.
fn started() -> Assembly {
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    let first = record('I', &["id=1", "a=\"x\"", "f=1.50", "b=null"], &[], &["id"]);
    assert_eq!(
        steps(&mut assembly, &first, &[ordinary(90)]),
        ["ask", "relation 9 *id a f b", "insert 1 x 1.50 -"]
    );
    assembly
}

#[test]
fn a_table_is_announced_once() {
    let mut assembly = started();
    let again = record('I', &["id=2", "a=\"y\"", "f=2", "b=\"\""], &[], &["id"]);
    assert_eq!(steps(&mut assembly, &again, &[]), ["insert 2 y 2 "]);
    let delete = record('D', &[], &["id=2"], &["id"]);
    assert_eq!(steps(&mut assembly, &delete, &[]), ["delete key 2 - - -"]);
    let truncate = r#"{"action":"T","schema":"s","table":"t"}"#;
    assert_eq!(steps(&mut assembly, truncate, &[]), ["truncate [9]"]);
}

#[test]
fn the_old_key_comes_where_it_changed() {
    let mut assembly = started();
    let same = record(
        'U',
        &["id=1", "a=\"y\"", "f=1", "b=null"],
        &["id=1"],
        &["id"],
    );
    assert_eq!(steps(&mut assembly, &same, &[]), ["update 1 y 1 -"]);
    let moved = record(
        'U',
        &["id=2", "a=\"y\"", "f=1", "b=null"],
        &["id=1"],
        &["id"],
    );
    assert_eq!(
        steps(&mut assembly, &moved, &[]),
        ["update key 1 - - -, 2 y 1 -"]
    );
}

#[test]
fn a_column_that_is_left_out_is_unchanged_while_the_catalog_has_it() {
    let mut assembly = started();
    begin(&mut assembly, 200);
    let update = record('U', &["id=1", "a=\"y\"", "f=1"], &["id=1"], &["id"]);
    assert_eq!(
        steps(&mut assembly, &update, &[ordinary(300)]),
        ["ask", "relation 9 *id a f b", "update 1 y 1 ?"]
    );
    // One answer covers all that was committed before it.
    begin(&mut assembly, 299);
    assert_eq!(steps(&mut assembly, &update, &[]), ["update 1 y 1 ?"]);

    let mut dropped = ordinary(400);
    dropped.columns.pop();
    begin(&mut assembly, 350);
    assert_eq!(
        steps(&mut assembly, &update, &[dropped]),
        ["ask", "relation 9 *id a f", "update 1 y 1"]
    );
}

#[test]
fn a_renamed_column_is_told_from_one_that_is_left_out() {
    let mut assembly = started();
    begin(&mut assembly, 200);
    let mut renamed = ordinary(200);
    renamed.columns[3].name = "b2".to_owned();
    let update = record('U', &["id=1", "f=1", "b2=\"z\""], &["id=1"], &["id"]);
    assert_eq!(
        steps(&mut assembly, &update, &[renamed]),
        ["ask", "relation 9 *id a f b2", "update 1 ? 1 z"]
    );
}

#[test]
fn null_that_may_be_nan_is_looked_up_or_refused() {
    let mut assembly = started();
    let insert = record('I', &["id=2", "a=null", "f=null", "b=null"], &[], &["id"]);
    assert_eq!(steps(&mut assembly, &insert, &[]), ["insert 2 - ? -"]);

    let mut full = Assembly::default();
    begin(&mut full, 100);
    let mut facts = ordinary(100);
    facts.identity = ReplicaIdentity::Full;
    let update = record(
        'U',
        &["id=1", "a=\"y\"", "f=1", "b=null"],
        &["id=1", "a=\"x\"", "f=2", "b=null"],
        &["id"],
    );
    assert_eq!(
        steps(&mut full, &update, &[facts]),
        [
            "ask",
            "relation 9 *id *a *f *b",
            "update full 1 x 2 -, 1 y 1 -"
        ]
    );
    let lost = record('D', &[], &["id=1", "a=\"x\"", "f=null", "b=null"], &["id"]);
    let found = steps(&mut full, &lost, &[]);
    assert!(
        found[0].starts_with("error: wal2json has null in column 'f' of table s.t"),
        "{found:?}"
    );
}

#[test]
fn a_keyless_table_is_only_appended_to() {
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    let mut facts = ordinary(100);
    facts.columns[0].key = false;
    let insert = record('I', &["id=1", "a=null", "f=1", "b=null"], &[], &[]);
    assert_eq!(
        steps(&mut assembly, &insert, &[facts.clone()]),
        ["ask", "relation 9 id a f b", "insert 1 - 1 -"]
    );
    let lost = record('I', &["id=1", "a=null", "f=null", "b=null"], &[], &[]);
    assert!(steps(&mut assembly, &lost, &[])[0].contains("cannot be looked up without a key"));

    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    facts.identity = ReplicaIdentity::Full;
    let delete = record('D', &[], &["id=1", "a=null", "f=null", "b=null"], &[]);
    assert_eq!(
        steps(&mut assembly, &delete, &[facts]),
        ["ask", "unpublished"]
    );
}

#[test]
fn generated_columns_and_partitions_are_left_out() {
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    let mut columns = ordinary(0).columns;
    columns.push(ColumnFacts {
        generated: true,
        ..column("g", 25, "text", false)
    });
    let insert = record(
        'I',
        &["id=1", "a=null", "f=1", "b=null", "g=\"x\""],
        &[],
        &["id"],
    );
    assert_eq!(
        steps(&mut assembly, &insert, &[facts(100, columns)]),
        ["ask", "relation 9 *id a f b", "insert 1 - 1 -"]
    );
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    let mut partition = ordinary(100);
    partition.ordinary = false;
    assert_eq!(
        steps(&mut assembly, &insert, &[partition]),
        ["ask", "unpublished"]
    );
}

#[test]
fn the_key_of_an_index_is_the_identity() {
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    let mut facts = ordinary(100);
    facts.identity = ReplicaIdentity::Index;
    facts.columns[0].key = false;
    facts.columns[1].key = true;
    let insert = record('I', &["id=1", "a=\"k\"", "f=1", "b=null"], &[], &["id"]);
    assert_eq!(
        steps(&mut assembly, &insert, &[facts]),
        ["ask", "relation 9 id *a f b", "insert 1 k 1 -"]
    );
    let delete = record('D', &[], &["a=\"k\""], &["id"]);
    assert_eq!(steps(&mut assembly, &delete, &[]), ["delete key - k - -"]);
}

#[test]
fn a_table_that_is_gone_is_known_by_what_was_published() {
    let gone = |oid| Facts {
        oid,
        ..facts(100, Vec::new())
    };
    let mut assembly = Assembly::new(HashMap::from([("s.t".to_owned(), 9)]));
    begin(&mut assembly, 100);
    let insert = record('I', &["id=1", "a=\"x\"", "f=1", "b=null"], &[], &["id"]);
    assert_eq!(
        steps(&mut assembly, &insert, &[gone(9)]),
        ["ask", "relation 9 *id a f b", "insert 1 x 1 -"]
    );
    let mut assembly = Assembly::default();
    begin(&mut assembly, 100);
    assert_eq!(
        steps(&mut assembly, &insert, &[gone(0)]),
        ["ask", "unpublished"]
    );
    let truncate = r#"{"action":"T","schema":"s","table":"t"}"#;
    assert_eq!(steps(&mut assembly, truncate, &[]), ["unpublished"]);
}
