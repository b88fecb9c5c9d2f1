//! What a table's ledger says of the log that it was made from.

use tributary_engine::{Known, Lane as _, Mark, Note, Stand};

use super::fixture::{Fixture, PRODUCTS, Product, TestBatch, mark, open, target_error};

#[tokio::test]
async fn a_generation_is_noted_in_the_ledger_until_it_is_discarded() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, stand) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(stand, Stand::Nowhere);
    let lane = writer.lane();
    lane.begin(&mark("late")).await.unwrap();
    assert_eq!(lane.known().await.unwrap(), Known::Marked(mark("first")));

    let other = writer.take(1).await;
    let note = |partition, at_ms| Note::CaughtUp { partition, at_ms };
    assert!(lane.note("first", &[note(0, 5), note(1, 7)]).await.unwrap());
    assert!(other.lane().note("first", &[note(0, 4)]).await.unwrap());
    assert!(
        lane.note("first", &[Note::VersionsAreOffsets])
            .await
            .unwrap()
    );
    for ids in [&[7][..], &[u32::MAX, 7]] {
        let notes: Vec<_> = ids.iter().map(|&id| Note::KeySchema(id)).collect();
        assert!(lane.note("first", &notes).await.unwrap());
    }
    assert!(!lane.note("late", &[note(0, 9)]).await.unwrap());
    let mut noted = Mark {
        versions_are_offsets: true,
        key_schemas: [7, u32::MAX].into(),
        ..mark("first")
    };
    noted.caught_up_ms.extend([(0, 5), (1, 7)]);
    assert_eq!(lane.known().await.unwrap(), Known::Marked(noted.clone()));

    writer
        .apply(&product.upsert(TestBatch::default(), 0, 1, 1, "a"))
        .await
        .unwrap();
    lane.discard(Some("late")).await.unwrap();
    assert_eq!(lane.known().await.unwrap(), Known::Marked(noted));
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 a @1"]);

    fixture
        .run("CREATE VIEW shop.seen AS TABLE shop.product")
        .await;
    lane.discard(Some("first")).await.unwrap();
    assert_eq!(lane.known().await.unwrap(), Known::Nothing);
    assert_eq!(fixture.texts(PRODUCTS).await, [] as [&str; 0]);
    assert_eq!(
        fixture.texts("SELECT count(*)::text FROM shop.seen").await,
        ["0"]
    );
    // Who held a partition before holds it no more.
    let late = product.upsert(TestBatch::default(), 1, 2, 2, "late");
    let error = target_error(writer.apply(&late).await).to_string();
    assert!(error.contains("another instance has taken"), "{error}");
    let (again, stand) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(stand, Stand::Nowhere);
    again.apply(&late).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["2 late @2"]);
}

#[tokio::test]
async fn a_table_that_was_dropped_is_unfit() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let row = product.upsert(TestBatch::default(), 0, 1, 1, "a");
    writer.apply(&row).await.unwrap();
    fixture.run("DROP TABLE shop.product").await;
    let Known::Unfit { generation, reason } = writer.lane().known().await.unwrap() else {
        panic!("fit");
    };
    assert!(reason.contains("is gone, but the ledger"), "{reason}");
    writer.lane().discard(generation.as_deref()).await.unwrap();
    let (writer, stand) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(stand, Stand::Nowhere);
    writer.apply(&row).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 a @1"]);
}

/// Nor is it made anew by a partition that has never written into it.
#[tokio::test]
async fn a_table_that_was_dropped_is_not_made_by_another_partition() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let other = writer.take(1).await;
    let row = |id| product.upsert(TestBatch::default(), 0, 1, id, "a");
    writer.apply(&row(1)).await.unwrap();
    fixture.run("DROP TABLE shop.product").await;
    let error = target_error(other.apply(&row(2)).await).to_string();
    assert!(error.contains("is gone, but the ledger"), "{error}");
}

/// The ledger alone was dropped, or restored from an older copy.
#[tokio::test]
async fn a_table_without_its_ledger_is_unfit_and_one_of_somebody_else_is_refused() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    writer
        .apply(&product.upsert(TestBatch::default(), 0, 1, 1, "a"))
        .await
        .unwrap();
    fixture.run("DROP TABLE _tributary._tributary_ledger").await;
    let warehouse = fixture.warehouse();
    let error = super::fixture::try_open(&warehouse, "product", 0)
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("knows no offset of topic"),
        "{error}"
    );
    let lane = super::fixture::lane(&warehouse, "product").await;
    lane.discard(None).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, [] as [&str; 0]);

    fixture
        .run("CREATE TABLE shop.theirs (id int); INSERT INTO shop.theirs VALUES (1)")
        .await;
    let theirs = super::fixture::lane(&warehouse, "theirs").await;
    let error = theirs.known().await.unwrap_err().to_string();
    assert!(error.contains("it was not made by Tributary"), "{error}");
}

/// As a ledger was before it kept marks.
#[tokio::test]
async fn a_ledger_of_an_older_version_is_taken_over() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    writer
        .apply(&product.upsert(TestBatch::default(), 0, 1, 1, "a"))
        .await
        .unwrap();
    fixture
        .run(
            "DELETE FROM _tributary._tributary_ledger WHERE partition < 0;
             ALTER TABLE _tributary._tributary_ledger DROP COLUMN generation, DROP COLUMN topic_id,
                DROP COLUMN partitions, DROP COLUMN versions_are_offsets, DROP COLUMN caught_up_ms, DROP COLUMN key_schemas;
             UPDATE _tributary._tributary_ledger SET format_version = 1, updated_at = to_timestamp(1700000000)",
        )
        .await;
    let (writer, stand) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(stand, Stand::At(1));
    let Known::Marked(mark) = writer.lane().known().await.unwrap() else {
        panic!("no mark");
    };
    assert_eq!((mark.topic_id.as_ref(), mark.partitions), (None, i32::MAX));
    assert_eq!(mark.caught_up_ms[&0], 1_700_000_000_000);
    // Of one that kept marks, but not which schemas keys have.
    fixture
        .run("ALTER TABLE _tributary._tributary_ledger DROP COLUMN key_schemas")
        .await;
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(writer.lane().known().await.unwrap(), Known::Marked(mark));
}
