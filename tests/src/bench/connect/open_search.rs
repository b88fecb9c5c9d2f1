//! Aiven's sink, into OpenSearch. It is on no registry: it is built from a checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::load::{Load, TABLE};
use super::super::raw::{create_index, documents};
use super::patience::{POLL, wait};
use crate::debezium::ConnectSink;
use crate::http;
use crate::pipeline::Pipeline;
use crate::stack::{self, Stack};
use crate::usage;

/// As a user would set it who wants all of its speed.
const OPEN_SEARCH: [(&str, &str); 17] = [
    // It writes the row, not the envelope; a delete's row is null, which deletes. (ExtractNewRecordState does more, and costs more.)
    ("transforms", "key,row"),
    (
        "transforms.key.type",
        "org.apache.kafka.connect.transforms.ExtractField$Key",
    ),
    // Of a key it takes a plain value only, which becomes the document's id, versioned by the offset.
    ("transforms.key.field", "id"),
    (
        "transforms.row.type",
        "org.apache.kafka.connect.transforms.ExtractField$Value",
    ),
    ("transforms.row.field", "after"),
    ("behavior.on.null.values", "delete"),
    ("behavior.on.version.conflict", "ignore"),
    // The index is there, like ours.
    ("existing.resource.type", "index"),
    ("schema.ignore", "true"),
    ("batch.size", "5000"),
    ("max.in.flight.requests", "5"),
    // Five in flight, and as many that wait.
    ("max.buffered.records", "50000"),
    // Else a batch goes as soon as there is a record.
    ("linger.ms", "100"),
    // It fails for good where an engine under load takes longer than 3 s.
    ("read.timeout.ms", "60000"),
    ("flush.timeout.ms", "60000"),
    ("consumer.override.max.poll.records", "5000"),
    ("consumer.override.fetch.min.bytes", "1000000"),
];

/// Builds the plugin into `folder`; where it is then.
///
/// # Errors
/// It is no checkout of it, or does not build.
pub(super) fn build(checkout: &Path, folder: &Path) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack/opensearch-sink/build.sh");
    let built = Command::new("bash")
        .arg(script)
        .args([checkout, &stack::connect()?.join("jars"), folder])
        .status()
        .context("run bash")?;
    ensure!(
        built.success(),
        "the sink in {} does not build",
        checkout.display()
    );
    Ok(folder.join("plugins"))
}

/// One run, with a group and an index of its own.
pub(super) async fn run(
    stack: &Stack,
    pipeline: &Pipeline,
    load: &mut Load,
    plugins: &Path,
    round: u32,
) -> Result<()> {
    let name = format!("rival{round}");
    let index = format!("{}/{name}", stack.search_url());
    create_index(&index).await?;
    let topic = pipeline.topic(TABLE);
    let mapping = format!("{topic}:{name}");
    let mut settings = OPEN_SEARCH.to_vec();
    settings.push(("topic.to.existing.resource.mapping", &mapping));
    let dir = pipeline.dir().join(format!("opensearch{round}"));
    let mut sink = ConnectSink::open_search(stack, &dir, plugins, &topic, &settings)?;
    let _watch = stack.watch(&[sink.pid()])?;
    let started = Instant::now();
    while written(&index).await? == 0 {
        wait(&mut sink, started, POLL).await?;
    }
    let (began, before) = (Instant::now(), usage::cpu_seconds(sink.pid())?);
    while written(&index).await? < load.rows {
        wait(&mut sink, started, POLL).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = usage::cpu_seconds(sink.pid())? - before;
    load.add(seconds, cpu, usage::peak_resident_bytes(sink.pid())?);
    let found = documents(&index).await?;
    ensure!(found == load.rows, "{found} documents in {name}");
    drop(sink);
    let client = http::client();
    client.delete(&index).send().await?.error_for_status()?;
    Ok(())
}

/// How many documents the engine has taken, searchable or not.
async fn written(index: &str) -> Result<u64> {
    let url = format!("{index}/_stats/indexing");
    let stats: Value = http::client().get(url).send().await?.json().await?;
    let total = stats.pointer("/_all/primaries/indexing/index_total");
    total
        .and_then(Value::as_u64)
        .with_context(|| stats.to_string())
}
