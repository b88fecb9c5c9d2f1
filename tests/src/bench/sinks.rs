//! How fast a topic's rows come into the warehouse and into search, beside the raw loads that each of the two can take
//! and the sinks that Kafka Connect has.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::Client;

use super::connect;
use super::drain::count;
use super::load::{COLUMNS, Load, Meter, OURS, SEARCH, TABLE, WAREHOUSE};
use super::raw::{bodies, bulk, copy_out, documents, merge};
use super::setting::{Size, progress};
use super::tributary::{BEFORE, Build};
use crate::http;
use crate::pipeline::Pipeline;
use crate::service::{Kind, Service};
use crate::stack::Stack;

/// Each is measured so often, in turn with the others.
const ROUNDS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(600);
/// Each question costs the sink CPU, which it would be charged for: a millisecond where the machine is slow.
const POLL: Duration = Duration::from_millis(50);
/// Rows written, as a sink's metrics say.
const WRITTEN: &str = "tributary_sink_changes_total";

/// A sink that is measured.
struct Sink<'a> {
    kind: Kind,
    build: &'a Build,
    load: Load,
}

impl<'a> Sink<'a> {
    fn all(builds: &'a [Build], rows: u64) -> Vec<Self> {
        let mut all = Vec::new();
        for kind in [Kind::SinkRedshift, Kind::SinkElastic] {
            for build in builds {
                let (target, ours) = match kind {
                    Kind::SinkRedshift => (WAREHOUSE, OURS[0]),
                    _ => (SEARCH, OURS[1]),
                };
                let peer = if build.name == BEFORE { BEFORE } else { ours };
                let load = Load::new(target, peer, rows);
                all.push(Sink { kind, build, load });
            }
        }
        all
    }
}

/// Fills a topic once, and then every target again and again: by the raw load, the build before, this one, and the peers.
///
/// # Errors
/// A load fails, or a target does not hold all rows.
pub(super) async fn measure(stack: &Stack, builds: &[Build], size: Size) -> Result<Vec<Load>> {
    let mut pipeline = Pipeline::new(stack, "sinks").await?;
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await?;
    fill(&pipeline, &client, size.rows).await?;
    let rows = copy_out(&client).await?;
    let bodies = bodies(&client).await?;
    let mut raw = [
        Load::new(WAREHOUSE, "raw COPY and MERGE", size.rows),
        Load::new(SEARCH, "raw _bulk", size.rows),
    ];
    let mut sinks = Sink::all(builds, size.rows);
    let mut peers = connect::rivals(stack, size.rows)?;
    for round in 0..ROUNDS {
        let say = |peer: &str, target: &str| {
            progress(&format!(
                "round {} of {ROUNDS}: {peer} to {target}",
                round + 1
            ));
        };
        say("the raw loads", "both");
        raw[0].measured(&merge(&pipeline, &rows, size.rows).await?);
        raw[1].measured(&bulk(stack, &bodies, size.rows).await?);
        for sink in &mut sinks {
            say(sink.load.peer, sink.load.target);
            run(stack, &pipeline, sink, round).await?;
        }
        if round >= size.peer_rounds {
            continue;
        }
        for peer in &mut peers {
            say(peer.load.peer, peer.load.target);
            peer.run(stack, &pipeline, round).await?;
        }
    }
    pipeline.remove().await?;
    let loads = raw.into_iter().chain(sinks.into_iter().map(|it| it.load));
    let peers = peers.into_iter().map(|peer| peer.load);
    Ok(loads.chain(peers).collect())
}

/// Has our source read the table into its topic.
async fn fill(pipeline: &Pipeline, client: &Client, rows: u64) -> Result<()> {
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE {TABLE} ({COLUMNS});
         INSERT INTO {TABLE} SELECT g, g % 100, g * 7 % 10007, '' FROM generate_series(1, {rows}) g ORDER BY random()"
    );
    client.batch_execute(&sql).await?;
    let mut source = pipeline.service(Kind::Source, "source", &pipeline.source_config())?;
    progress(&format!("the source reads {rows} rows"));
    source.start()?;
    source.wait_ready(LIMIT)?;
    pipeline.wait_source(&mut source, LIMIT).await?;
    ensure!(source.stop(LIMIT)?.success(), "{}", source.log_tail());
    Ok(())
}

/// One run of a sink, with a group and a target of its own.
async fn run(stack: &Stack, pipeline: &Pipeline, sink: &mut Sink<'_>, round: u32) -> Result<()> {
    let rows = sink.load.rows;
    let name = format!("{}{round}", sink.build.suffix);
    let group = format!("{}-{name}", pipeline.group(sink.kind));
    let config = match sink.kind {
        Kind::SinkElastic => pipeline.elastic_config(&group, &format!("{name}-")),
        _ => pipeline.redshift_config(&group, Some(&name)),
    };
    // An older build does not pass over what the source says of itself.
    let config = config.replace(".*\"]", ".s.*\"]");
    let mut service = pipeline.service(sink.kind, &group, &config)?;
    service.use_build(sink.build.dir.clone());
    let meter = Meter::start()?;
    service.start()?;
    let pid = service.pid().context("the sink has no process")?;
    let watch = stack.watch(&[pid])?;
    wait(&mut service, &meter, rows).await?;
    sink.load.measured(&meter.stop()?);
    sink.load
        .used(service.cpu_seconds()?, service.peak_resident_bytes()?);
    ensure!(service.stop(LIMIT)?.success(), "{}", service.log_tail());
    drop(watch);
    let found = if sink.kind == Kind::SinkElastic {
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
        found == rows,
        "{found} rows in the target of {}",
        sink.load.peer
    );
    Ok(())
}

async fn wait(service: &mut Service, meter: &Meter, rows: u64) -> Result<()> {
    while service.metric(WRITTEN).unwrap_or_default() < count(rows) {
        if !service.is_running()? || meter.elapsed() > LIMIT {
            bail!(
                "it does not write all rows; its log ends:\n{}",
                service.log_tail()
            );
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
