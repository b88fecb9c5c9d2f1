//! Against bytes that a real server sent (`recorded.sql` says how), and against damaged ones.

use proptest::prelude::*;

use tributary_schemas::Lsn;

use super::*;

/// The messages of `recorded.txt`: transaction id and bytes.
fn recorded() -> Vec<(u32, Vec<u8>)> {
    include_str!("recorded.txt")
        .lines()
        .map(|line| {
            let (xid, hex) = line.split_once(' ').unwrap();
            let bytes = (0..hex.len()).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            (xid.parse().unwrap(), bytes.collect())
        })
        .collect()
}

/// A row in one line: `NULL`, `~` for unchanged, `b:hex`, or the text.
fn row(tuple: TupleData<'_>) -> String {
    assert_eq!(tuple.cells().len(), tuple.cells().count());
    let cells = tuple.cells().map(|cell| match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Unchanged => "~".to_owned(),
        Cell::Text(text) if text.len() > 1000 => format!("{} bytes", text.len()),
        Cell::Binary(bytes) if bytes.len() > 1000 => format!("b:{} bytes", bytes.len()),
        Cell::Text(text) => format!("'{}'", str::from_utf8(text).unwrap()),
        Cell::Binary(bytes) => format!("b:{bytes:02x?}").replace(", ", ""),
    });
    cells.collect::<Vec<_>>().join(" ")
}

fn old(row_before: OldRow<'_>) -> String {
    match row_before {
        OldRow::Key(tuple) => format!("key({})", row(tuple)),
        OldRow::Full(tuple) => format!("full({})", row(tuple)),
    }
}

/// One line per message without what differs from recording to recording (LSNs, times, OIDs of
/// what the script creates); `names` maps those OIDs as the relation and type messages come by.
fn line(message: &Message<'_>, names: &mut std::collections::HashMap<u32, String>) -> String {
    let known = |oid: u32| names.get(&oid).cloned().unwrap_or_else(|| oid.to_string());
    match message {
        Message::Begin(_) => "begin".to_owned(),
        Message::Commit(_) => "commit".to_owned(),
        Message::Origin(origin) => format!("origin {} {}", origin.name, origin.commit_lsn),
        Message::Relation(relation) => {
            let columns = relation.columns.iter().map(|column| {
                let key = if column.key { "*" } else { "" };
                let (name, modifier) = (column.name, column.type_modifier);
                format!("{key}{name}:{}:{modifier}", known(column.type_oid))
            });
            let line = format!(
                "relation {}.{} {:?} {}",
                relation.schema,
                relation.name,
                relation.replica_identity,
                columns.collect::<Vec<_>>().join(" ")
            );
            names.insert(relation.oid, relation.name.to_owned());
            line
        }
        Message::Type(kind) => {
            names.insert(kind.oid, kind.name.to_owned());
            format!("type {}.{}", kind.schema, kind.name)
        }
        Message::Insert(insert) => format!("insert {} {}", known(insert.relation), row(insert.new)),
        Message::Update(update) => format!(
            "update {} {} -> {}",
            known(update.relation),
            update.old.map(old).unwrap_or_default(),
            row(update.new)
        ),
        Message::Delete(delete) => format!("delete {} {}", known(delete.relation), old(delete.old)),
        Message::Truncate(truncate) => format!(
            "truncate {:?} cascade={} restart={}",
            truncate
                .relations
                .iter()
                .map(|oid| known(*oid))
                .collect::<Vec<_>>(),
            truncate.cascade,
            truncate.restart_identity
        ),
        Message::Logical(logical) => format!(
            "message {} {} {:02x?}",
            logical.transactional, logical.prefix, logical.content
        ),
        Message::Unpublished => panic!("pgoutput does not send such"),
    }
}

/// Written by hand from `recorded.sql`.
const EXPECTED: &str = "\
begin
type recorded.mood
relation recorded.by_key Default *id:23:-1 name:25:-1 price:1700:524294 feeling:mood:-1 big:25:-1
insert by_key '1' 'one' '1.50' 'happy' 2200 bytes
insert by_key '2' '' NULL NULL NULL
commit
begin
update by_key  -> '1' 'eins' '1.50' 'happy' ~
commit
begin
update by_key key('2' NULL NULL NULL NULL) -> '3' '' NULL NULL NULL
commit
begin
delete by_key key('3' NULL NULL NULL NULL)
commit
begin
relation recorded.Weird Näme Index *a b:23:-1 €:25:-1
insert Weird Näme '7' 'ü'
update Weird Näme key('7' NULL) -> '8' 'ü'
commit
begin
relation recorded.whole Full *a:23:-1 *b:25:-1
insert whole '1' 'old'
commit
begin
update whole full('1' 'old') -> '1' 'new'
commit
begin
delete whole full('1' 'new')
commit
begin
relation recorded.keyless Nothing a:20:-1
insert keyless '1'
commit
begin
relation recorded.whole Full *a:23:-1 *b:25:-1
relation recorded.keyless Nothing a:20:-1
truncate [\"whole\", \"keyless\"] cascade=true restart=true
commit
begin
message true in transaction [63, 6f, 6e, 74, 65, 6e, 74]
commit
message false outside [00, ff]
begin
origin recorded origin 1/2A
relation recorded.whole Full *a:23:-1 *b:25:-1
insert whole '2' NULL
commit
begin
type recorded.mood
relation recorded.by_key Default *id:23:-1 name:25:-1 price:1700:524294 feeling:mood:-1 big:25:-1
insert by_key b:[00000001] b:[6f6e65] b:[000200000000000200011388] b:[6861707079] b:2200 bytes
insert by_key b:[00000002] b:[] NULL NULL NULL
commit
begin
update by_key  -> b:[00000001] b:[65696e73] b:[000200000000000200011388] b:[6861707079] ~
commit
";

#[test]
fn what_a_server_sent_is_understood() {
    let mut names = std::collections::HashMap::new();
    let mut lines = String::new();
    for (_, bytes) in recorded() {
        lines += &line(&decode(&bytes).unwrap(), &mut names);
        lines.push('\n');
    }
    assert_eq!(lines, EXPECTED);
}

#[test]
fn begin_and_commit_agree() {
    const YEAR_2020_US: i64 = 1_577_836_800_000_000;
    let mut open = None;
    let mut transactions = 0;
    for (xid, bytes) in recorded() {
        match decode(&bytes).unwrap() {
            Message::Begin(begin) => {
                assert_eq!(begin.xid, xid);
                assert!(begin.commit_time_us >= YEAR_2020_US);
                assert_eq!(open.replace(begin), None);
            }
            Message::Commit(commit) => {
                let begin = open.take().unwrap();
                assert_eq!(commit.commit_lsn, begin.final_lsn);
                assert_eq!(commit.commit_time_us, begin.commit_time_us);
                assert!(commit.end_lsn > commit.commit_lsn);
                assert_eq!(commit.flags, 0);
                transactions += 1;
            }
            Message::Logical(logical) => {
                assert_eq!(logical.transactional, open.is_some());
                assert!(logical.lsn > Lsn::ZERO);
            }
            _ => assert!(open.is_some()),
        }
    }
    assert_eq!(transactions, 14);
}

#[test]
fn an_origin_brings_its_own_commit_time() {
    let (_, bytes) = recorded()
        .into_iter()
        .rfind(|(_, bytes)| bytes[0] == b'O')
        .unwrap();
    let Message::Origin(origin) = decode(&bytes).unwrap() else {
        panic!("not an origin")
    };
    assert_eq!(
        (origin.name, origin.commit_lsn),
        ("recorded origin", Lsn(0x1_0000_002A))
    );
    let times = recorded()
        .into_iter()
        .filter_map(|(_, bytes)| match decode(&bytes).unwrap() {
            Message::Begin(begin) => Some(begin.commit_time_us),
            _ => None,
        });
    // The script set it to 2020-01-01 00:00:00Z.
    assert_eq!(times.filter(|us| *us == 1_577_836_800_000_000).count(), 1);
}

#[test]
fn every_cut_is_an_error_and_so_is_every_addition() {
    for (_, mut bytes) in recorded() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
        }
        bytes.push(0);
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains("bytes follow its end"), "{error}");
    }
}

#[test]
fn errors_name_kind_and_offset() {
    let cases: [(&[u8], &str); 7] = [
        (
            b"",
            "(kind unknown): it ends early: the message's kind is not complete, at byte 0 of 0",
        ),
        (
            b"S\0\0",
            "(kind unknown): the message's kind has the unknown code 0x53, at byte 0 of 3",
        ),
        (
            b"I\0\0\0\x01X",
            "(Insert): the row's kind has the unknown code 0x58, at byte 5 of 6",
        ),
        (
            b"I\0\0\0\x01N\0\x01z",
            "(Insert): a cell has the unknown code 0x7A, at byte 8 of 9",
        ),
        (
            b"D\0\0\0\x01K\0\x02nt\0\0\0\x09abc",
            "(Delete): it ends early: a cell is not complete, at byte 9 of 17",
        ),
        (
            b"U\0\0\0\x01N\xff\xff",
            "(Update): the number of cells is negative, at byte 8 of 8",
        ),
        (
            b"Y\0\0\0\x01\xc3\0x\0",
            "(Type): the schema's name is not UTF-8, at byte 5 of 9",
        ),
    ];
    for (bytes, expected) in cases {
        let error = decode(bytes).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot decode a message of pgoutput {expected}")
        );
    }
}

#[test]
fn the_empty_schema_is_the_catalog() {
    let message = decode(b"Y\0\0\0\x17\0int4\0").unwrap();
    let expected = Type {
        oid: 23,
        schema: "pg_catalog",
        name: "int4",
    };
    assert_eq!(message, Message::Type(expected));
}

/// Every row holds as many cells as it says.
fn rows_are_whole(message: &Message<'_>) -> bool {
    let whole = |tuple: TupleData<'_>| tuple.cells().count() == tuple.len();
    let old_whole = |old: OldRow<'_>| match old {
        OldRow::Key(tuple) | OldRow::Full(tuple) => whole(tuple),
    };
    match message {
        Message::Insert(insert) => whole(insert.new),
        Message::Update(update) => update.old.is_none_or(old_whole) && whole(update.new),
        Message::Delete(delete) => old_whole(delete.old),
        _ => true,
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in prop::sample::select(b"BCORYIUDTMSx".to_vec()), mut rest in prop::collection::vec(any::<u8>(), 0..200)) {
        rest.insert(0, kind);
        if let Ok(message) = decode(&rest) {
            prop_assert!(rows_are_whole(&message));
        }
    }

    #[test]
    fn no_damage_panics(index in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (_, mut bytes) = index.get(&recorded()).clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert!(rows_are_whole(&message));
        }
    }

    #[test]
    fn rows_come_back(cells in prop::collection::vec(prop::option::of("[ -~]{0,40}"), 0..50)) {
        let mut bytes = b"I\0\0\0\x07N".to_vec();
        bytes.extend(u16::try_from(cells.len()).unwrap().to_be_bytes());
        for cell in &cells {
            match cell {
                None => bytes.push(b'n'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        let Message::Insert(insert) = decode(&bytes).unwrap() else { panic!("not an insert") };
        let expected = cells.iter().map(|cell| cell.as_ref().map_or(Cell::Null, |text| Cell::Text(text.as_bytes())));
        prop_assert!(insert.new.cells().eq(expected));
    }
}
