//! A publication that somebody drops, under a running source and behind its back.

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::gaps::{change, converges, stopped_source, stops_and_converges, stops_with};
use super::{PATIENCE, RESNAPSHOT, fold, records, start_source, table, wait_until};

/// What the source says of it.
fn told(publication: &str) -> String {
    format!("publication '{publication}' was dropped")
}

async fn drop_publication(client: &Client, publication: &str) {
    let drop = format!("DROP PUBLICATION \"{publication}\"");
    client.batch_execute(&drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_dropped_stops_the_source() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "dropped_stop").await;
    let publication = format!("tributary_{}", pipeline.prefix());
    for (round, changes) in [(2, true), (3, false)] {
        let mut source = start_source(&pipeline, &format!("running{round}"), "");
        source.wait_ready(PATIENCE).unwrap();
        drop_publication(&client, &publication).await;
        // Without a change nobody but the watch can find out.
        if changes {
            change(&client, round).await;
        }
        assert_eq!(source.wait(PATIENCE).unwrap().code(), Some(1));
        let log = source.log_tail();
        assert!(log.contains(&told(&publication)), "{log}");
        change(&client, round + 10).await;
        // Nor is it made anew in silence.
        stops_and_converges(&pipeline, &client, &told(&publication), round + 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_dropped_is_made_anew_by_option() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "dropped_anew").await;
    let keyed = format!("tributary_{}", pipeline.prefix());
    let mut source = start_source(&pipeline, "running", RESNAPSHOT);
    for (round, publication) in [(2, keyed.clone()), (3, format!("{keyed}_keyless"))] {
        source.wait_ready(PATIENCE).unwrap();
        drop_publication(&client, &publication).await;
        change(&client, round).await;
        wait_until("the gap", async || {
            source.log().contains(&told(&publication))
        })
        .await;
        converges(&pipeline, &client, &mut source).await;
    }
    // Once for each, and not again because the tables are in another publication now.
    change(&client, 4).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&pipeline).await;
    assert_eq!(fold(&records), table(&client).await);
    let sweeps = records.iter().filter_map(|record| record.below);
    let sweeps: std::collections::BTreeSet<u64> = sweeps.collect();
    assert_eq!(sweeps.len(), 2, "{}", source.log());
}

/// It is there again, but not where the slot stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_somebody_made_again() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "dropped_by_hand").await;
    let publication = format!("tributary_{}", pipeline.prefix());
    drop_publication(&client, &publication).await;
    change(&client, 2).await;
    let create = format!(
        "CREATE PUBLICATION \"{publication}\" FOR TABLE s.t
            WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
    );
    client.batch_execute(&create).await.unwrap();
    let mut arguments: &[&str] = &[];
    if fails_to_decode(&client).await {
        stops_with(&pipeline, &[&told(&publication), "--adopt"]);
        arguments = &["--adopt"];
    }
    let mut source = adopting(&pipeline);
    source.start_with(arguments).unwrap();
    // Without --adopt the stream passes in silence what it lacks, and the watch sees another publication.
    wait_until("the rows", async || {
        source.metric("tributary_source_snapshot_rows_total") >= Some(500.0)
    })
    .await;
    converges(&pipeline, &client, &mut source).await;
}

/// What it did not publish meanwhile is not in the stream, set back or not, and nothing in the stream tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_altered_has_its_rows_read_again() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "altered").await;
    let publication = format!("tributary_{}", pipeline.prefix());
    let publish =
        |what: &str| format!("ALTER PUBLICATION \"{publication}\" SET (publish = '{what}')");
    let all = publish("insert, update, delete, truncate");

    let mut source = start_source(&pipeline, "running", "");
    source.wait_ready(PATIENCE).unwrap();
    client.batch_execute(&publish("insert")).await.unwrap();
    assert_eq!(source.wait(PATIENCE).unwrap().code(), Some(1));
    let words = [
        "does not publish",
        &format!("ALTER PUBLICATION \"{publication}\" SET"),
    ];
    for words in words {
        assert!(source.log().contains(words), "{}", source.log_tail());
    }
    change(&client, 2).await;
    stops_with(&pipeline, &words);
    client.batch_execute(&all).await.unwrap();
    for name in ["set_back", "set_back_unseen"] {
        if name == "set_back_unseen" {
            client.batch_execute(&publish("insert")).await.unwrap();
            change(&client, 3).await;
            client.batch_execute(&all).await.unwrap();
        }
        let mut source = start_source(&pipeline, name, "");
        wait_until("the rows", async || {
            source.metric("tributary_source_snapshot_rows_total") >= Some(500.0)
        })
        .await;
        converges(&pipeline, &client, &mut source).await;
        assert!(source.stop(PATIENCE).unwrap().success());
    }
    let mut source = start_source(&pipeline, "once", "");
    source.wait_ready(PATIENCE).unwrap();
    change(&client, 4).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert_eq!(fold(&records(&pipeline).await), table(&client).await);
    assert!(!source.log().contains("publication was altered"));
}

fn adopting(pipeline: &Pipeline) -> tributary_tests::service::Service {
    let config = pipeline.source_config();
    pipeline.service(Kind::Source, "adopting", &config).unwrap()
}

/// Since version 18 a missing publication is but a warning.
async fn fails_to_decode(client: &Client) -> bool {
    let version = "SELECT current_setting('server_version_num')::int < 180000";
    client.query_one(version, &[]).await.unwrap().get(0)
}

/// It is not gone because somebody still writes to it: its changes go on, until its rows can be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_writers_are_awaited_goes_on() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "awaited").await;
    let publication = format!("tributary_{}", pipeline.prefix());
    let mut source = start_source(&pipeline, "running", "");
    source.wait_ready(PATIENCE).unwrap();
    let writer = pipeline.source().await.unwrap();
    let open = "BEGIN; INSERT INTO s.t VALUES (5000, 'open')";
    writer.batch_execute(open).await.unwrap();
    let alter = format!(
        "ALTER PUBLICATION \"{publication}\" SET (publish = 'insert, update, delete, truncate')"
    );
    client.batch_execute(&alter).await.unwrap();
    // A table that comes later is taken in: the catalog was looked at behind that.
    let later = "CREATE TABLE s.later (id int PRIMARY KEY); INSERT INTO s.later VALUES (1)";
    client.batch_execute(later).await.unwrap();
    let read = "the table's rows are in the log";
    wait_until("the later table", async || source.log().contains(read)).await;
    change(&client, 2).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&pipeline).await;
    assert_eq!(
        fold(&records),
        table(&client).await,
        "{}",
        source.log_tail()
    );
    assert!(!source.log().contains("publication was altered"));
    writer.batch_execute("COMMIT").await.unwrap();
    wait_until("the rows", async || source.log().matches(read).count() == 2).await;
    converges(&pipeline, &client, &mut source).await;
    assert!(!source.log().contains("its topic stays as it is"));
}
