//! A measurement, not a test: `cargo test --release -p tributary-sink-redshift -- --ignored --nocapture speed`.

use std::time::Instant;

use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, TestBatch, open, record};

const ROWS: i64 = 5_000;

#[tokio::test]
#[ignore = "measures, and asserts nothing about time"]
async fn batches_of_5000_rows() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let key = record(&[("id", FieldType::Int64)]);
    let value = record(&[
        ("id", FieldType::Int64),
        ("name", FieldType::String),
        ("description", FieldType::String),
        (
            "price",
            FieldType::Decimal {
                precision: Some(10),
                scale: 2,
            },
        ),
        ("stock", FieldType::Int32),
        ("changed", FieldType::ZonedTimestamp),
    ]);
    let batch = |offset: i64, seq: u64| {
        (0..ROWS).fold(TestBatch::default(), |batch, id| {
            let row = vec![
                Datum::Int(id),
                Datum::Str("libexample-dev"),
                Datum::Str("A description of about a hundred bytes, as a package has it, with a few more words"),
                Datum::Bytes(&[0x30, 0x39]),
                Datum::Int(id % 100),
                Datum::Str("2024-02-29T12:34:56.123456Z"),
            ];
            batch.upsert(offset + id, seq, (&key, vec![Datum::Int(id)]), (&value, row))
        })
    };
    let (writer, _) = open(&warehouse, "product", 0).await;
    for round in 0..8 {
        let batch = batch(round * ROWS, u64::try_from(round).unwrap() + 1);
        let start = Instant::now();
        writer.apply(&batch).await.unwrap();
        let rate = 5_000.0 / start.elapsed().as_secs_f64();
        println!(
            "{}: {rate:.0} rows/s",
            if round == 0 { "insert" } else { "update" }
        );
    }
    let deletes = (0..ROWS).fold(TestBatch::default(), |batch, id| {
        batch.delete(8 * ROWS + id, 100, (&key, vec![Datum::Int(id)]))
    });
    let start = Instant::now();
    writer.apply(&deletes).await.unwrap();
    println!(
        "delete: {:.0} rows/s",
        5_000.0 / start.elapsed().as_secs_f64()
    );
    assert_eq!(
        fixture
            .texts("SELECT count(*)::text FROM shop.product")
            .await,
        ["0"]
    );
}
