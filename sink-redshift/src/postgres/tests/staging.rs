//! What a batch leaves behind on its connection, and how many refused records cost.

use tributary_engine::{Rejection, WriteError};
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, Product, TestBatch, open, record};

const STAGES: &str = "SELECT oid::text FROM pg_class WHERE relname LIKE '\\_tributary\\_stage\\_%' AND relkind = 'r' ORDER BY oid";

/// A catalog full of dead rows, and milliseconds for each batch, are what making one anew costs.
#[tokio::test]
async fn more_tables_than_eight_keep_their_temporary_tables() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse_with("service", "max_connections = 1");
    let product = Product::new();
    let mut writers = Vec::new();
    for table in 0..50 {
        writers.push(open(&warehouse, &format!("t{table}"), 0).await.0);
    }
    let mut stages = Vec::new();
    for round in 0..3 {
        for writer in &mut writers {
            let batch = product.upsert(TestBatch::default(), round, 1, round, "x");
            writer.apply(&batch).await.unwrap();
        }
        let found = fixture.texts(STAGES).await;
        assert_eq!(found.len(), 50);
        assert!(round == 0 || found == stages, "some were made anew");
        stages = found;
    }
}

/// Text that is refused by the COPY, by the merge, and before it is sent: all in the one answer.
#[tokio::test]
async fn a_thousand_refused_records_cost_one_pass() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "doc", 0).await;
    let key = record(&[("id", FieldType::Int64)]);
    let value = record(&[("doc", FieldType::Json), ("name", FieldType::String)]);
    let batch = |offsets: &mut dyn Iterator<Item = i64>| {
        offsets.fold(TestBatch::default(), |batch, offset| {
            let (doc, name) = match (offset % 2, offset % 10) {
                (0, _) => ("{}", "fits"),
                (_, 1) => ("{}", "longer than ten characters"),
                (_, 3) => ("{}", "\0"),
                _ => ("{geheim", "fits"),
            };
            let row = vec![Datum::Str(doc), Datum::Str(name)];
            batch.upsert(offset, 1, (&key, vec![Datum::Int(offset)]), (&value, row))
        })
    };
    writer.apply(&batch(&mut (0..1))).await.unwrap();
    fixture
        .run("ALTER TABLE shop.doc ADD CONSTRAINT short CHECK (length(name) <= 10)")
        .await;
    let Err(WriteError::Rejected(rejections)) = writer.apply(&batch(&mut (1..2000))).await else {
        panic!("nothing was refused");
    };
    let offsets: Vec<_> = rejections
        .iter()
        .map(|rejection| rejection.offset)
        .collect();
    assert_eq!(offsets, (1..2000).step_by(2).collect::<Vec<_>>());
    for (Rejection { offset, reason, .. }, part) in rejections.iter().zip(
        [
            "'short'",
            "U+0000",
            "column 'doc'",
            "column 'doc'",
            "column 'doc'",
        ]
        .iter()
        .cycle(),
    ) {
        assert!(reason.contains(part), "{offset}: {reason}");
        assert!(!reason.contains("geheim"), "{reason}");
    }
    // Nothing of the search is left, and the rest is written.
    let count = "SELECT count(*)::text FROM shop.doc";
    assert_eq!(fixture.texts(count).await, ["1"]);
    writer
        .apply(&batch(&mut (2..2000).step_by(2)))
        .await
        .unwrap();
    assert_eq!(fixture.texts(count).await, ["1000"]);
}
