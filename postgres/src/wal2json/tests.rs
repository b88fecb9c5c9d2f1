use proptest::prelude::*;
use tributary_schemas::Lsn;

use super::{Action, Columns, Datum, Reader, Record, RowChange};
use crate::pgoutput::{Begin, Commit, LogicalMessage};

/// Reads a record that must be a row's.
fn row(reader: &mut Reader, json: impl AsRef<[u8]>) -> RowChange<'_> {
    match reader.read(json.as_ref()).unwrap() {
        Record::Row(row) => row,
        other => panic!("{other:?}"),
    }
}

fn named<'a>(columns: Columns<'a>) -> Vec<(String, u32, Datum<'a>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let columns = columns.iter();
    columns
        .map(|c| {
            (
                format!("{} {}", text(c.name), text(c.type_name)),
                c.type_oid,
                c.value,
            )
        })
        .collect()
}

fn problem(json: &str) -> String {
    Reader::default()
        .read(json.as_bytes())
        .unwrap_err()
        .to_string()
}

#[test]
fn transactions_have_their_lsns_times_and_ids() {
    let mut reader = Reader::default();
    let begin = br#"{"action":"B","xid":742,"timestamp":"2026-11-21 11:45:03.123456+00","lsn":"0/1A2B3C8","nextlsn":"0/1A2B3F8"}"#;
    assert_eq!(
        reader.read(begin),
        Ok(Record::Begin(Begin {
            final_lsn: Lsn(0x1A2_B3C8),
            commit_time_us: 1_795_261_503_123_456,
            xid: 742,
        }))
    );
    let commit = br#"{"action":"C","xid":742,"timestamp":"2026-11-21 11:45:03.123456+00","lsn":"0/1A2B3C8","nextlsn":"0/1A2B3F8"}"#;
    assert_eq!(
        reader.read(commit),
        Ok(Record::Commit(Commit {
            flags: 0,
            commit_lsn: Lsn(0x1A2_B3C8),
            end_lsn: Lsn(0x1A2_B3F8),
            commit_time_us: 1_795_261_503_123_456,
        }))
    );
}

#[test]
fn values_keep_their_characters() {
    let mut reader = Reader::default();
    let json = r#"{"action":"I","xid":1,"timestamp":"x","lsn":"0/1","schema":"s \"x\"","table":"t","columns":[{"name":"id","type":"bigint","typeoid":20,"value":9007199254740993},{"name":"n","type":"numeric(30,10)","typeoid":1700,"value":12345678901234567890.1234567890},{"name":"f","type":"double precision","typeoid":701,"value":-1e-300},{"name":"b","type":"boolean","typeoid":16,"value":true},{"name":"x","type":"bytea","typeoid":17,"value":"00ff"},{"name":"ü","type":"text","typeoid":25,"value":"a\"\\\n\u0001é"},{"name":"z","type":"text","typeoid":25,"value":null}],"pk":[{"name":"id","type":"bigint","typeoid":20}]}"#;
    let row = row(&mut reader, json);
    assert_eq!(
        (row.action, row.schema, row.table),
        (Action::Insert, "s \"x\"", "t")
    );
    assert_eq!(
        named(row.columns),
        [
            ("id bigint".to_owned(), 20, Datum::Text(b"9007199254740993")),
            (
                "n numeric(30,10)".to_owned(),
                1700,
                Datum::Text(b"12345678901234567890.1234567890")
            ),
            (
                "f double precision".to_owned(),
                701,
                Datum::Text(b"-1e-300")
            ),
            ("b boolean".to_owned(), 16, Datum::Text(b"t")),
            ("x bytea".to_owned(), 17, Datum::Hex(b"00ff")),
            (
                "ü text".to_owned(),
                25,
                Datum::Text("a\"\\\n\u{1}é".as_bytes())
            ),
            ("z text".to_owned(), 25, Datum::Null),
        ]
    );
    assert_eq!(row.key.iter().next().unwrap().name, b"id");
    assert!(row.identity.is_empty());
}

#[test]
fn a_quoted_type_is_not_always_json() {
    let mut reader = Reader::default();
    for (written, name) in [
        (r#""My Type""#, "My Type"),
        (r#""My ""T""""#, r#""My ""T""""#),
        (r#""s p"."T""#, r#""s p"."T""#),
        (r#""T"(3)"#, r#""T"(3)"#),
        (r#""a\""#, r#""a\""#),
        (r#""\"T\"[]""#, r#""T"[]"#),
        (r#""a"",""typeoid"":1""#, r#""a"",""typeoid"":1""#),
    ] {
        let json = format!(
            r#"{{"action":"I","schema":"s","table":"t","columns":[{{"name":"c","type":{written},"typeoid":-5,"value":"v"}}]}}"#
        );
        let row = row(&mut reader, &json);
        let column = row.columns.iter().next().unwrap();
        assert_eq!(String::from_utf8_lossy(column.type_name), name);
        assert_eq!(
            (column.type_oid, column.value),
            (u32::MAX - 4, Datum::Text(b"v"))
        );
    }
}

#[test]
fn truncates_and_messages() {
    let mut reader = Reader::default();
    let truncate =
        br#"{"action":"T","xid":5,"timestamp":"-","lsn":"0/1","schema":"s","table":"a\tb"}"#;
    let expected = Record::Truncate {
        schema: "s",
        table: "a\tb",
    };
    assert_eq!(reader.read(truncate), Ok(expected));
    let message = br#"{"action":"M","xid":null,"timestamp":null,"lsn":"1/2","transactional":false,"prefix":"p","content":"c"}"#;
    let expected = Record::Logical(LogicalMessage {
        transactional: false,
        lsn: Lsn(0x1_0000_0002),
        prefix: "p",
        content: b"c",
    });
    assert_eq!(reader.read(message), Ok(expected));
}

#[test]
fn what_is_unknown_is_passed_over() {
    let mut reader = Reader::default();
    let json = br#" { "new" : {"a":[1,{"b":"}"},null,true]} , "action" : "T", "schema":"s" ,"table":"t","origin":0 } "#;
    assert!(matches!(reader.read(json), Ok(Record::Truncate { .. })));
    let deep = format!("{{\"new\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    assert!(problem(&deep).contains("not of the expected kind"));
}

#[test]
fn errors_say_where() {
    for (json, expected) in [
        ("", "'{' is expected, at byte 0 of 0"),
        ("{", "'\"' is expected, at byte 1 of 1"),
        (
            r#"{"action":"I","schema":"s","table":"t"}"#,
            "the new row is missing or malformed, at byte 39 of 39",
        ),
        (
            r#"{"action":"D","schema":"s","table":"t"}"#,
            "the old row is missing",
        ),
        (r#"{"action":"X"}"#, "the action is missing or malformed"),
        (
            r#"{"action":"B","lsn":"0/1","xid":1,"timestamp":"2026-01-01 00:00:00+01"}"#,
            "the commit time",
        ),
        (
            r#"{"action":"B","lsn":"0/1","xid":-1,"timestamp":"2026-01-01 00:00:00+00"}"#,
            "the transaction id",
        ),
        (
            r#"{"action":"T","schema":"s","table":"t"} x"#,
            "bytes follow its end",
        ),
        (
            r#"{"action":"T","schema":"s","table":"\ud800"}"#,
            "an escape sequence is not JSON's",
        ),
        (
            r#"{"action":"T","schema":"s","table":"\x"}"#,
            "an escape sequence is not JSON's",
        ),
        (
            r#"{"action":"I","columns":[{"name":"c","value":1}]}"#,
            "a column's type is missing",
        ),
        (
            r#"{"action":"I","columns":[{"name":"c","typeoid":99999999999,"value":1}]}"#,
            "a column's type is missing",
        ),
        (
            r#"{"action":"I","columns":[{"typeoid":1,"value":nul}]}"#,
            "not of the expected kind",
        ),
    ] {
        let found = problem(json);
        assert!(found.contains(expected), "{json}: {found}");
    }
}

#[test]
fn a_large_record_leaves_no_buffer_behind() {
    let mut reader = Reader::default();
    let value = "x".repeat(4 << 20);
    let json = format!(
        r#"{{"action":"M","lsn":"0/1","transactional":true,"prefix":"p","content":"{value}"}}"#
    );
    reader.read(json.as_bytes()).unwrap();
    reader.read(b"{}").unwrap_err();
    assert!(reader.text.capacity() < super::KEEP_BYTES);
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reader::default().read(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0_usize..300, byte in any::<u8>(), cut in 0_usize..300) {
        let mut json = br#"{"action":"U","xid":1,"timestamp":"x","lsn":"0/1","schema":"s","table":"t","columns":[{"name":"id","type":"\"a\"[]","typeoid":20,"value":90},{"name":"u","type":"text","typeoid":25,"value":"a\u00e9\\"}],"identity":[{"name":"id","type":"x","typeoid":20,"value":null}],"pk":[]}"#.to_vec();
        let at = at % json.len();
        json[at] = byte;
        let _ = Reader::default().read(&json[..cut.min(json.len())]);
        let _ = Reader::default().read(&json);
    }

    /// serde_json writes what `escape_json` would, and more.
    #[test]
    fn strings_come_back_as_they_were(text in ".{0,40}") {
        let json = serde_json::json!({"action": "M", "lsn": "0/1", "transactional": true, "prefix": "p", "content": text});
        let mut reader = Reader::default();
        let json = json.to_string();
        let read = reader.read(json.as_bytes()).unwrap();
        prop_assert!(matches!(read, Record::Logical(message) if message.content == text.as_bytes()));
    }
}
