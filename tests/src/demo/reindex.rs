//! The index of the products is built again with a field more, while the shop is at work and its customers search.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::task::JoinSet;

use super::Demo;
use super::board::{detail, grouped, quantile, say};
use super::engine::SearchEngine;
use super::live::begin_workload;
use super::questions::{FIELDS, WORD};

/// The field that the index has not had: name and description in one.
const ADDED: &str = "everything";
/// Between two searches of a customer.
const PAUSE: Duration = Duration::from_millis(20);

impl Demo {
    /// Reindexes the products, and looks for the word in the added field.
    ///
    /// # Errors
    /// The command fails, a search meanwhile fails or finds nothing, or the added field finds other products than those that it is made of.
    pub(super) async fn reindex(&mut self) -> Result<()> {
        let alias = self.pipeline.topic("catalog.product");
        say(format_args!(
            "reindex: builds the index of the products again with a field '{ADDED}', while orders go on and customers search"
        ));
        let (workload, mut tasks) = begin_workload(&self.pipeline.source_url, self.products);
        let ended = Arc::new(AtomicBool::new(false));
        let customer = search_until(self.engine.clone(), alias.clone(), Arc::clone(&ended));
        let mut customers = JoinSet::new();
        customers.spawn(customer);
        let done = self.run_command(&alias).await;
        ended.store(true, Ordering::Relaxed);
        workload.stop();
        let done = done?;
        while let Some(worked) = tasks.join_next().await {
            worked??;
        }
        let took = customers
            .join_next()
            .await
            .context("nobody has searched")???;
        for line in done.lines() {
            detail(line);
        }
        detail(format_args!(
            "{} orders and changes meanwhile, and {} searches, of which none failed (p99 {} ms)",
            grouped(workload.transactions()),
            grouped(u64::try_from(took.len())?),
            quantile(&took, 0.99).unwrap_or_default().as_millis()
        ));
        self.services.alive()?;
        self.catch_up().await?;
        self.engine.refresh(&alias).await?;
        let added = found(&self.engine, &alias, &[ADDED]).await?;
        if added.is_empty() || added != found(&self.engine, &alias, &FIELDS).await? {
            bail!("'{ADDED}' finds other products than the fields that it is made of: {added:?}");
        }
        detail(format_args!(
            "right: '{ADDED}' finds {} products with \"{WORD}\", the same as name and description",
            added.len()
        ));
        Ok(())
    }

    async fn run_command(&self, alias: &str) -> Result<String> {
        let file = self.pipeline.dir().join("product.json");
        let mapping = json!({"properties": {
            "name": {"copy_to": ADDED}, "description": {"copy_to": ADDED}, ADDED: {"type": "text"},
        }});
        std::fs::write(&file, mapping.to_string())?;
        let mut command = Command::new(self.services.elastic.binary()?);
        command.args(["reindex", "--topic", alias]);
        command
            .arg("--config")
            .arg(self.services.elastic.config_path());
        command.arg("--mapping").arg(&file);
        // How far it is, and its error, are for whoever watches.
        command.stderr(Stdio::inherit());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            bail!("reindex ended with {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Searches by the alias until it is told to end; how long each search took.
async fn search_until(
    engine: SearchEngine,
    alias: String,
    ended: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let begun = Instant::now();
        if engine.search(&alias, &FIELDS, WORD).await?.is_empty() {
            bail!("a search during the reindex finds nothing");
        }
        took.push(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(took)
}

/// The products that have the word in one of the fields, by id.
async fn found(engine: &SearchEngine, alias: &str, fields: &[&str]) -> Result<Vec<i64>> {
    let hits = engine.search(alias, fields, WORD).await?;
    let ids = hits.iter().map(|hit| hit.source["id"].as_i64());
    let mut ids: Vec<_> = ids
        .map(|id| id.context("a hit without its id"))
        .collect::<Result<_>>()?;
    ids.sort_unstable();
    Ok(ids)
}
