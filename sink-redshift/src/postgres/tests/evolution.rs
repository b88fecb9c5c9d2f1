//! Tables that grow with the records, and what is refused.

use std::sync::Arc;

use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType, RecordType, Row};

use crate::postgres::stage::KEPT;

use super::fixture::{Fixture, TestBatch, message, open, record, target_error};

struct Step {
    value: Arc<RecordType>,
    row: Row<'static>,
}

fn step(fields: &[(&str, FieldType, Datum<'static>)]) -> Step {
    let types: Vec<_> = fields
        .iter()
        .map(|(name, field_type, _)| (*name, field_type.clone()))
        .collect();
    Step {
        value: record(&types),
        row: fields.iter().map(|(_, _, datum)| datum.clone()).collect(),
    }
}

fn id() -> Arc<RecordType> {
    record(&[("id", FieldType::Int32)])
}

/// A batch of one row per step, with ids and offsets from `first` on.
fn batch(first: i64, steps: &[Step]) -> TestBatch {
    let key = id();
    (first..)
        .zip(steps)
        .fold(TestBatch::default(), |batch, (at, step)| {
            let seq = u64::try_from(at).unwrap() + 1;
            batch.upsert(
                at,
                seq,
                (&key, vec![Datum::Int(at)]),
                (&step.value, step.row.clone()),
            )
        })
}

const COLUMNS: &str = "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute \
    WHERE attrelid = 'shop.t'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
const ROWS: &str = "SELECT (to_jsonb(t) - '_tributary_seq')::text FROM shop.t AS t ORDER BY id";

#[tokio::test]
async fn columns_are_added_and_widened_within_one_batch() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    let decimal = |precision, scale| FieldType::Decimal {
        precision: Some(precision),
        scale,
    };
    let steps = [
        step(&[
            ("n", FieldType::Int32, Datum::Int(1)),
            ("p", decimal(5, 2), Datum::Bytes(&[1, 0])),
        ]),
        step(&[
            ("n", FieldType::Int64, Datum::Int(1 << 40)),
            ("p", decimal(8, 4), Datum::Bytes(&[1, 0, 0])),
            ("new", FieldType::Bool, Datum::Bool(true)),
        ]),
        // The older form again, after the table has grown; and one that lacks a column.
        step(&[
            ("n", FieldType::Int32, Datum::Int(3)),
            ("p", decimal(5, 2), Datum::Null),
        ]),
        step(&[("new", FieldType::Bool, Datum::Bool(false))]),
    ];
    writer.apply(&batch(0, &steps)).await.unwrap();
    assert_eq!(
        fixture.texts(COLUMNS).await,
        [
            "id integer",
            "n bigint",
            "p numeric(8,4)",
            "_tributary_seq bigint",
            "new boolean"
        ]
    );
    assert_eq!(
        fixture.texts(ROWS).await,
        [
            r#"{"n": 1, "p": 2.5600, "id": 0, "new": null}"#,
            r#"{"n": 1099511627776, "p": 6.5536, "id": 1, "new": true}"#,
            r#"{"n": 3, "p": null, "id": 2, "new": null}"#,
            r#"{"n": null, "p": null, "id": 3, "new": false}"#,
        ]
    );
}

#[tokio::test]
async fn a_column_that_vanished_becomes_null_in_rows_that_change() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    let old = step(&[
        ("a", FieldType::String, Datum::Str("a")),
        ("b", FieldType::String, Datum::Str("b")),
    ]);
    writer.apply(&batch(0, &[old])).await.unwrap();
    let key = id();
    let new = record(&[("a", FieldType::String)]);
    let change = TestBatch::default().upsert(
        1,
        9,
        (&key, vec![Datum::Int(0)]),
        (&new, vec![Datum::Str("c")]),
    );
    writer.apply(&change).await.unwrap();
    assert_eq!(
        fixture.texts(ROWS).await,
        [r#"{"a": "c", "b": null, "id": 0}"#]
    );
}

#[tokio::test]
async fn a_column_that_another_instance_added_is_noticed() {
    let fixture = Fixture::new().await;
    let (ours, theirs) = (fixture.warehouse(), fixture.warehouse());
    let (writer, _) = open(&ours, "t", 0).await;
    let narrow = || step(&[("a", FieldType::Int32, Datum::Int(1))]);
    let wide = || {
        step(&[
            ("a", FieldType::Int64, Datum::Int(1 << 40)),
            ("b", FieldType::String, Datum::Str("b")),
        ])
    };
    writer.apply(&batch(0, &[narrow()])).await.unwrap();
    let (other, _) = open(&theirs, "t", 1).await;
    other.apply(&batch(10, &[wide()])).await.unwrap();
    writer.apply(&batch(1, &[wide(), narrow()])).await.unwrap();
    assert_eq!(
        fixture
            .texts("SELECT id || ' ' || a || coalesce(b, '-') FROM shop.t ORDER BY id")
            .await,
        ["0 1-", "1 1099511627776b", "2 1-", "10 1099511627776b"]
    );
}

#[tokio::test]
async fn what_cannot_be_converted_safely_stops_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    let text = step(&[("a", FieldType::String, Datum::Str("x"))]);
    writer.apply(&batch(0, &[text])).await.unwrap();
    let steps = [
        step(&[
            ("a", FieldType::String, Datum::Str("y")),
            ("b", FieldType::Bool, Datum::Bool(true)),
        ]),
        step(&[("a", FieldType::Bool, Datum::Bool(true))]),
    ];
    let error = message(
        Policy::Stop,
        &target_error(writer.apply(&batch(1, &steps)).await),
    );
    assert_eq!(
        error,
        "column \"a\" of table \"shop\".\"t\" is text, the records need boolean, and nothing is converted that \
         could lose something; to do: ALTER TABLE \"shop\".\"t\" ALTER COLUMN \"a\" TYPE boolean USING \
         \"a\"::boolean where that is right, or rebuild the table"
    );
    assert_eq!(fixture.texts(ROWS).await, [r#"{"a": "x", "id": 0}"#]);
}

#[tokio::test]
async fn a_view_in_the_way_is_named() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    let narrow = step(&[("a", FieldType::Int32, Datum::Int(1))]);
    writer.apply(&batch(0, &[narrow])).await.unwrap();
    fixture
        .run("CREATE VIEW shop.v AS SELECT a FROM shop.t")
        .await;
    let wide = || step(&[("a", FieldType::Int64, Datum::Int(1))]);
    let error = target_error(writer.apply(&batch(1, &[wide()])).await);
    let error = message(Policy::Stop, &error);
    assert!(
        error.starts_with(
            "change table \"shop\".\"t\" (ALTER COLUMN \"a\" TYPE bigint): cannot alter type"
        ),
        "{error}"
    );
    assert!(error.contains("to do: drop what depends on it"), "{error}");
    fixture.run("DROP VIEW shop.v").await;
    writer.apply(&batch(1, &[wide()])).await.unwrap();
}

#[tokio::test]
async fn a_changed_key_stops() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    writer
        .apply(&batch(
            0,
            &[step(&[("a", FieldType::Int32, Datum::Int(1))])],
        ))
        .await
        .unwrap();
    let key = record(&[("id", FieldType::Int32), ("a", FieldType::Int32)]);
    for change in [
        TestBatch::default().delete(1, 9, (&key, vec![Datum::Int(0), Datum::Int(1)])),
        TestBatch::default().upsert(
            1,
            9,
            (&key, vec![Datum::Int(0), Datum::Int(1)]),
            (&key, vec![Datum::Int(0), Datum::Int(1)]),
        ),
    ] {
        let error = message(Policy::Stop, &target_error(writer.apply(&change).await));
        assert!(
            error.contains(r#"has the primary key ("id"), the records have ("id", "a")"#),
            "{error}"
        );
    }
}

/// More than a connection keeps temporary tables for.
const TABLES: i64 = 105;

#[tokio::test]
async fn many_tables_share_a_connection() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse_with("service", "max_connections = 1");
    for round in 0..2 {
        for number in 0..TABLES {
            let name = format!("t{number}");
            let (writer, _) = open(&warehouse, &name, 0).await;
            let row = step(&[("a", FieldType::Int32, Datum::Int(number))]);
            writer.apply(&batch(round, &[row])).await.unwrap();
        }
    }
    let counts = "SELECT (xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM shop.' || relname, \
                  false, true, '')))[1]::text FROM pg_class \
                  WHERE relnamespace = 'shop'::regnamespace AND relkind = 'r'";
    let counts = fixture.texts(counts).await;
    assert_eq!(counts, vec!["2"; usize::try_from(TABLES).unwrap()]);
    let kept = "SELECT count(*)::text FROM pg_class WHERE relname LIKE '\\_tributary\\_stage\\_%' AND relkind = 'r'";
    assert_eq!(fixture.texts(kept).await, [KEPT.to_string()]);
}
