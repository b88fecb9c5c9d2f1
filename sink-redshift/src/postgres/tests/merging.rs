//! Idempotence, versions, deletes, exactly once.

use tributary_engine::{Stand, Written};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{
    Fixture, PRODUCTS, Product, TestBatch, message, open, record, rejection, target_error,
};

#[tokio::test]
async fn rows_are_inserted_updated_and_deleted() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, start) = open(&warehouse, "product", 0).await;
    assert_eq!(start, Stand::Nowhere);

    let mut batch = TestBatch::default();
    for (offset, name) in ["a\tb\\N\n", "", "gone"].into_iter().enumerate() {
        let offset = i64::try_from(offset).unwrap();
        batch = product.upsert(batch, offset, 100, offset + 1, name);
    }
    assert_eq!(writer.apply(&batch).await.unwrap(), Written::Durable);
    assert_eq!(
        fixture.texts(PRODUCTS).await,
        ["1 a\tb\\N\n @100", "2  @100", "3 gone @100"]
    );

    let batch = product.upsert(TestBatch::default(), 3, 105, 1, "new");
    let batch = product.delete(batch, 5, 106, 3);
    let batch = product.delete(batch, 6, 107, 99);
    assert_eq!(writer.apply(&batch).await.unwrap(), Written::Durable);
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 new @105", "2  @100"]);

    let (_, start) = open(&warehouse, "product", 0).await;
    assert_eq!(start, Stand::At(7));
}

#[tokio::test]
async fn a_batch_that_is_written_twice_counts_once() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let first = product.upsert(TestBatch::default(), 0, 10, 1, "first");
    writer.apply(&first).await.unwrap();
    writer.apply(&first).await.unwrap();
    // Overlapping: what the ledger covers is left out, were its version higher even.
    let overlap = product.upsert(TestBatch::default(), 0, 99, 1, "not again");
    let overlap = product.upsert(overlap, 1, 11, 2, "second");
    assert_eq!(writer.apply(&overlap).await.unwrap(), Written::Durable);
    assert_eq!(
        fixture.texts(PRODUCTS).await,
        ["1 first @10", "2 second @11"]
    );
}

#[tokio::test]
async fn an_older_record_after_a_newer_one_changes_nothing() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    writer
        .apply(&product.upsert(TestBatch::default(), 0, 50, 1, "newest"))
        .await
        .unwrap();
    // As after a restore of the ledger: the same offsets come again.
    fixture
        .run("UPDATE _tributary._tributary_ledger SET next_offset = NULL")
        .await;
    let writer = writer.take(0).await;
    let older = product.upsert(TestBatch::default(), 0, 49, 1, "older");
    writer.apply(&older).await.unwrap();
    let deletion = product.delete(TestBatch::default(), 1, 49, 1);
    writer.apply(&deletion).await.unwrap();
    let same = product.upsert(TestBatch::default(), 2, 50, 1, "same version");
    writer.apply(&same).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 newest @50"]);
    assert_eq!(writer.passed_over(), 3);
}

#[tokio::test]
async fn rows_below_are_gone_before_the_changes_come() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    // Before there is a table, there is nothing to sweep and nothing to delete.
    let mut nothing = product.delete(TestBatch::default(), 0, 5, 1);
    nothing.below = Some(5);
    assert_eq!(writer.apply(&nothing).await.unwrap(), Written::Durable);
    let mut batch = TestBatch::default();
    for id in 1..=4 {
        batch = product.upsert(batch, id, 10 + u64::try_from(id).unwrap(), id, "old");
    }
    writer.apply(&batch).await.unwrap();

    let mut sweep = product.upsert(TestBatch::default(), 6, 20, 1, "again");
    sweep.below = Some(13);
    writer.apply(&sweep).await.unwrap();
    assert_eq!(
        fixture.texts(PRODUCTS).await,
        ["1 again @20", "3 old @13", "4 old @14"]
    );

    let truncate = TestBatch {
        below: Some(30),
        next_offset: 8,
        ..TestBatch::default()
    };
    assert_eq!(writer.apply(&truncate).await.unwrap(), Written::Durable);
    assert_eq!(fixture.texts(PRODUCTS).await, [""; 0]);
    let (_, start) = open(&warehouse, "product", 0).await;
    assert_eq!(start, Stand::At(8));
}

#[tokio::test]
async fn rows_without_a_key_are_appended_exactly_once() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let value = record(&[("n", FieldType::Int32)]);
    let batch = |offsets: std::ops::Range<i64>| {
        offsets.fold(TestBatch::default(), |batch, offset| {
            batch.append(offset, 7, (&value, vec![Datum::Int(1)]))
        })
    };
    for partition in [0, 1] {
        let (writer, _) = open(&warehouse, "log", partition).await;
        writer.apply(&batch(0..2)).await.unwrap();
        writer.apply(&batch(0..2)).await.unwrap();
        writer.apply(&batch(1..4)).await.unwrap();
    }
    // As when a letter is replayed whose row has come since: the ledger does not cover it.
    fixture
        .run("UPDATE _tributary._tributary_ledger SET next_offset = NULL")
        .await;
    let (writer, _) = open(&warehouse, "log", 0).await;
    writer.apply(&batch(1..4)).await.unwrap();
    let rows = "SELECT n || ' ' || _tributary_partition || ':' || _tributary_offset || ' @' || _tributary_seq \
                FROM shop.log ORDER BY 1";
    assert_eq!(
        fixture.texts(rows).await,
        [
            "1 0:0 @7", "1 0:1 @7", "1 0:2 @7", "1 0:3 @7", "1 1:0 @7", "1 1:1 @7", "1 1:2 @7",
            "1 1:3 @7"
        ]
    );

    // A key cannot come later: which of the rows would be its?
    let (writer, _) = open(&warehouse, "log", 0).await;
    let keyed = TestBatch::default().upsert(
        4,
        8,
        (&value, vec![Datum::Int(1)]),
        (&value, vec![Datum::Int(1)]),
    );
    let error = message(Policy::Stop, &target_error(writer.apply(&keyed).await));
    assert!(error.contains("DROP TABLE \"shop\".\"log\""), "{error}");
}

#[tokio::test]
async fn a_table_of_nothing_but_its_key_works() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let link = record(&[("a", FieldType::Int32), ("b", FieldType::String)]);
    let row = |a, b| vec![Datum::Int(a), Datum::Str(b)];
    let (writer, _) = open(&warehouse, "link", 0).await;
    let batch = TestBatch::default()
        .upsert(0, 1, (&link, row(1, "x")), (&link, row(1, "x")))
        .upsert(1, 2, (&link, row(1, "y")), (&link, row(1, "y")));
    writer.apply(&batch).await.unwrap();
    let batch = TestBatch::default()
        .upsert(2, 3, (&link, row(1, "x")), (&link, row(1, "x")))
        .delete(3, 4, (&link, row(1, "y")));
    writer.apply(&batch).await.unwrap();
    let rows = fixture
        .texts("SELECT a || b || _tributary_seq FROM shop.link")
        .await;
    assert_eq!(rows, ["1x3"]);
}

#[tokio::test]
async fn any_identifier_is_a_name() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let names = [
        "a b",
        "Weird Näme-$",
        "quo\"te",
        "1st",
        "select",
        "per%cent",
        "back\\slash",
        "it's",
    ];
    let key = record(&[("Kéy \"1\"", FieldType::Int32)]);
    let fields: Vec<_> = names
        .iter()
        .map(|&name| (name, FieldType::String))
        .collect();
    let value = record(&fields);
    for table in names {
        let (writer, _) = open(&warehouse, table, 0).await;
        let row: Vec<_> = names.iter().map(|&name| Datum::Str(name)).collect();
        let batch =
            TestBatch::default().upsert(0, 1, (&key, vec![Datum::Int(1)]), (&value, row.clone()));
        writer.apply(&batch).await.unwrap();
        let batch = TestBatch::default().upsert(1, 2, (&key, vec![Datum::Int(1)]), (&value, row));
        writer.apply(&batch).await.unwrap();
        let query = format!(
            "SELECT to_jsonb(t)::text FROM shop.\"{}\" AS t",
            table.replace('"', "\"\"")
        );
        let rows = fixture.texts(&query).await;
        let document: serde_json::Value = serde_json::from_str(&rows[0]).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(document["Kéy \"1\""], 1);
        for name in names {
            assert_eq!(document[name], name);
        }
        let deletion = TestBatch::default().delete(2, 3, (&key, vec![Datum::Int(1)]));
        writer.apply(&deletion).await.unwrap();
        assert_eq!(fixture.texts(&query).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_large_batch_goes_through_in_pieces() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let long: &'static str = "x".repeat(3000).leak();
    let batch = (0..1000).fold(TestBatch::default(), |batch, id| {
        product.upsert(batch, id, 1, id, long)
    });
    writer.apply(&batch).await.unwrap();
    let sums = fixture
        .texts("SELECT count(*) || ' ' || sum(length(name)) FROM shop.product")
        .await;
    assert_eq!(sums, ["1000 3000000"]);
    // Nothing of it is left behind for the next batch on this connection.
    let batch = (1000..1001).fold(TestBatch::default(), |batch, id| {
        product.delete(batch, id, 2, 0)
    });
    writer.apply(&batch).await.unwrap();
    assert_eq!(
        fixture
            .texts("SELECT count(*)::text FROM shop.product")
            .await,
        ["999"]
    );
}

#[tokio::test]
async fn a_refused_value_is_found_without_showing_it() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let key = record(&[("id", FieldType::Int64)]);
    let value = record(&[("id", FieldType::Int64), ("doc", FieldType::Json)]);
    let (writer, _) = open(&warehouse, "doc", 0).await;
    let batch = |bad: Option<i64>| {
        (0..300)
            .filter(|id| bad != Some(-id))
            .fold(TestBatch::default(), |batch, id| {
                let text = if bad == Some(id) { "{geheim" } else { "{}" };
                let row = vec![Datum::Int(id), Datum::Str(text)];
                batch.upsert(
                    1000 + 2 * id,
                    1,
                    (&key, vec![Datum::Int(id)]),
                    (&value, row),
                )
            })
    };
    let found = rejection(writer.apply(&batch(Some(217))).await);
    assert_eq!(found.offset, 1000 + 2 * 217);
    assert_eq!(
        found.reason,
        "column 'doc': a value is not in the form that its column takes (SQLSTATE 22P02)"
    );
    // Without it, the rest is written.
    assert_eq!(
        writer.apply(&batch(Some(-217))).await.unwrap(),
        Written::Durable
    );
    assert_eq!(
        fixture.texts("SELECT count(*)::text FROM shop.doc").await,
        ["299"]
    );
}

#[tokio::test]
async fn a_value_that_only_the_merge_refuses_is_found_too() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let key = record(&[("id", FieldType::String)]);
    let (writer, _) = open(&warehouse, "doc", 0).await;
    // Too large for an index entry, and random enough that it cannot be compressed.
    let mut state = 1_u64;
    let long: String = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from(state >> 58).unwrap())
    })
    .take(20_000)
    .collect();
    let long: &'static str = long.leak();
    let batch = (0..40).fold(TestBatch::default(), |batch, offset| {
        let text = if offset == 23 {
            long
        } else {
            offset.to_string().leak()
        };
        batch.upsert(
            offset,
            1,
            (&key, vec![Datum::Str(text)]),
            (&key, vec![Datum::Str(text)]),
        )
    });
    let found = rejection(writer.apply(&batch).await);
    assert_eq!(found.offset, 23);
    assert!(found.reason.contains("54000"), "{}", found.reason);

    let nul = TestBatch::default().upsert(
        0,
        1,
        (&key, vec![Datum::Str("k")]),
        (&record(&[("n", FieldType::String)]), vec![Datum::Str("\0")]),
    );
    let found = rejection(writer.apply(&nul).await);
    assert_eq!(
        (found.offset, found.reason.contains("'n'")),
        (0, true),
        "{}",
        found.reason
    );
}
