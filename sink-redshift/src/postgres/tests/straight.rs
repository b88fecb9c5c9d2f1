//! Inserts that are copied straight into the table, and writes of one table beside each other.

use std::time::Duration;

use tributary_schemas::record::Datum;

use super::fixture::{Fixture, PRODUCTS, Product, TestBatch, open, rejection};

const STAGES: &str = "SELECT oid::text FROM pg_class WHERE relname LIKE '\\_tributary\\_stage\\_%' AND relkind = 'r'";

fn inserts() -> TestBatch {
    TestBatch {
        inserts_only: true,
        ..TestBatch::default()
    }
}

#[tokio::test]
async fn inserts_need_no_temporary_table() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse_with("service", "max_connections = 1");
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    for (offset, name) in ["a\tb\\N\n", "", "c"].into_iter().enumerate() {
        let offset = i64::try_from(offset).unwrap();
        let batch = product.upsert(inserts(), offset, 100, offset + 1, name);
        writer.apply(&batch).await.unwrap();
    }
    let rows = ["1 a\tb\\N\n @100", "2  @100", "3 c @100"];
    assert_eq!(fixture.texts(PRODUCTS).await, rows);
    assert_eq!(fixture.texts(STAGES).await, Vec::<String>::new());
    let update = product.upsert(TestBatch::default(), 3, 101, 1, "changed");
    writer.apply(&update).await.unwrap();
    assert_eq!(fixture.texts(STAGES).await.len(), 1);
    assert_eq!(fixture.texts(PRODUCTS).await[0], "1 changed @101");
}

/// As when a table is read again, or was loaded before.
#[tokio::test]
async fn inserts_of_rows_that_are_there_count_by_their_versions() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let batch = product.upsert(inserts(), 0, 100, 1, "first");
    let batch = product.upsert(batch, 1, 100, 2, "first");
    writer.apply(&batch).await.unwrap();
    for round in 0..6 {
        let offset = 2 + 3 * round;
        let batch = product.upsert(inserts(), offset, 90, 1, "older");
        let seq = 101 + u64::try_from(round).unwrap();
        let batch = product.upsert(batch, offset + 1, seq, 2, "newer");
        let batch = product.upsert(batch, offset + 2, 100, 10 + round, "new");
        writer.apply(&batch).await.unwrap();
    }
    let rows = fixture.texts(PRODUCTS).await;
    assert_eq!(rows[..2], ["1 first @100", "2 newer @106"]);
    assert_eq!(rows.len(), 8);
    assert_eq!(writer.passed_over(), 6);
}

#[tokio::test]
async fn inserts_that_are_refused_are_named() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let first = product.upsert(inserts(), 0, 100, 1, "first");
    writer.apply(&first).await.unwrap();
    for (offset, name) in [(2, "a\0b"), (3, "longer than ten")] {
        fixture
            .run(
                "ALTER TABLE shop.product DROP CONSTRAINT IF EXISTS short, \
                 ADD CONSTRAINT short CHECK (length(name) <= 10)",
            )
            .await;
        let batch = product.upsert(inserts(), 1, 100, 2, "fits");
        let batch = product.upsert(batch, offset, 100, 3, name);
        let batch = product.upsert(batch, 4, 100, 4, "fits");
        let refused = rejection(writer.apply(&batch).await);
        assert_eq!(refused.offset, offset);
    }
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 first @100"]);
}

/// Rows without a key are new each time.
#[tokio::test]
async fn rows_without_a_key_go_straight_once() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "line", 0).await;
    let row = || vec![Datum::Int(7), Datum::Str("same")];
    let first = inserts().append(0, 1, (&product.value, row()));
    let both = inserts().append(0, 1, (&product.value, row()));
    let both = both.append(1, 2, (&product.value, row()));
    writer.apply(&first).await.unwrap();
    writer.apply(&both).await.unwrap();
    let lines = "SELECT _tributary_offset || ' ' || name FROM shop.line ORDER BY 1";
    assert_eq!(fixture.texts(lines).await, ["0 same", "1 same"]);
}

/// The first write waits for a row that somebody has locked; the second one, of another partition, does not.
#[tokio::test]
async fn writes_of_one_table_go_on_beside_each_other() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let other = writer.take(1).await;
    let batch = product.upsert(inserts(), 0, 100, 1, "first");
    writer.apply(&batch).await.unwrap();
    let somebody = super::fixture::connect(&fixture.url()).await;
    let lock = "BEGIN; SELECT FROM shop.product WHERE id = 1 FOR UPDATE";
    somebody.batch_execute(lock).await.unwrap();
    let waits = product.upsert(TestBatch::default(), 1, 101, 1, "late");
    let mut waiting = std::pin::pin!(writer.apply(&waits));
    let blocked =
        "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
    tokio::select! {
        done = &mut waiting => panic!("it did not wait: {done:?}"),
        () = async { while fixture.texts(blocked).await != ["1"] { tokio::time::sleep(Duration::from_millis(5)).await; } } => {}
    }
    let batch = product.upsert(TestBatch::default(), 0, 100, 2, "beside");
    other.apply(&batch).await.unwrap();
    let both = ["1 first @100", "2 beside @100"];
    assert_eq!(fixture.texts(PRODUCTS).await, both);
    somebody.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await[0], "1 late @101");
}
