//! Debezium's JDBC sink, into PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use super::super::load::{Load, TABLE};
use super::patience::{POLL, wait};
use crate::debezium::{ConnectSink, Jvm};
use crate::pipeline::Pipeline;
use crate::stack::Stack;
use crate::usage;

/// As a user would set it who wants all of its speed. Of what was tried, with 200,000 rows: one task takes twice as long,
/// batches and polls of 10,000 no less.
const JDBC: [(&str, &str); 7] = [
    // A batch is one statement over arrays, instead of one statement a row.
    ("dialect.postgres.unnest.insert.enabled", "true"),
    // ON CONFLICT DO UPDATE takes a row but once in a statement: of several changes of a key the last one goes.
    ("use.reduction.buffer", "true"),
    ("batch.size", "5000"),
    // A batch ends where a poll ends.
    ("consumer.override.max.poll.records", "5000"),
    ("consumer.override.fetch.min.bytes", "1000000"),
    // The topic has three partitions, and a task one connection.
    ("tasks.max", "3"),
    // The table is there: three tasks that make it at once hinder each other.
    ("schema.evolution", "none"),
];
/// Whether all is there is asked seldom: counting costs what the sink could use. The times are the server's.
const PAUSE: Duration = Duration::from_millis(500);

/// One run, with a group and a table of its own.
pub(super) async fn run(
    stack: &Stack,
    pipeline: &Pipeline,
    load: &mut Load,
    round: u32,
) -> Result<()> {
    let client = pipeline.warehouse().await?;
    let topic = pipeline.topic(TABLE);
    let table = ConnectSink::table(&topic);
    let columns = "id int PRIMARY KEY, bid int, balance int, filler text";
    let sql = format!("CREATE TABLE {table} ({columns})");
    client.batch_execute(&sql).await?;
    let dir = pipeline.dir().join(format!("jdbc{round}"));
    let database = &pipeline.warehouse_url;
    let mut sink = ConnectSink::jdbc(stack, &dir, Jvm::Shipped, &[topic], database, &JDBC)?;
    let _watch = stack.watch(&[sink.pid()])?;
    let has_rows = format!("SELECT EXISTS (SELECT FROM {table})");
    let started = Instant::now();
    while !client.query_one(&has_rows, &[]).await?.get::<_, bool>(0) {
        wait(&mut sink, started, POLL).await?;
    }
    let before = usage::cpu_seconds(sink.pid())?;
    while !holds(&client, &table, load.rows).await? {
        wait(&mut sink, started, PAUSE).await?;
    }
    let cpu = usage::cpu_seconds(sink.pid())? - before;
    let peak = usage::peak_resident_bytes(sink.pid())?;
    load.add(time(&client, &table).await?, cpu, peak);
    drop(sink);
    let drop = format!("DROP TABLE {table}");
    client.batch_execute(&drop).await?;
    Ok(())
}

/// Whether a table has all rows. They are counted only when its size stays for a moment.
async fn holds(client: &Client, table: &str, rows: u64) -> Result<bool> {
    let size = format!("SELECT pg_relation_size('{table}')");
    let before: i64 = client.query_one(&size, &[]).await?.get(0);
    tokio::time::sleep(PAUSE).await;
    if before != client.query_one(&size, &[]).await?.get::<_, i64>(0) {
        return Ok(false);
    }
    let count = format!("SELECT count(*) FROM {table}");
    let found = u64::try_from(client.query_one(&count, &[]).await?.get::<_, i64>(0))?;
    ensure!(found <= rows, "{found} rows of {rows} in {table}");
    Ok(found == rows)
}

/// From the commit of the first row to that of the last, by the server's clock.
async fn time(client: &Client, table: &str) -> Result<f64> {
    let sql = format!(
        "SELECT extract(epoch FROM max(at) - min(at))::float8
         FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM {table}) rows"
    );
    Ok(client.query_one(&sql, &[]).await?.get(0))
}
