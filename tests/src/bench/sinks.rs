//! How fast a topic's rows come into the warehouse and into search, beside the raw loads that each of the two can take.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::drain::{count, median};
use super::setting::progress;
use super::tributary::{BEFORE, Build};
use crate::http;
use crate::pipeline::Pipeline;
use crate::service::{Kind, Service};
use crate::stack::Stack;

const ROWS: u64 = 1_000_000;
/// Each is measured so often, in turn with the others.
const ROUNDS: usize = 5;
const TABLE: &str = "s.t";
/// As pgbench's accounts.
const COLUMNS: &str = "id int PRIMARY KEY, bid int, balance int, filler char(84)";
/// The best size of a request, and how many at a time, on this machine.
const BULK_BYTES: usize = 4_500_000;
const BULKS: usize = 4;
const LIMIT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(10);
/// Rows written, as a sink's metrics say.
const WRITTEN: &str = "tributary_sink_changes_total";

/// What one peer took to load all rows, in the order of the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Where the rows went.
    pub target: &'static str,
    /// Who loaded them.
    pub peer: &'static str,
    /// From exec, or from the first byte, to the last row.
    pub seconds: Vec<f64>,
    /// CPU seconds of the process for a million rows.
    pub cpu_seconds_per_million: Vec<f64>,
    /// The peak resident size of the process.
    pub peak_resident_bytes: Vec<u64>,
}

impl Load {
    const fn new(target: &'static str, peer: &'static str) -> Self {
        Self {
            target,
            peer,
            seconds: Vec::new(),
            cpu_seconds_per_million: Vec::new(),
            peak_resident_bytes: Vec::new(),
        }
    }

    /// Rows a second, of the median time.
    pub(super) fn rate(&self) -> f64 {
        count(ROWS) / median(&self.seconds)
    }
}

/// A sink that is measured.
struct Sink<'a> {
    kind: Kind,
    build: &'a Build,
    load: Load,
}

/// Fills a topic once, and then every target again and again: by the raw load, the build before, and this one.
///
/// # Errors
/// A load fails, or a target does not hold all rows.
pub(super) async fn measure(stack: &Stack, builds: &[Build]) -> Result<Vec<Load>> {
    let mut pipeline = Pipeline::new(stack, "sinks").await?;
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await?;
    fill(&pipeline, &client).await?;
    let rows = copy_out(&client).await?;
    let bodies = bodies(&client).await?;
    let mut raw = [
        Load::new("warehouse", "raw COPY and MERGE"),
        Load::new("search", "raw _bulk"),
    ];
    let mut peers = Vec::new();
    for kind in [Kind::SinkRedshift, Kind::SinkElastic] {
        for build in builds {
            let target = if kind == Kind::SinkRedshift {
                "warehouse"
            } else {
                "search"
            };
            let peer = match (kind, build.name == BEFORE) {
                (_, true) => BEFORE,
                (Kind::SinkRedshift, _) => "sink-redshift",
                _ => "sink-elastic",
            };
            peers.push(Sink {
                kind,
                build,
                load: Load::new(target, peer),
            });
        }
    }
    for round in 0..ROUNDS {
        progress(&format!("round {} of {ROUNDS}: the raw loads", round + 1));
        raw[0].seconds.push(merge(&pipeline, &rows).await?);
        raw[1].seconds.push(bulk(stack, &bodies).await?);
        for peer in &mut peers {
            progress(&format!(
                "round {} of {ROUNDS}: {} to {}",
                round + 1,
                peer.load.peer,
                peer.load.target
            ));
            run(stack, &pipeline, peer, round).await?;
        }
    }
    pipeline.remove().await?;
    Ok(raw
        .into_iter()
        .chain(peers.into_iter().map(|peer| peer.load))
        .collect())
}

/// Has our source read the table into its topic.
async fn fill(pipeline: &Pipeline, client: &Client) -> Result<()> {
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE {TABLE} ({COLUMNS});
         INSERT INTO {TABLE} SELECT g, g % 100, g * 7 % 10007, '' FROM generate_series(1, {ROWS}) g ORDER BY random()"
    );
    client.batch_execute(&sql).await?;
    let mut source = pipeline.service(Kind::Source, "source", &pipeline.source_config())?;
    progress(&format!("the source reads {ROWS} rows"));
    source.start()?;
    source.wait_ready(LIMIT)?;
    pipeline.wait_source(&mut source, LIMIT).await?;
    ensure!(source.stop(LIMIT)?.success(), "{}", source.log_tail());
    Ok(())
}

/// The table as COPY gives it.
async fn copy_out(client: &Client) -> Result<Vec<Bytes>> {
    let rows = client.copy_out(&format!("COPY {TABLE} TO STDOUT")).await?;
    Ok(rows.try_collect().await?)
}

/// One COPY into a temporary table, and one MERGE of that, in one transaction.
async fn merge(pipeline: &Pipeline, rows: &[Bytes]) -> Result<f64> {
    let client = pipeline.warehouse().await?;
    let begin = format!(
        "CREATE TABLE raw ({COLUMNS}); BEGIN; CREATE TEMPORARY TABLE stage (LIKE raw) ON COMMIT DROP"
    );
    client.batch_execute(&begin).await?;
    let began = Instant::now();
    let sink = client.copy_in::<_, Bytes>("COPY stage FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    for row in rows {
        sink.feed(row.clone()).await?;
    }
    let copied = sink.finish().await?;
    ensure!(copied == ROWS, "{copied} rows copied");
    let end = "MERGE INTO raw r USING stage s ON r.id = s.id
        WHEN MATCHED THEN UPDATE SET bid = s.bid, balance = s.balance, filler = s.filler
        WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.bid, s.balance, s.filler); COMMIT";
    client.batch_execute(end).await?;
    let seconds = began.elapsed().as_secs_f64();
    client.batch_execute("DROP TABLE raw").await?;
    Ok(seconds)
}

/// Ready-made bodies of `_bulk`, with a version for each document, as a sink has it.
async fn bodies(client: &Client) -> Result<Vec<Bytes>> {
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
async fn bulk(stack: &Stack, bodies: &[Bytes]) -> Result<f64> {
    let (client, index) = (http::client(), format!("{}/raw", stack.search_url()));
    let text = json!({"type": "keyword"});
    let definition = json!({
        "settings": {"number_of_replicas": 0, "number_of_shards": 1},
        "mappings": {"properties": {"id": {"type": "integer"}, "bid": {"type": "integer"}, "balance": {"type": "integer"},
            "filler": text, "_tributary_seq": {"type": "long"}}},
    });
    client
        .put(&index)
        .json(&definition)
        .send()
        .await?
        .error_for_status()?;
    let began = Instant::now();
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
    let seconds = began.elapsed().as_secs_f64();
    ensure!(documents(&index).await? == ROWS, "documents are missing");
    client.delete(&index).send().await?.error_for_status()?;
    Ok(seconds)
}

async fn documents(index: &str) -> Result<u64> {
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

/// One run of a sink, with a group and a target of its own.
async fn run(stack: &Stack, pipeline: &Pipeline, peer: &mut Sink<'_>, round: usize) -> Result<()> {
    let name = format!("{}{round}", peer.build.suffix);
    let group = format!("{}-{name}", pipeline.group(peer.kind));
    let config = match peer.kind {
        Kind::SinkElastic => pipeline.elastic_config(&group, &format!("{name}-")),
        _ => pipeline.redshift_config(&group, Some(&name)),
    };
    // An older build does not pass over what the source says of itself.
    let config = config.replace(".*\"]", ".s.*\"]");
    let mut service = pipeline.service(peer.kind, &group, &config)?;
    service.use_build(peer.build.dir.clone());
    let began = Instant::now();
    service.start()?;
    let pid = service.pid().context("the sink has no process")?;
    let watch = stack.watch(&[pid])?;
    wait(&mut service, began).await?;
    peer.load.seconds.push(began.elapsed().as_secs_f64());
    peer.load
        .cpu_seconds_per_million
        .push(service.cpu_seconds()? / count(ROWS) * 1e6);
    peer.load
        .peak_resident_bytes
        .push(service.peak_resident_bytes()?);
    ensure!(service.stop(LIMIT)?.success(), "{}", service.log_tail());
    drop(watch);
    let found = if peer.kind == Kind::SinkElastic {
        let index = format!("{}/{name}-{}", stack.search_url(), pipeline.topic(TABLE));
        let found = documents(&index).await?;
        let all = format!("{}/{name}-*", stack.search_url());
        http::client()
            .delete(all)
            .send()
            .await?
            .error_for_status()?;
        found
    } else {
        let warehouse = pipeline.warehouse().await?;
        let counted = warehouse
            .query_one(&format!("SELECT count(*) FROM {name}.t"), &[])
            .await?;
        warehouse
            .batch_execute(&format!("DROP SCHEMA {name} CASCADE"))
            .await?;
        u64::try_from(counted.get::<_, i64>(0))?
    };
    ensure!(
        found == ROWS,
        "{found} rows in the target of {}",
        peer.load.peer
    );
    Ok(())
}

async fn wait(service: &mut Service, began: Instant) -> Result<()> {
    while service.metric(WRITTEN).unwrap_or_default() < count(ROWS) {
        if !service.is_running()? || began.elapsed() > LIMIT {
            bail!(
                "it does not write all rows; its log ends:\n{}",
                service.log_tail()
            );
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
