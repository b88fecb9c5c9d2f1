//! Sends generated transactions.

use anyhow::{Context, Result, ensure};
use futures::SinkExt;
use tokio_postgres::Client;

use super::workload::{Step, Transaction};
use crate::shop;

/// Runs a transaction; whether it was committed.
pub(super) async fn commit(
    client: &mut Client,
    url: &str,
    transaction: &Transaction,
) -> Result<bool> {
    loop {
        match attempt(client, transaction).await {
            Ok(()) => return Ok(transaction.commits),
            Err((step, error)) => {
                // A connection on which COPY has failed is of no more use to tokio-postgres.
                *client = shop::connect(url).await?;
                let code = error.code().map_or("", |code| code.code());
                // Deadlocks, and rows that have moved to another partition meanwhile.
                let lost_a_race = matches!(code, "40P01" | "40001");
                // Keys that are taken, and columns that are gone: what happens to applications.
                if !lost_a_race && !matches!(code, "23505" | "42703") {
                    return Err(error).with_context(|| format!("the generator made: {step:?}"));
                }
                if !(transaction.must_commit && lost_a_race) {
                    ensure!(
                        !transaction.must_commit,
                        "the schema change failed: {error}: {step:?}"
                    );
                    return Ok(false);
                }
            }
        }
    }
}

async fn attempt(
    client: &Client,
    transaction: &Transaction,
) -> Result<(), (Step, tokio_postgres::Error)> {
    let sql = |text: &str| Step::Sql(text.to_owned());
    client
        .batch_execute("BEGIN")
        .await
        .map_err(|e| (sql("BEGIN"), e))?;
    for step in &transaction.steps {
        let done = match step {
            Step::Sql(statement) => client.batch_execute(statement).await,
            Step::Copy { statement, lines } => copy(client, statement, lines).await,
        };
        done.map_err(|error| (step.clone(), error))?;
    }
    let end = if transaction.commits {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    client.batch_execute(end).await.map_err(|e| (sql(end), e))
}

async fn copy(client: &Client, statement: &str, lines: &str) -> Result<(), tokio_postgres::Error> {
    let sink = client
        .copy_in::<_, std::io::Cursor<Vec<u8>>>(statement)
        .await?;
    let mut sink = std::pin::pin!(sink);
    sink.send(std::io::Cursor::new(lines.as_bytes().to_vec()))
        .await?;
    sink.finish().await.map(drop)
}
