//! Rows that lack values: the table's are kept.

use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, TestBatch, open, record};

const ROWS: &str = "SELECT format('%s %s %s %s @%s', id, name, body, words, _tributary_seq) FROM shop.t ORDER BY id";

#[tokio::test]
async fn what_a_row_lacks_is_kept_and_null_where_there_is_nothing() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "t", 0).await;
    let key = record(&[("id", FieldType::Int64)]);
    let item = Box::new(super::fixture::field("item", FieldType::String));
    let row = record(&[
        ("id", FieldType::Int64),
        ("name", FieldType::String),
        ("body", FieldType::String),
        ("words", FieldType::Array(item)),
    ]);
    let upsert = |batch: TestBatch, offset, id, [name, body, words]: [Datum<'static>; 3]| {
        let seq = u64::try_from(offset).unwrap() + 1;
        let values = vec![Datum::Int(id), name, body, words];
        batch.upsert(offset, seq, (&key, vec![Datum::Int(id)]), (&row, values))
    };
    let words = || Datum::Array(vec![Datum::Str("a,b"), Datum::Null]);
    let first = upsert(
        TestBatch::default(),
        0,
        1,
        [Datum::Str("n1"), Datum::Str("b1"), words()],
    );
    let first = upsert(first, 1, 2, [Datum::Str("n2"), Datum::Str("b2"), words()]);
    writer.apply(&first).await.unwrap();

    let lacks = || Datum::Unavailable;
    let second = upsert(
        TestBatch::default(),
        2,
        1,
        [Datum::Str("N1"), lacks(), lacks()],
    );
    let second = upsert(second, 3, 2, [Datum::Null, Datum::Str("B2"), lacks()]);
    let second = upsert(second, 4, 3, [Datum::Str("N3"), lacks(), Datum::Null]);
    let second = upsert(second, 5, 4, [Datum::Str("N4"), Datum::Str("B4"), words()]);
    let second = second.delete(6, 7, (&key, vec![Datum::Int(5)]));
    writer.apply(&second).await.unwrap();
    assert_eq!(
        fixture.texts(ROWS).await,
        [
            r#"1 N1 b1 {"a,b",NULL} @3"#,
            r#"2  B2 {"a,b",NULL} @4"#,
            "3 N3   @5",
            r#"4 N4 B4 {"a,b",NULL} @6"#,
        ]
    );
    // What comes late changes nothing.
    let late = upsert(
        TestBatch::default(),
        7,
        1,
        [Datum::Str("N1"), Datum::Str("new"), lacks()],
    );
    let mut late = upsert(late, 8, 2, [Datum::Str("late"), lacks(), lacks()]);
    late.rows[1].seq = 2;
    writer.apply(&late).await.unwrap();
    let rows = fixture.texts(ROWS).await;
    assert_eq!(rows[0], r#"1 N1 new {"a,b",NULL} @8"#);
    assert_eq!(rows[1], r#"2  B2 {"a,b",NULL} @4"#);
}
