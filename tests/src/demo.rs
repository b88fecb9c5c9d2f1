//! The demo: the whole path on real data, watched, questioned, and compared row by row.

mod board;
mod catalogue;
mod engine;
mod freshness;
mod live;
mod package_index;
mod questions;
mod reindex;
mod services;
mod snapshot;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::pipeline::Pipeline;
use crate::shop;
use crate::stack::{Lifetime, Options, Stack, Watch};
use board::{bare, detail, grouped, say};
use engine::SearchEngine;
use package_index::Package;
use services::Services;

/// Under a stack's folder: the services' process ids.
const PIDS: &str = "services.pids";

/// A stack of its own, the shop's databases, and the services that work on them.
#[derive(Debug)]
struct Demo {
    // The order of the fields is the order in which they end.
    services: Services,
    watch: Option<Watch>,
    pipeline: Arc<Pipeline>,
    engine: SearchEngine,
    products: i64,
    stack: Stack,
}

/// Runs the demo on a stack in the folder `dir`. With `keep` all goes on running afterwards; otherwise nothing
/// does, and the folder is removed unless something failed.
///
/// # Errors
/// What failed, or what differs.
pub async fn run(dir: &Path, keep: bool) -> Result<()> {
    clear(dir)?;
    let mut demo = Box::pin(Demo::start(dir, keep))
        .await
        .with_context(|| logs(dir))?;
    let shown = Box::pin(demo.show()).await.with_context(|| logs(dir));
    if keep {
        demo.leave(dir);
        return shown;
    }
    shown?;
    demo.end(dir).with_context(|| logs(dir))
}

fn logs(dir: &Path) -> String {
    format!(
        "the demo failed (configurations and logs: {})",
        dir.display()
    )
}

/// Removes what an earlier demo has left.
fn clear(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if let Ok(stack) = Stack::attach(dir)
        && stack.status()?.iter().any(|part| part.pid.is_some())
    {
        bail!(
            "the demo of a while ago still runs; end it by\n  {}",
            how_to_end(dir)
        );
    }
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

fn how_to_end(dir: &Path) -> String {
    format!(
        "kill $(cat {0}/{PIDS}); cargo run -q -p tributary-tests --bin stack -- --dir {0} down && rm -r {0}",
        dir.display()
    )
}

impl Demo {
    /// From nothing to three services beside a filled shop.
    async fn start(dir: &Path, keep: bool) -> Result<Self> {
        say("starting PostgreSQL, Kafka, the schema registry and the search engine");
        let (stack, packages) = stack_and_packages(dir, keep).await?;
        for (part, version) in stack.versions() {
            detail(format_args!("{:<9} {version}", part.name()));
        }
        say("loading the packages of this machine's distribution as a shop's catalogue");
        let pipeline = Arc::new(Pipeline::new(&stack, "demo").await?);
        let source = pipeline.source().await?;
        source.batch_execute(shop::SCHEMA).await?;
        catalogue::load(&source, &packages).await?;
        let products = i64::try_from(packages.len())?;
        say(format_args!(
            "the shop has {} products, stock in {} regions, 2,000 orders; starting the three services",
            grouped(products.try_into()?),
            shop::REGIONS.len()
        ));
        let services = Services::start(&pipeline)?;
        let pids: Vec<String> = services.pids().iter().map(u32::to_string).collect();
        fs::write(stack.dir().join(PIDS), pids.join(" "))?;
        let watch = match keep {
            true => None,
            false => Some(stack.watch(&services.pids())?),
        };
        Ok(Self {
            services,
            watch,
            pipeline,
            engine: SearchEngine::new(stack.search_url()),
            products,
            stack,
        })
    }

    async fn show(&mut self) -> Result<()> {
        self.watch_snapshot().await?;
        self.work_live(self.products).await?;
        self.catch_up().await?;
        self.services.show_usage()?;
        self.search().await?;
        self.reindex().await?;
        self.query_warehouse().await?;
        self.compare().await
    }

    /// Ends everything, and removes the folder.
    fn end(mut self, dir: &Path) -> Result<()> {
        self.services.stop()?;
        drop(self.watch);
        drop(self.stack);
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        say("all services have stopped in an orderly way");
        Ok(())
    }

    /// Says where everything is, and lets it run.
    fn leave(self, dir: &Path) {
        say("all goes on running:");
        for (what, url) in [
            ("source database", self.pipeline.source_url.as_str()),
            ("warehouse", &self.pipeline.warehouse_url),
            ("Kafka", self.stack.kafka()),
            ("schema registry", self.stack.registry_url()),
            ("search engine", self.stack.search_url()),
        ] {
            detail(format_args!("{what:<24} {url}"));
        }
        detail(format_args!(
            "{:<24} {}.*, and indices of the same names",
            "topics",
            self.pipeline.prefix()
        ));
        let Services {
            source,
            elastic,
            redshift,
        } = self.services;
        for service in [source, elastic, redshift] {
            detail(format_args!(
                "{:<24} http://{}/metrics",
                service.kind().to_string(),
                service.http()
            ));
            service.leave();
        }
        detail(format_args!(
            "{:<24} {}",
            "configurations, logs",
            self.pipeline.dir().display()
        ));
        bare(format_args!("end it by\n  {}", how_to_end(dir)));
    }
}

/// Both take a while, and neither needs the other.
async fn stack_and_packages(dir: &Path, keep: bool) -> Result<(Stack, Vec<Package>)> {
    let options = Options {
        lifetime: match keep {
            true => Lifetime::Detached,
            false => Lifetime::Owned,
        },
        ..Options::default()
    };
    let dir = dir.to_owned();
    let stack = tokio::task::spawn_blocking(move || Stack::up(&dir, &options));
    let packages = tokio::task::spawn_blocking(package_index::read);
    let (stack, packages) = tokio::join!(stack, packages);
    Ok((stack??, packages??))
}
