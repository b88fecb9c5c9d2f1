//! Tables without rows: made before the first one, and given any form until then.

use std::sync::Arc;

use tributary_engine::{Known, Lane as _, RowForm, Stand};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{Fixture, TestBatch, lane, mark, message, open, record, target_error};

const FORM: &str = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || \
    CASE WHEN attnotnull THEN '!' ELSE '' END, ', ' ORDER BY attnum) FROM pg_attribute \
    WHERE attrelid = 'shop.t'::regclass AND attnum > 0 AND NOT attisdropped";
const ROWS: &str = "SELECT to_jsonb(t)::text FROM shop.t AS t";

fn form(key: Option<&Arc<RecordType>>, row: &Arc<RecordType>) -> RowForm {
    RowForm {
        key_type: key.map(|key| RecordType::clone(key)),
        row_type: RecordType::clone(row),
    }
}

fn id(of: FieldType) -> Arc<RecordType> {
    record(&[("id", of)])
}

#[tokio::test]
async fn a_table_is_made_before_its_first_row() {
    let fixture = Fixture::new().await;
    let key = id(FieldType::Int32);
    let row = record(&[("id", FieldType::Int32), ("name", FieldType::String)]);
    // Two instances at the same moment.
    let warehouses = [fixture.warehouse(), fixture.warehouse()];
    let first = lane(&warehouses[0], "t").await;
    let second = lane(&warehouses[1], "t").await;
    let form = form(Some(&key), &row);
    let (one, two) = (mark("one"), mark("two"));
    let (a, b) = tokio::join!(first.found(&one, &form), second.found(&two, &form));
    a.unwrap();
    b.unwrap();
    assert_eq!(
        fixture.texts(FORM).await,
        ["id integer!, name text, _tributary_seq bigint!"]
    );
    let Known::Marked(made) = first.known().await.unwrap() else {
        panic!("no mark");
    };
    assert!(made == one || made == two, "{made:?}");
    // Each partition begins where its log does, and the rows go in.
    let (writer, stand) = open(&warehouses[0], "t", 0).await;
    assert_eq!(stand, Stand::Nowhere);
    let change = TestBatch::default().upsert(
        0,
        5,
        (&key, vec![Datum::Int(1)]),
        (&row, vec![Datum::Int(1), Datum::Str("a")]),
    );
    writer.apply(&change).await.unwrap();
    assert_eq!(
        fixture.texts(ROWS).await,
        [r#"{"id": 1, "name": "a", "_tributary_seq": 5}"#]
    );
    // With rows it grows, and nothing else.
    let wider = record(&[("id", FieldType::Int32), ("more", FieldType::Bool)]);
    first
        .found(&one, &self::form(Some(&key), &wider))
        .await
        .unwrap();
    let other = record(&[("id", FieldType::Int32), ("more", FieldType::Int32)]);
    let error = first.found(&one, &self::form(Some(&key), &other)).await;
    let error = message(Policy::Stop, &error.unwrap_err());
    assert!(error.contains("the records need integer"), "{error}");
    assert_eq!(
        fixture.texts(ROWS).await,
        [r#"{"id": 1, "more": null, "name": "a", "_tributary_seq": 5}"#]
    );
}

/// The registry had the schemas of an earlier table, or the table was altered: nothing is lost where there is nothing.
#[tokio::test]
async fn a_table_without_rows_takes_any_form() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let before = record(&[("id", FieldType::Int32), ("a", FieldType::Int32)]);
    let made = form(Some(&id(FieldType::Int32)), &before);
    lane(&warehouse, "t")
        .await
        .found(&mark("m"), &made)
        .await
        .unwrap();
    fixture
        .run(
            "CREATE VIEW shop.v AS SELECT id FROM shop.t; ALTER TABLE shop.t ADD COLUMN noted text",
        )
        .await;
    let (writer, _) = open(&warehouse, "t", 0).await;

    // Another key and another type of a column; first a delete, which needs the key alone.
    let key = record(&[("a", FieldType::Bool), ("n", FieldType::Int64)]);
    let delete = TestBatch::default().delete(0, 1, (&key, vec![Datum::Bool(true), Datum::Int(1)]));
    writer.apply(&delete).await.unwrap();
    assert_eq!(
        fixture.texts(FORM).await,
        ["id integer, a boolean!, _tributary_seq bigint!, noted text, n bigint!"]
    );
    // Then none: each row is told by its place in the log.
    let row = record(&[("id", FieldType::Int32), ("a", FieldType::Int32)]);
    let append = TestBatch::default().append(1, 7, (&row, vec![Datum::Int(3), Datum::Int(4)]));
    writer.apply(&append).await.unwrap();
    assert_eq!(
        fixture.texts(ROWS).await,
        [
            r#"{"a": 4, "n": null, "id": 3, "noted": null, "_tributary_seq": 7, "_tributary_offset": 1, "_tributary_partition": 0}"#
        ]
    );
    // By now it has a row.
    let error = target_error(
        writer
            .apply(&TestBatch {
                next_offset: 3,
                ..delete_at(2, &key)
            })
            .await,
    );
    let error = message(Policy::Stop, &error);
    assert!(error.contains("has the primary key"), "{error}");
}

fn delete_at(offset: i64, key: &Arc<RecordType>) -> TestBatch {
    TestBatch::default().delete(offset, 9, (key, vec![Datum::Bool(true), Datum::Int(1)]))
}

/// No form suits both: it stops, as with rows, and is not tried for ever.
#[tokio::test]
async fn rows_that_contradict_each_other_stop_in_an_empty_table_too() {
    let fixture = Fixture::new().await;
    let (writer, _) = open(&fixture.warehouse(), "t", 0).await;
    let key = id(FieldType::Int32);
    let number = record(&[("id", FieldType::Int32), ("a", FieldType::Int32)]);
    let flag = record(&[("id", FieldType::Int32), ("a", FieldType::Bool)]);
    let batch = TestBatch::default()
        .upsert(
            0,
            1,
            (&key, vec![Datum::Int(0)]),
            (&number, vec![Datum::Int(0), Datum::Int(1)]),
        )
        .upsert(
            1,
            2,
            (&key, vec![Datum::Int(1)]),
            (&flag, vec![Datum::Int(1), Datum::Bool(true)]),
        );
    let error = message(Policy::Stop, &target_error(writer.apply(&batch).await));
    assert!(error.contains("nothing is converted"), "{error}");
}

/// What somebody has added in the way stays in the way.
#[tokio::test]
async fn a_view_on_a_column_that_takes_another_type_is_named() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let before = record(&[("id", FieldType::Int32), ("a", FieldType::Int32)]);
    let made = form(Some(&id(FieldType::Int32)), &before);
    lane(&warehouse, "t")
        .await
        .found(&mark("m"), &made)
        .await
        .unwrap();
    fixture
        .run("CREATE VIEW shop.v AS SELECT a FROM shop.t")
        .await;
    let (writer, _) = open(&warehouse, "t", 0).await;
    let key = id(FieldType::Int32);
    let flag = record(&[("id", FieldType::Int32), ("a", FieldType::Bool)]);
    let change = TestBatch::default().upsert(
        0,
        1,
        (&key, vec![Datum::Int(1)]),
        (&flag, vec![Datum::Int(1), Datum::Bool(true)]),
    );
    let error = message(Policy::Stop, &target_error(writer.apply(&change).await));
    assert!(error.contains("to do: drop what depends on it"), "{error}");
    fixture.run("DROP VIEW shop.v").await;
    writer.apply(&change).await.unwrap();
}
