//! Who may write a partition, and what a lost connection leaves behind.

use tributary_engine::{Known, Lane as _, Note, Stand, WriteError};
use tributary_runtime::{Error, Policy};

use super::fixture::{
    Fixture, PRODUCTS, Product, TestBatch, connect, message, open, target_error, try_open,
};

#[tokio::test]
async fn an_earlier_holder_cannot_write_any_more() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (ours, theirs) = (fixture.warehouse(), fixture.warehouse());
    let (old, _) = open(&ours, "product", 0).await;
    old.apply(&product.upsert(TestBatch::default(), 0, 1, 1, "old"))
        .await
        .unwrap();
    let (new, start) = open(&theirs, "product", 0).await;
    assert_eq!(start, Stand::At(1));

    let late = product.upsert(TestBatch::default(), 1, 9, 1, "zombie");
    let error = message(Policy::Retry, &target_error(old.apply(&late).await));
    assert!(
        error.contains("taken t.shop.product[0] over (epoch 2, ours is 1)"),
        "{error}"
    );
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 old @1"]);

    let next = product.upsert(TestBatch::default(), 1, 2, 1, "new");
    new.apply(&next).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 new @2"]);
    // Another partition is nobody's business.
    let (other, start) = open(&ours, "product", 1).await;
    assert_eq!(start, Stand::Nowhere);
    other
        .apply(&product.upsert(TestBatch::default(), 0, 3, 2, "other"))
        .await
        .unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 new @2", "2 other @3"]);
}

/// As behind a failover to a standby that lacks the last commits, or a backup that was restored.
#[tokio::test]
async fn a_warehouse_that_has_gone_back_is_read_from_where_it_stands() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let row = |at: u32| {
        let (batch, id) = (TestBatch::default(), i64::from(at));
        product.upsert(batch, id, u64::from(at) + 1, id, "row")
    };
    writer.apply(&row(0)).await.unwrap();
    writer.apply(&row(1)).await.unwrap();
    fixture
        .run("UPDATE _tributary._tributary_ledger SET next_offset = 1 WHERE partition = 0; DELETE FROM shop.product WHERE id = 1")
        .await;

    let error = message(Policy::Retry, &target_error(writer.apply(&row(2)).await));
    assert!(
        error.contains("stands at offset 1 of t.shop.product[0], and offset 2 was committed"),
        "{error}"
    );
    assert_eq!(fixture.texts(PRODUCTS).await, ["0 row @1"]);
    let (again, start) = open(&fixture.warehouse(), "product", 0).await;
    assert_eq!(start, Stand::At(1));
    for at in [1, 2] {
        again.apply(&row(at)).await.unwrap();
    }
    assert_eq!(
        fixture.texts(PRODUCTS).await,
        ["0 row @1", "1 row @2", "2 row @3"]
    );
}

/// The same where nobody writes any more: the look at the ledger says so, and no note of having caught up hides it.
#[tokio::test]
async fn a_quiet_partition_that_has_gone_back_is_noticed() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let (writer, _) = open(&fixture.warehouse(), "product", 0).await;
    let quiet = writer.take(1).await;
    for at in [0, 1] {
        let batch = product.upsert(TestBatch::default(), at, 1, at, "row");
        quiet.apply(&batch).await.unwrap();
    }
    let lane = writer.lane();
    let note = [Note::CaughtUp {
        partition: 1,
        at_ms: 7,
    }];
    for (change, is_lost) in [
        ("SET next_offset = 2", false),
        // Another instance has it.
        ("SET epoch = epoch + 1, next_offset = 0", false),
        ("SET epoch = epoch - 1, next_offset = 1", true),
        ("SET epoch = epoch - 1, next_offset = 2", true),
    ] {
        let change = format!("UPDATE _tributary._tributary_ledger {change} WHERE partition = 1");
        fixture.run(&change).await;
        let known = lane.known().await.unwrap();
        assert_eq!(known == Known::Nothing, is_lost, "{change}: {known:?}");
        assert_eq!(
            lane.note("first", &note).await.unwrap(),
            !is_lost,
            "{change}"
        );
    }
    fixture
        .run("DELETE FROM _tributary._tributary_ledger WHERE partition = 1")
        .await;
    assert_eq!(lane.known().await.unwrap(), Known::Nothing);
    // Who comes anew reads what is missing.
    let (_, start) = open(&fixture.warehouse(), "product", 1).await;
    assert_eq!(start, Stand::Nowhere);
}

#[tokio::test]
async fn a_new_holder_waits_for_the_transaction_of_the_old_one() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let warehouse = fixture.warehouse();
    let (old, _) = open(&warehouse, "product", 0).await;
    old.apply(&product.upsert(TestBatch::default(), 0, 1, 1, "a"))
        .await
        .unwrap();

    // The old one is stopped between staging and merging.
    let lock = connect(&fixture.url()).await;
    lock.batch_execute("BEGIN; LOCK TABLE shop.product")
        .await
        .unwrap();
    let batch = product.upsert(TestBatch::default(), 1, 2, 1, "b");
    let writing = tokio::spawn(async move {
        old.apply(&batch)
            .await
            .map_err(|error| format!("{error:?}"))
    });
    wait_for_lock(&fixture, "INSERT INTO").await;
    let other = fixture.warehouse();
    let opening =
        tokio::spawn(async move { try_open(&other, "product", 0).await.map(|(_, start)| start) });
    wait_for_lock(&fixture, "INSERT INTO \"_tributary\"").await;
    lock.batch_execute("COMMIT").await.unwrap();
    assert!(writing.await.unwrap().is_ok());
    assert_eq!(opening.await.unwrap().unwrap(), Stand::At(2));
}

#[tokio::test]
async fn a_connection_that_dies_before_the_commit_leaves_nothing() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "product", 0).await;
    writer
        .apply(&product.upsert(TestBatch::default(), 0, 1, 1, "before"))
        .await
        .unwrap();

    let lock = connect(&fixture.url()).await;
    lock.batch_execute("BEGIN; LOCK TABLE shop.product")
        .await
        .unwrap();
    let batch = product.upsert(TestBatch::default(), 1, 2, 1, "after");
    let writing = tokio::spawn(async move {
        let result = writer.apply(&batch).await;
        (writer, batch, result)
    });
    wait_for_lock(&fixture, "INSERT INTO").await;
    terminate(&fixture).await;
    let (writer, batch, result) = writing.await.unwrap();
    message(Policy::Retry, &target_error(result));
    lock.batch_execute("COMMIT").await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 before @1"]);
    writer.apply(&batch).await.unwrap();
    assert_eq!(fixture.texts(PRODUCTS).await, ["1 after @2"]);
}

#[tokio::test]
async fn idle_connections_that_died_are_replaced() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let warehouse = fixture.warehouse();
    let (writer, _) = open(&warehouse, "product", 0).await;
    for round in 0..3 {
        terminate(&fixture).await;
        let batch = product.upsert(TestBatch::default(), round, 10, round, "x");
        // The client may not have heard of it yet: then the first attempt says so.
        match writer.apply(&batch).await {
            Ok(_) => {}
            Err(WriteError::Target(error)) => {
                message(Policy::Retry, &error);
                writer.apply(&batch).await.unwrap();
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(
        fixture
            .texts("SELECT count(*)::text FROM shop.product")
            .await,
        ["3"]
    );
}

/// Somebody limits how long sessions may be idle. Ours, which the pool keeps, are not ended by that.
#[tokio::test]
async fn a_limit_on_idle_sessions_ends_none_of_ours() {
    let fixture = Fixture::new().await;
    let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 50', current_database()); END $$";
    fixture.run(limit).await;
    let (product, warehouse) = (Product::new(), fixture.warehouse());
    let (writer, _) = open(&warehouse, "product", 0).await;
    let batch = product.upsert(TestBatch::default(), 0, 10, 1, "x");
    writer.apply(&batch).await.unwrap();
    let ours = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name LIKE 'tributary-sink%' ORDER BY pid";
    let before = fixture.texts(ours).await;
    assert!(!before.is_empty());
    // A session that is not ours, and begins later, is ended by then.
    let other = connect(&fixture.url()).await;
    let ended = async {
        while !other.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended)
        .await
        .unwrap();
    assert_eq!(fixture.texts(ours).await, before);
}

#[tokio::test]
async fn partitions_that_begin_together_share_the_table_and_the_connections() {
    let fixture = Fixture::new().await;
    let warehouse = std::sync::Arc::new(fixture.warehouse_with("service", "max_connections = 3"));
    let tasks: Vec<_> = (0..12_i32)
        .map(|partition| {
            let warehouse = std::sync::Arc::clone(&warehouse);
            tokio::spawn(async move {
                let product = Product::new();
                let (writer, _) = open(&warehouse, "product", partition).await;
                for round in 0..5 {
                    let id = i64::from(partition) * 10 + round;
                    let batch = product.upsert(TestBatch::default(), round, 1, id, "x");
                    writer.apply(&batch).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        fixture
            .texts("SELECT count(*)::text FROM shop.product")
            .await,
        ["60"]
    );
    let connections = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'tributary-sink-redshift service'";
    assert_eq!(fixture.texts(connections).await, ["3"]);
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again() {
    let fixture = Fixture::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut config = fixture.config("");
    config.url =
        tributary_runtime::config::Secret::new(format!("postgres://u:geheim@127.0.0.1:{port}/x"));
    let warehouse = crate::postgres::PostgresWarehouse::new("service", &config).unwrap();
    let error = refused(try_open(&warehouse, "product", 0).await);
    let error = message(Policy::Retry, &error);
    assert!(error.contains("connect to the warehouse"), "{error}");
    assert!(!error.contains("geheim"), "{error}");
}

fn refused<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// Waits until a statement that begins so waits for a lock.
async fn wait_for_lock(fixture: &Fixture, beginning: &str) {
    let waiting = format!(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event_type = 'Lock' AND starts_with(query, '{beginning}')"
    );
    let wait = async {
        while fixture.texts(&waiting).await == ["0"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .unwrap();
}

async fn terminate(fixture: &Fixture) {
    fixture
        .run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() \
             AND application_name LIKE 'tributary-sink%'",
        )
        .await;
}

#[tokio::test]
async fn partitions_are_written_together_each_with_its_offset() {
    let fixture = Fixture::new().await;
    let product = Product::new();
    let warehouse = fixture.warehouse();
    let (first, _) = open(&warehouse, "product", 0).await;
    let second = first.take(1).await;
    let one = product.upsert(TestBatch::default(), 4, 1, 1, "one");
    let two = product.upsert(TestBatch::default(), 7, 1, 2, "two");
    first.apply_together(&[(0, &one), (1, &two)]).await.unwrap();
    let offsets = "SELECT partition || ' ' || next_offset FROM _tributary._tributary_ledger WHERE partition >= 0 ORDER BY 1";
    assert_eq!(fixture.texts(offsets).await, ["0 5", "1 8"]);

    // What the ledger covers of one is left out, the other goes on.
    let more = product.upsert(TestBatch::default(), 8, 2, 3, "three");
    first
        .apply_together(&[(0, &one), (1, &more)])
        .await
        .unwrap();
    assert_eq!(fixture.texts(offsets).await, ["0 5", "1 9"]);
    let rows = ["1 one @1", "2 two @1", "3 three @2"];
    assert_eq!(fixture.texts(PRODUCTS).await, rows);

    // Somebody else has taken one of them: nothing is written, and the rest can be.
    let other = fixture.warehouse();
    let (taken, _) = open(&other, "product", 1).await;
    let late = product.upsert(TestBatch::default(), 5, 3, 1, "late");
    let error = target_error(first.apply_together(&[(0, &late), (1, &late)]).await);
    let error = message(Policy::Retry, &error);
    assert!(
        error.contains("has taken t.shop.product[1] over"),
        "{error}"
    );
    assert_eq!(fixture.texts(PRODUCTS).await, rows);
    first.apply(&late).await.unwrap();
    drop(second);
    taken
        .apply(&product.upsert(TestBatch::default(), 9, 3, 4, "four"))
        .await
        .unwrap();
    assert_eq!(
        fixture.texts(PRODUCTS).await,
        ["1 late @3", "2 two @1", "3 three @2", "4 four @3"]
    );
}
