//! The raw loads that a target can take: no log, no registry, all rows at hand.

use std::io::Write as _;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::load::{COLUMNS, Measured, Meter, TABLE};
use crate::http;
use crate::pipeline::Pipeline;
use crate::stack::Stack;

/// The best size of a request, and how many at a time, on this machine.
const BULK_BYTES: usize = 4_500_000;
const BULKS: usize = 4;

/// The table as COPY gives it.
pub(super) async fn copy_out(client: &Client) -> Result<Vec<Bytes>> {
    let rows = client.copy_out(&format!("COPY {TABLE} TO STDOUT")).await?;
    Ok(rows.try_collect().await?)
}

/// One COPY into a temporary table, and one MERGE of that, in one transaction.
pub(super) async fn merge(pipeline: &Pipeline, rows: &[Bytes], number: u64) -> Result<Measured> {
    let client = pipeline.warehouse().await?;
    let begin = format!(
        "CREATE TABLE raw ({COLUMNS}); BEGIN; CREATE TEMPORARY TABLE stage (LIKE raw) ON COMMIT DROP"
    );
    client.batch_execute(&begin).await?;
    let meter = Meter::start()?;
    let sink = client.copy_in::<_, Bytes>("COPY stage FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for row in rows {
        sink.feed(row.clone()).await?;
    }
    let copied = sink.finish().await?;
    ensure!(copied == number, "{copied} rows copied");
    let end = "MERGE INTO raw r USING stage s ON r.id = s.id
        WHEN MATCHED THEN UPDATE SET bid = s.bid, balance = s.balance, filler = s.filler
        WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.bid, s.balance, s.filler); COMMIT";
    client.batch_execute(end).await?;
    let measured = meter.stop()?;
    client.batch_execute("DROP TABLE raw").await?;
    Ok(measured)
}

/// Ready-made bodies of `_bulk`, with a version for each document, as a sink has it.
pub(super) async fn bodies(client: &Client) -> Result<Vec<Bytes>> {
    let rows = client
        .query_raw::<_, i32, _>(&format!("SELECT * FROM {TABLE}"), [])
        .await?;
    let mut rows = std::pin::pin!(rows);
    let (mut bodies, mut body) = (Vec::new(), Vec::new());
    while let Some(row) = rows.try_next().await? {
        let id: i32 = row.get(0);
        writeln!(
            body,
            r#"{{"index":{{"_id":"{id}","version":{},"version_type":"external"}}}}"#,
            1_000_000 + id
        )?;
        let (bid, balance, filler): (i32, i32, &str) = (row.get(1), row.get(2), row.get(3));
        let document = json!({"id": id, "bid": bid, "balance": balance, "filler": filler, "_tributary_seq": 1_000_000 + id});
        writeln!(body, "{document}")?;
        if body.len() >= BULK_BYTES {
            bodies.push(std::mem::take(&mut body).into());
        }
    }
    bodies.push(body.into());
    Ok(bodies)
}

/// Sends the bodies to an index like ours.
pub(super) async fn bulk(stack: &Stack, bodies: &[Bytes], number: u64) -> Result<Measured> {
    let (client, index) = (http::client(), format!("{}/raw", stack.search_url()));
    create_index(&index).await?;
    let meter = Meter::start()?;
    let send = |body: &Bytes| {
        let request = client.post(format!("{index}/_bulk?filter_path=errors"));
        let request = request
            .header("content-type", "application/x-ndjson")
            .body(body.clone());
        async move {
            let answer: Value = request.send().await?.error_for_status()?.json().await?;
            ensure!(answer["errors"] == false, "{answer}");
            Ok(())
        }
    };
    let sent = stream::iter(bodies).map(send).buffer_unordered(BULKS);
    sent.try_collect::<()>().await?;
    let measured = meter.stop()?;
    ensure!(documents(&index).await? == number, "documents are missing");
    client.delete(&index).send().await?.error_for_status()?;
    Ok(measured)
}

/// An index like ours.
pub(super) async fn create_index(index: &str) -> Result<()> {
    let text = json!({"type": "keyword"});
    let definition = json!({
        "settings": {"number_of_replicas": 0, "number_of_shards": 1},
        "mappings": {"properties": {"id": {"type": "integer"}, "bid": {"type": "integer"}, "balance": {"type": "integer"},
            "filler": text, "_tributary_seq": {"type": "long"}}},
    });
    let created = http::client().put(index).json(&definition).send().await?;
    created.error_for_status()?;
    Ok(())
}

/// How many documents an index has.
pub(super) async fn documents(index: &str) -> Result<u64> {
    let client = http::client();
    client
        .post(format!("{index}/_refresh"))
        .send()
        .await?
        .error_for_status()?;
    let counted: Value = client
        .get(format!("{index}/_count"))
        .send()
        .await?
        .json()
        .await?;
    counted["count"]
        .as_u64()
        .with_context(|| counted.to_string())
}
