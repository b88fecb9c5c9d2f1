//! What may take longer than a batch: a column that is widened, a sweep of many rows.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tributary_schemas::record::{Datum, FieldType};

use crate::postgres::sweep::Sweep;
use crate::warehouse::name::Qualified;

use tributary_runtime::Policy;

use super::fixture::{Fixture, PRODUCTS, Product, TestBatch, message, open, record, target_error};

/// How many rows are slow; each takes [`SLOW`], all of them longer than the time-out of a statement and of a
/// transaction.
const ROWS: i64 = 60;
const SHORT: &str = "statement_timeout_ms = 1000";
/// Sleeps once the test says so, or every statement of its own would be slow too.
const SLOW: &str = "CREATE SCHEMA IF NOT EXISTS pause; CREATE TABLE pause.seconds AS SELECT 0.0::float8 AS s; \
    CREATE FUNCTION pause.now(bigint) RETURNS bool LANGUAGE sql AS \
    'SELECT pg_catalog.pg_sleep(s) IS NOT NULL FROM pause.seconds'";

/// `VACUUM FULL` between two slices brings the rows of later pages to earlier ones.
#[tokio::test]
async fn a_table_that_is_written_anew_amid_a_sweep_is_swept_as_a_whole() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let batch = Product::new().upsert(TestBatch::default(), 0, 7, 1, "kept");
    writer.apply(&batch).await.unwrap();
    fixture
        .run("INSERT INTO shop.product (id, name, _tributary_seq) SELECT i, repeat('x', 900), 5 FROM generate_series(10, 15000) AS i")
        .await;
    let name = Qualified::new("shop", "product");
    let lease = warehouse.shared.pool.lease().await.unwrap();
    let session = &lease.session;
    session.begin().await.unwrap();
    let mut sweep = Sweep::begin(session, &name, 6).await.unwrap();
    sweep.slice(session).await.unwrap();
    assert!(!sweep.is_done());
    session.commit().await.unwrap();
    fixture.run("VACUUM FULL shop.product").await;
    while !sweep.is_done() {
        session.begin().await.unwrap();
        sweep.slice(session).await.unwrap();
        session.commit().await.unwrap();
    }
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 kept @7"]);
}

#[tokio::test]
async fn widening_longer_than_the_statement_timeout() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse_with("service", SHORT);
    let (writer, _) = open(&warehouse, "t", 0).await;
    let key = record(&[("id", FieldType::Int64)]);
    let batch = |first: i64, rows: i64, number: FieldType| {
        let value = record(&[("n", number)]);
        (first..first + rows).fold(TestBatch::default(), |batch, id| {
            batch.upsert(
                id,
                1,
                (&key, vec![Datum::Int(id)]),
                (&value, vec![Datum::Int(id)]),
            )
        })
    };
    writer
        .apply(&batch(0, ROWS, FieldType::Int32))
        .await
        .unwrap();
    fixture.run(SLOW).await;
    fixture
        .run("ANALYZE shop.t; ALTER TABLE shop.t ADD CHECK (pause.now(n)); UPDATE pause.seconds SET s = 0.05")
        .await;

    let log = Log::default();
    let listening = tracing::subscriber::set_default(log.clone());
    writer
        .apply(&batch(ROWS, 1, FieldType::Int64))
        .await
        .unwrap();
    drop(listening);
    // It is said before it begins, with what and how much.
    let lines = log.0.lock().unwrap().clone();
    let begins = lines
        .iter()
        .position(|line| line.contains("may be written anew"));
    let ended = lines
        .iter()
        .position(|line| line.contains("changed a target table"));
    assert!(begins.is_some() && begins < ended, "{lines:#?}");
    let announced = &lines[begins.unwrap()];
    for part in [
        "table=\"shop\".\"t\"",
        "ALTER COLUMN \"n\" TYPE bigint",
        "rows=60",
        "bytes=",
    ] {
        assert!(announced.contains(part), "{announced}");
    }
    let column = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
        WHERE attrelid = 'shop.t'::regclass AND attname = 'n'";
    assert_eq!(fixture.texts(column).await, ["bigint"]);
    let count = "SELECT count(*)::text FROM shop.t";
    assert_eq!(fixture.texts(count).await, [(ROWS + 1).to_string()]);
}

#[tokio::test]
async fn sweep_longer_than_the_statement_timeout() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse_with("service", SHORT);
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let batch = (0..ROWS).fold(TestBatch::default(), |batch, id| {
        product.upsert(batch, id, 1, id, "old")
    });
    writer.apply(&batch).await.unwrap();
    fixture.run(SLOW).await;
    fixture
        .run(
            "CREATE FUNCTION pause.trigger() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pause.now(0); RETURN old; END'; \
             CREATE TRIGGER slow BEFORE DELETE ON shop.product FOR EACH ROW EXECUTE FUNCTION pause.trigger(); \
             UPDATE pause.seconds SET s = 0.05",
        )
        .await;

    let mut sweep = product.upsert(TestBatch::default(), ROWS, 200, 1, "new");
    sweep.below = Some(200);
    writer.apply(&sweep).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 new @200"]);
}

/// Nobody else's writes wait for the whole of it, and what is done is not done again.
#[tokio::test]
async fn a_sweep_of_a_large_table_goes_in_slices() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let first = product.upsert(TestBatch::default(), 0, 1, 0, "old");
    writer.apply(&first).await.unwrap();
    // Pages as a large table has them, by few rows: each fills half a page.
    fixture
        .run(
            "ALTER TABLE shop.product ALTER COLUMN name SET STORAGE PLAIN; \
             INSERT INTO shop.product (id, name, _tributary_seq) \
             SELECT i, repeat('x', 4000), CASE WHEN i % 1000 = 0 THEN 300 ELSE 1 END \
             FROM generate_series(1, 7000) AS i; \
             CREATE TABLE shop.deletes (transaction xid8, deleted bigint); \
             CREATE FUNCTION shop.count() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO shop.deletes SELECT pg_current_xact_id(), count(*) FROM gone; RETURN NULL; END'; \
             CREATE TRIGGER count AFTER DELETE ON shop.product REFERENCING OLD TABLE AS gone \
             FOR EACH STATEMENT EXECUTE FUNCTION shop.count()",
        )
        .await;

    let mut sweep = product.upsert(TestBatch::default(), 1, 300, 1, "new");
    sweep.below = Some(300);
    writer.apply(&sweep).await.unwrap();
    let rows = "SELECT id::text FROM shop.product ORDER BY id";
    let kept = ["1", "1000", "2000", "3000", "4000", "5000", "6000", "7000"];
    assert_eq!(fixture.texts(rows).await, kept);
    let deletes = "SELECT (count(DISTINCT transaction) FILTER (WHERE deleted > 0) > 2) || ' ' || sum(deleted) \
        FROM shop.deletes";
    assert_eq!(fixture.texts(deletes).await, ["true 6994"]);
}

/// An attempt that fails amid a sweep leaves what it has swept: the next one goes on there.
#[tokio::test]
async fn a_sweep_goes_on_where_an_attempt_has_failed() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let first = product.upsert(TestBatch::default(), 0, 1, 0, "old");
    writer.apply(&first).await.unwrap();
    // A slice looks at pages of its own alone: what is put into an earlier one meanwhile shows whether that is looked at again.
    fixture
        .run(
            "ALTER TABLE shop.product ALTER COLUMN name SET STORAGE PLAIN; \
             INSERT INTO shop.product (id, name, _tributary_seq) SELECT i, repeat('x', 4000), 1 FROM generate_series(1, 7000) AS i; \
             CREATE FUNCTION shop.fail() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE lock_not_available; END'; \
             CREATE TRIGGER fail BEFORE DELETE ON shop.product FOR EACH ROW WHEN (old.id = 5000) EXECUTE FUNCTION shop.fail()",
        )
        .await;
    let mut sweep = product.upsert(TestBatch::default(), 1, 300, 1, "new");
    sweep.below = Some(300);
    message(Policy::Retry, &target_error(writer.apply(&sweep).await));
    fixture.run("DROP TRIGGER fail ON shop.product").await;
    fixture.run("VACUUM shop.product").await;
    let count = "SELECT count(*)::text FROM shop.product";
    let left: usize = fixture.texts(count).await[0].parse().unwrap();
    assert!((2_000..6_000).contains(&left), "{left} rows are left");
    // Into the free space of the first pages, as nobody else would: the way does not lead there again.
    fixture
        .run("INSERT INTO shop.product (id, _tributary_seq) VALUES (9000, 1)")
        .await;
    let page = "SELECT ((ctid::text::point)[0] < 1000)::text FROM shop.product WHERE id = 9000";
    assert_eq!(fixture.texts(page).await, ["true"]);
    writer.apply(&sweep).await.unwrap();
    let ids = "SELECT id::text FROM shop.product ORDER BY id";
    assert_eq!(fixture.texts(ids).await, ["1", "9000"]);
    // The next sweep is one of all.
    let mut again = product.upsert(TestBatch::default(), 2, 400, 2, "newer");
    again.below = Some(400);
    writer.apply(&again).await.unwrap();
    assert_eq!(fixture.texts(ids).await, ["2"]);
}

/// A row's version may equal the bound of the sweep: it is not below it, in one batch or in another one.
#[tokio::test]
async fn sweep_boundary_equals_a_rows_version() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let product = Product::new();
    let (writer, _) = open(&warehouse, "product", 0).await;
    let old = product.upsert(TestBatch::default(), 0, 100, 0, "old");
    let old = product.upsert(old, 1, 100, 1, "old");
    writer.apply(&old).await.unwrap();
    let mut truncate = product.upsert(TestBatch::default(), 3, 200, 0, "at the bound");
    truncate.below = Some(200);
    writer.apply(&truncate).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["0 at the bound @200"]);

    let (other, _) = open(&warehouse, "product", 1).await;
    let bound = product.upsert(TestBatch::default(), 0, 200, 2, "of another partition");
    other.apply(&bound).await.unwrap();
    let again = TestBatch {
        below: Some(200),
        next_offset: 2,
        ..TestBatch::default()
    };
    other.apply(&again).await.unwrap();
    let both = ["0 at the bound @200", "2 of another partition @200"];
    assert_eq!(fixture.texts(PRODUCTS).await, both);
}

/// The events of this thread, each as its fields.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, "{field}={value} ").unwrap();
    }
}
