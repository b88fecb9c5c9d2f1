//! A partition whose former holder stands still in the middle of its transaction.

use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use tokio_postgres::Client;
use tributary_engine::Stand;
use tributary_runtime::Policy;

use super::fixture::{Fixture, PRODUCTS, Product, TestBatch, connect, message, open, try_open};

const PATIENCE: Duration = Duration::from_secs(30);
const LOCK_ROW: &str =
    "SELECT epoch FROM _tributary._tributary_ledger WHERE partition = 0 FOR UPDATE";

/// A connection that looks like one of the service `name`.
async fn connect_as(fixture: &Fixture, name: &str) -> Client {
    let client = connect(&fixture.url()).await;
    client
        .batch_execute(&format!("SET application_name = '{name}'"))
        .await
        .unwrap();
    client
}

/// A table with a row, and offset 1 in the ledger.
async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let batch = Product::new().upsert(TestBatch::default(), 0, 1, 1, "a");
    writer.apply(&batch).await.unwrap();
    fixture
}

/// Opens it as the one that takes over would, again and again.
async fn take_over(fixture: &Fixture) -> Stand {
    let warehouse = fixture.warehouse();
    let opening = async {
        loop {
            match try_open(&warehouse, "product", 0).await {
                Ok((_, start)) => return start,
                Err(error) => drop(message(Policy::Retry, &error)),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opening).await.unwrap()
}

/// The backend waits for the rest of a COPY, which no time-out of the server's ends.
#[tokio::test]
async fn holder_frozen_inside_a_copy() {
    let fixture = filled().await;
    let holder = connect_as(&fixture, "tributary-sink-redshift service").await;
    holder
        .batch_execute(&format!(
            "BEGIN; {LOCK_ROW}; CREATE TEMPORARY TABLE stage (line text)"
        ))
        .await
        .unwrap();
    let copy = holder
        .copy_in::<_, Bytes>("COPY stage FROM STDIN")
        .await
        .unwrap();
    let mut copy = Box::pin(copy);
    copy.send(Bytes::from_static(b"half of it\n"))
        .await
        .unwrap();
    assert_eq!(take_over(&fixture).await, Stand::At(1));
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 a @1"]);
    assert!(copy.close().await.is_err(), "the former holder can go on");
}

/// Between two statements, and between `BEGIN` and the first row: whatever lock it is that is held.
#[tokio::test]
async fn holder_frozen_in_an_open_transaction() {
    let fixture = filled().await;
    let lock_definition =
        "SELECT pg_advisory_xact_lock(hashtextextended('tributary table \"shop\".\"product\"', 0))";
    for lock in [LOCK_ROW, lock_definition] {
        let holder = connect_as(&fixture, "tributary-sink-redshift service").await;
        holder
            .batch_execute(&format!("BEGIN; {lock}"))
            .await
            .unwrap();
        assert_eq!(take_over(&fixture).await, Stand::At(1));
        assert!(holder.batch_execute("COMMIT").await.is_err());
    }
}

/// What is not the former holder is not ended, however long it holds the lock; the message says who it is.
#[tokio::test]
async fn a_stranger_that_holds_the_lock_is_named_and_left_alone() {
    let fixture = filled().await;
    let stranger = connect_as(&fixture, "an analyst").await;
    stranger
        .batch_execute(&format!("BEGIN; {LOCK_ROW}"))
        .await
        .unwrap();
    let pid: i32 = stranger
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let error = try_open(&fixture.warehouse(), "product", 0)
        .await
        .err()
        .unwrap();
    let error = message(Policy::Retry, &error);
    assert!(error.contains("'an analyst'"), "{error}");
    assert!(
        error.ends_with(&format!("SELECT pg_terminate_backend({pid})")),
        "{error}"
    );
    stranger.batch_execute("COMMIT").await.unwrap();
    assert_eq!(take_over(&fixture).await, Stand::At(1));
}

/// One that works is waited for, though it holds the lock for longer than a frozen one may.
#[tokio::test]
async fn a_holder_at_work_is_waited_for() {
    let fixture = filled().await;
    let holder = connect_as(&fixture, "tributary-sink-redshift service").await;
    holder
        .batch_execute(&format!("BEGIN; {LOCK_ROW}"))
        .await
        .unwrap();
    let work = async {
        holder.batch_execute("SELECT pg_sleep(9)").await.unwrap();
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (start, ()) = tokio::join!(take_over(&fixture), work);
    assert_eq!(start, Stand::At(1));
}
