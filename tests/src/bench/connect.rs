//! The sinks that Kafka Connect has, set as well as we know how.
//!
//! What is measured begins with a rival's first row: the start of its virtual machine is not what is compared.

mod jdbc;
mod open_search;
mod patience;

use std::path::PathBuf;

use anyhow::Result;

use super::load::{Load, SEARCH, WAREHOUSE};
use super::setting::progress;
use crate::pipeline::Pipeline;
use crate::stack::{Engine, Stack};

/// A checkout of Aiven's sink.
const AIVEN: &str = "TRIBUTARY_BENCH_AIVEN";

/// A sink that is measured beside ours.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) load: Load,
    what: What,
}

#[derive(Debug)]
enum What {
    Jdbc,
    /// Where its plugin is.
    OpenSearch(PathBuf),
}

/// All that can be had.
///
/// # Errors
/// What is to be built does not build.
pub(super) fn rivals(stack: &Stack, rows: u64) -> Result<Vec<Rival>> {
    let mut rivals = vec![Rival {
        load: Load::new(WAREHOUSE, "debezium jdbc", rows),
        what: What::Jdbc,
    }];
    match std::env::var_os(AIVEN).filter(|_| stack.engine() == Engine::OpenSearch) {
        Some(checkout) => {
            progress("building Aiven's sink");
            let folder = stack.dir().join("opensearch-sink");
            let plugins = open_search::build(checkout.as_ref(), &folder)?;
            rivals.push(Rival {
                load: Load::new(SEARCH, "aiven", rows),
                what: What::OpenSearch(plugins),
            });
        }
        None => progress(&format!(
            "Aiven's sink for OpenSearch is left out: it is built from a checkout, which {AIVEN} names"
        )),
    }
    Ok(rivals)
}

impl Rival {
    /// One run, with a group and a target of its own.
    ///
    /// # Errors
    /// It fails, or its target does not hold all rows.
    pub(super) async fn run(
        &mut self,
        stack: &Stack,
        pipeline: &Pipeline,
        round: u32,
    ) -> Result<()> {
        let load = &mut self.load;
        match &self.what {
            What::Jdbc => jdbc::run(stack, pipeline, load, round).await,
            What::OpenSearch(plugins) => {
                open_search::run(stack, pipeline, load, plugins, round).await
            }
        }
    }
}
