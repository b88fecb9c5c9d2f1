//! Whole records: envelopes, keys, and the golden files of schemas and records.
//!
//! `TRIBUTARY_BLESS=1` rewrites the golden files: what is on the wire then changes on purpose.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod oracle;

use std::path::PathBuf;

use oracle::tables::{annotated, arrays, every, keyed, keyless, order_line, structured, weird};
use oracle::{TOPIC, decode, field, identity, plain, read, with_column};
use tributary_schemas::avro::{
    MESSAGE_KEY_SCHEMA, TRANSACTION_KEY_SCHEMA, TRANSACTION_VALUE_SCHEMA, key_schema,
    message_value_schema, truncate_key_schema, value_schema,
};
use tributary_schemas::encode::{
    Change, EncodePlan, MessagePlan, Snapshot, TransactionBlock, TransactionId,
};
use tributary_schemas::name;
use tributary_schemas::record::Op;
use tributary_schemas::table::{Cell, ColumnType, Table};
use tributary_schemas::{Lsn, wire};

fn topic_of(table: &Table) -> String {
    name::topic("shop-eu", &table.schema, &table.name).unwrap()
}

fn texts<'a>(values: &[&'a str]) -> Vec<Cell<'a>> {
    values
        .iter()
        .map(|value| Cell::Text(value.as_bytes()))
        .collect()
}

fn golden(file: &str, content: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", file]
        .iter()
        .collect();
    if std::env::var_os("TRIBUTARY_BLESS").is_some() {
        std::fs::write(&path, content).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        content,
        expected,
        "{} (TRIBUTARY_BLESS=1 rewrites it)",
        path.display()
    );
}

/// The schemas as they are registered, one line each; every one parses.
#[test]
fn schemas_are_as_the_golden_files_say() {
    for (file, table) in [
        ("every", every()),
        ("arrays", arrays()),
        ("annotated", annotated()),
        ("structured", structured()),
        ("keyed", keyed()),
        ("weird", weird()),
        ("order_line", order_line()),
        ("keyless", keyless()),
    ] {
        let topic = topic_of(&table);
        let value = value_schema(&topic, &table);
        apache_avro::Schema::parse_str(&value).unwrap();
        golden(&format!("{file}-value.avsc"), &format!("{value}\n"));
        let Some(key) = key_schema(&topic, &table) else {
            assert_eq!(file, "keyless");
            continue;
        };
        apache_avro::Schema::parse_str(&key).unwrap();
        golden(&format!("{file}-key.avsc"), &format!("{key}\n"));
    }
    let truncate = truncate_key_schema(&topic_of(&order_line()));
    golden("truncate-key.avsc", &format!("{truncate}\n"));
}

#[test]
fn records_are_as_the_golden_files_say() {
    let table = order_line();
    let plan = EncodePlan::compile(&table, &identity());
    let (old, new) = (texts(&["2", "1", "3.5000"]), texts(&["2", "1", "4.2500"]));
    let update = Change {
        op: Op::Update,
        before: Some(&old),
        snapshot: Snapshot::False,
        ..read(&new)
    };
    let delete = Change {
        op: Op::Delete,
        after: None,
        ..update
    };
    let truncate = Change {
        op: Op::Truncate,
        before: None,
        ..delete
    };
    let mut records = Vec::new();
    for (name, change) in [
        ("read", read(&new)),
        ("update", update),
        ("delete", delete),
        ("truncate", truncate),
    ] {
        let mut out = wire::prefix(258).to_vec();
        plan.encode_envelope(&change, &mut out).unwrap();
        records.push(format!("{name} {}\n", oracle::hex(&out)));
    }
    let mut out = wire::prefix(257).to_vec();
    plan.encode_key(&new, &mut out).unwrap();
    records.push(format!("key {}\n", oracle::hex(&out)));
    let mut out = wire::prefix(259).to_vec();
    plan.encode_truncate_key(&mut out);
    records.push(format!("truncate-key {}\n", oracle::hex(&out)));
    golden("records.hex", &records.concat());
}

#[test]
fn an_envelope_has_every_field() {
    let table = with_column(ColumnType::Text);
    let plan = EncodePlan::compile(&table, &identity());
    let (old, new) = (texts(&["1", "old"]), [Cell::Text(b"1"), Cell::Null]);
    let change = Change {
        op: Op::Update,
        before: Some(&old),
        snapshot: Snapshot::LastInDataCollection,
        sequence: (Some(Lsn(7)), Lsn(u64::MAX)),
        transaction: Some(TransactionBlock {
            id: TransactionId {
                xid: 858,
                commit_lsn: Lsn(49_078_072),
            },
            total_order: 3,
            data_collection_order: 2,
        }),
        ..read(&new)
    };
    let mut out = Vec::new();
    plan.encode_envelope(&change, &mut out).unwrap();
    let value = decode(&value_schema(TOPIC, &table), &out);
    assert_eq!(
        plain(&value),
        "{before={id=1 c=old} after={id=1 c=null} \
         source={version=0.1.0 connector=postgresql name=shop-eu ts_ms=1577836800123 \
         snapshot=last_in_data_collection db=shop sequence=[\"7\",\"18446744073709551615\"] \
         ts_us=1577836800123456 ts_ns=1577836800123456000 schema=public table=t txId=824 \
         lsn=44592072 xmin=null origin=null origin_lsn=null region=eu-west-1} \
         transaction={id=858:49078072 total_order=3 data_collection_order=2} op=u \
         ts_ms=1577836801123 ts_us=1577836801123456 ts_ns=1577836801123456789}"
    );
}

#[test]
fn transactions_begin_and_end() {
    let id = TransactionId {
        xid: u32::MAX,
        commit_lsn: Lsn(u64::MAX),
    };
    let [mut key, mut begin, mut end, mut empty] = [const { Vec::new() }; 4];
    id.encode_key(&mut key);
    id.encode_begin(1_577_836_800_123_456, &mut begin);
    let counts = [("public.t", 2), ("sales.order", 1 << 40)];
    id.encode_end(-1, counts.into_iter(), &mut end);
    id.encode_end(0, std::iter::empty(), &mut empty);
    let key = decode(TRANSACTION_KEY_SCHEMA, &key);
    assert_eq!(plain(&key), "{id=4294967295:18446744073709551615}");
    let value = |bytes: &[u8]| plain(&decode(TRANSACTION_VALUE_SCHEMA, bytes));
    assert_eq!(
        value(&begin),
        "{status=BEGIN id=4294967295:18446744073709551615 event_count=null data_collections=null ts_ms=1577836800123}"
    );
    assert_eq!(
        value(&end),
        "{status=END id=4294967295:18446744073709551615 event_count=1099511627778 \
         data_collections=[{data_collection=public.t event_count=2}, \
         {data_collection=sales.order event_count=1099511627776}] ts_ms=-1}"
    );
    assert!(value(&empty).contains("event_count=0 data_collections=[] "));
}

#[test]
fn a_logical_message_has_prefix_and_content() {
    let transaction = TransactionBlock {
        id: TransactionId {
            xid: 858,
            commit_lsn: Lsn(7),
        },
        total_order: 3,
        data_collection_order: 1,
    };
    let change = Change {
        op: Op::Message,
        after: None,
        snapshot: Snapshot::False,
        transaction: Some(transaction),
        ..read(&[])
    };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    MessagePlan::encode_key("audit", &mut key);
    MessagePlan::compile(&identity()).encode_value(&change, "audit", b"\xff\0", &mut value);
    assert_eq!(plain(&decode(MESSAGE_KEY_SCHEMA, &key)), "{prefix=audit}");
    let value = decode(&message_value_schema(), &value);
    assert_eq!(
        plain(&value),
        "{op=m ts_ms=1577836801123 source={version=0.1.0 connector=postgresql name=shop-eu \
         ts_ms=1577836800123 snapshot=false db=shop sequence=[null,\"44592072\"] \
         ts_us=1577836800123456 ts_ns=1577836800123456000 schema= table= txId=824 lsn=44592072 \
         xmin=null origin=null origin_lsn=null region=eu-west-1} \
         transaction={id=858:7 total_order=3 data_collection_order=1} \
         message={prefix=audit content=xff00}}"
    );
}

#[test]
fn an_envelope_may_lack_what_is_optional() {
    let table = with_column(ColumnType::Text);
    let plan = EncodePlan::compile(&table, &oracle_without_region());
    let change = Change {
        op: Op::Truncate,
        after: None,
        commit_time_us: -1,
        tx_id: None,
        lsn: None,
        handled_at_ns: -1,
        ..read(&[])
    };
    let mut out = Vec::new();
    plan.encode_envelope(&change, &mut out).unwrap();
    let value = decode(&value_schema(TOPIC, &table), &out);
    for (path, expected) in [
        (&["before"][..], "null"),
        (&["after"], "null"),
        (&["transaction"], "null"),
        (&["op"], "t"),
        (&["source", "ts_ms"], "-1"),
        (&["source", "ts_us"], "-1"),
        (&["source", "ts_ns"], "-1000"),
        (&["source", "sequence"], "[null,\"44592072\"]"),
        (&["source", "txId"], "null"),
        (&["source", "lsn"], "null"),
        (&["source", "region"], "null"),
        (&["ts_ms"], "-1"),
        (&["ts_ns"], "-1"),
    ] {
        assert_eq!(plain(field(&value, path)), expected, "{path:?}");
    }
    // nanoseconds of a commit in the year 2262 or later have no place in 64 bits
    let far = Change {
        commit_time_us: i64::MAX / 1000 + 1,
        ..change
    };
    out.clear();
    plan.encode_envelope(&far, &mut out).unwrap();
    let value = decode(&value_schema(TOPIC, &table), &out);
    assert_eq!(plain(field(&value, &["source", "ts_ns"])), "null");
}

fn oracle_without_region() -> tributary_schemas::encode::SourceIdentity {
    tributary_schemas::encode::SourceIdentity {
        region: None,
        ..identity()
    }
}

#[test]
fn every_snapshot_marker_is_one_that_the_schema_allows() {
    let table = with_column(ColumnType::Text);
    let plan = EncodePlan::compile(&table, &identity());
    let schema = value_schema(TOPIC, &table);
    for snapshot in [
        Snapshot::True,
        Snapshot::First,
        Snapshot::FirstInDataCollection,
        Snapshot::LastInDataCollection,
        Snapshot::Last,
        Snapshot::False,
        Snapshot::Incremental,
    ] {
        let mut out = Vec::new();
        plan.encode_envelope(
            &Change {
                snapshot,
                after: None,
                ..read(&[])
            },
            &mut out,
        )
        .unwrap();
        let text = plain(field(&decode(&schema, &out), &["source", "snapshot"]));
        let allowed = schema
            .split("\"allowed\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert!(allowed.split(',').any(|label| label == text), "{text}");
    }
}

#[test]
fn keys_have_the_order_and_the_plain_types_of_the_key() {
    let table = order_line();
    let plan = EncodePlan::compile(&table, &identity());
    let mut out = b"before".to_vec();
    plan.encode_key(&texts(&["2", "1", "3.5"]), &mut out)
        .unwrap();
    let schema = key_schema(&topic_of(&table), &table).unwrap();
    assert_eq!(plain(&decode(&schema, &out[6..])), "{order_id=1 line=2}");

    let table = keyed();
    let plan = EncodePlan::compile(&table, &identity());
    let row = texts(&[
        "a",
        "1.50",
        "1.50",
        "2020-01-01",
        "12:00:00",
        "2020-01-01 00:00:00",
        "2020-01-01 00:00:00+00",
        "12:00:00+01",
        "1 day",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "ok",
        "t",
        "1",
        "1",
        "\\x00",
        "{1}",
        "v",
        "7",
        "x",
    ]);
    let mut out = Vec::new();
    plan.encode_key(&row, &mut out).unwrap();
    let schema = key_schema(&topic_of(&table), &table).unwrap();
    assert_eq!(
        plain(&decode(&schema, &out)),
        "{k_text=a k_num=x0096 k_numv={scale=1 value=x0f} k_date=18262 k_time=43200000000 \
         k_ts=1577836800000 k_tstz=2020-01-01T00:00:00.000000Z k_timetz=12:00:00+01:00 \
         k_interval=P0Y0M1DT0H0M0S k_uuid=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 k_mood=ok \
         k_bool=true k_int2=1 k_oid=1 k_bytea=x00 k_arr=[1]}"
    );
}

/// A key's schema has no length of a bit string, so each value says its own.
#[test]
fn bits_of_a_key_are_counted() {
    let table = oracle::table(
        "t",
        vec![
            oracle::column("b", ColumnType::Bit { length: 10 }),
            oracle::column("v", ColumnType::VarBit { length: Some(9) }),
        ],
        &["b", "v"],
    );
    let plan = EncodePlan::compile(&table, &identity());
    let mut out = Vec::new();
    plan.encode_key(&texts(&["1000000101", "001"]), &mut out)
        .unwrap();
    let schema = key_schema(TOPIC, &table).unwrap();
    assert_eq!(
        plain(&decode(&schema, &out)),
        "{b=x05020000000000000000 v=x010000}"
    );
    assert!(!schema.contains("length"), "{schema}");
}

/// Postgres holds them equal, so as keys they are the same bytes; as values they stay apart.
#[test]
fn equal_keys_have_equal_bytes() {
    for (column_type, equal) in [
        (ColumnType::VariableNumeric, ["1.5", "1.50"]),
        (ColumnType::VariableNumeric, ["100", "100.000"]),
        (ColumnType::Float4, ["0", "-0"]),
        (ColumnType::Float8, ["0", "-0"]),
        (
            oracle::tables::array(ColumnType::VariableNumeric),
            ["{1.5}", "{1.50}"],
        ),
    ] {
        let key = oracle::table("t", vec![oracle::column("c", column_type)], &["c"]);
        let plan = EncodePlan::compile(&key, &identity());
        let [first, second] = equal.map(|text| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            plan.encode_key(&texts(&[text]), &mut key).unwrap();
            plan.encode_envelope(&read(&texts(&[text])), &mut value)
                .unwrap();
            (key, value)
        });
        assert_eq!(first.0, second.0, "{equal:?}");
        assert_ne!(first.1, second.1, "{equal:?}");
    }
}

#[test]
fn key_schemas_do_not_change_with_labels_lengths_or_precisions() {
    let of = |column_type| {
        let table = oracle::table("t", vec![oracle::column("c", column_type)], &["c"]);
        key_schema(TOPIC, &table).unwrap()
    };
    let labels = |labels: &[&str]| ColumnType::Enum {
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    assert_eq!(of(labels(&["a"])), of(labels(&["a", "b"])));
    let numeric = |precision, scale| ColumnType::Numeric { precision, scale };
    assert_eq!(of(numeric(10, 2)), of(numeric(12, 2)));
    assert_ne!(of(numeric(10, 2)), of(numeric(10, 3)));
}

#[test]
fn truncate_keys_say_which_table() {
    let table = weird();
    let plan = EncodePlan::compile(&table, &identity());
    let mut out = Vec::new();
    plan.encode_truncate_key(&mut out);
    let value = decode(&truncate_key_schema(&topic_of(&table)), &out);
    assert_eq!(
        plain(&value),
        "{source=shop-eu schema=public table=Weird Näme-$}"
    );
}

#[test]
fn a_table_without_a_key_has_no_key() {
    let plan = EncodePlan::compile(&keyless(), &identity());
    let mut out = Vec::new();
    plan.encode_key(&texts(&["1", "b"]), &mut out).unwrap();
    assert!(out.is_empty());
}

#[test]
fn rows_that_do_not_match_the_table_are_refused() {
    let plan = EncodePlan::compile(&order_line(), &identity());
    let mut out = b"before".to_vec();
    for row in [texts(&["1", "2"]), texts(&["1", "2", "3", "4"]), Vec::new()] {
        let error = plan.encode_envelope(&read(&row), &mut out).unwrap_err();
        assert!(error.what.contains("its table has 3 columns"), "{error}");
        assert_eq!(plan.encode_key(&row, &mut out).unwrap_err(), error);
    }
    let null_key = [Cell::Text(b"1"), Cell::Null, Cell::Null];
    for error in [
        plan.encode_envelope(&read(&null_key), &mut out),
        plan.encode_key(&null_key, &mut out),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.column, "order_id");
        assert!(error.what.contains("a key column is null"), "{error}");
    }
    assert_eq!(out, b"before");
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let plan = EncodePlan::compile(&with_column(ColumnType::Text), &identity());
    let mut out = Vec::new();
    let row = [Cell::Text(b"1"), Cell::Text(b"\xff\xfe")];
    let error = plan.encode_envelope(&read(&row), &mut out).unwrap_err();
    assert!(error.what.contains("not valid UTF-8"), "{error}");
}
