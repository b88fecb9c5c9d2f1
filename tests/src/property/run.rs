//! Runs a plan against real servers.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::chaos::torment;
use super::clearing::clear;
use super::column::identifier;
use super::judge::{Evidence, judge};
use super::plan::{Phase, Plan};
use super::table::GENERATED;
use super::transacting::commit;
use super::value::PRELUDE;
use crate::marks::Marks;
use crate::oracle::{
    ChangeLog, Event, Lineage, Offsets, TableRows, TopicReader, TopicRecord, topic_name,
};
use crate::pipeline::Pipeline;
use crate::service::{Kind, Service};
use crate::shop;
use crate::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);

/// How much is generated.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Of the first world; the next one has the next.
    pub seed: u64,
    /// After this no further world begins. There is always one.
    pub time: Duration,
}

impl Budget {
    /// `TRIBUTARY_PROPERTY_SEED` and `TRIBUTARY_PROPERTY_SECONDS`, or these; without a seed any.
    ///
    /// # Errors
    /// One of them is not a number.
    pub fn from_env(seed: Option<u64>, seconds: u64) -> Result<Self> {
        let number = |name: &str| match std::env::var(name) {
            Ok(text) => Ok(Some(
                text.parse()
                    .with_context(|| format!("{name} is not a number"))?,
            )),
            Err(_) => Ok::<Option<u64>, anyhow::Error>(None),
        };
        Ok(Self {
            seed: number("TRIBUTARY_PROPERTY_SEED")?
                .or(seed)
                .unwrap_or_else(|| u64::from(rand::random::<u32>())),
            time: Duration::from_secs(number("TRIBUTARY_PROPERTY_SECONDS")?.unwrap_or(seconds)),
        })
    }
}

/// What a world has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Per table all that there is to judge, which was found right.
    pub evidence: Vec<Evidence>,
    /// Committed transactions.
    pub transactions: usize,
    /// How often the source was killed, stopped or cut off.
    pub hits: usize,
}

/// A database, its source, and what was read from its topics.
#[derive(Debug)]
pub struct World {
    seed: u64,
    pipeline: Pipeline,
    plan: Plan,
    client: Client,
    source: Option<Service>,
    reader: TopicReader,
    kafka: String,
    topics: BTreeMap<String, Topic>,
    offsets: Offsets,
    marks: Marks,
    transactions: usize,
    hits: usize,
}

#[derive(Debug, Default)]
struct Topic {
    records: Vec<TopicRecord>,
    before_events: usize,
}

/// Runs the world of a seed to its end, and judges it at every quiet point. `name` tells worlds of one seed apart.
///
/// # Errors
/// Something is wrong, with the source or with the world: the message says what, and where the plan is.
pub async fn run_world(stack: &Stack, name: &str, seed: u64) -> Result<Outcome> {
    let mut world = World::create(stack, name, seed).await?;
    let plan = world.pipeline.dir().join("plan.txt");
    fs::write(&plan, format!("{:#?}", world.plan))?;
    match world.run().await {
        Ok(evidence) => {
            let outcome = Outcome {
                evidence,
                transactions: world.transactions,
                hits: world.hits,
            };
            world.remove().await?;
            Ok(outcome)
        }
        Err(error) => {
            let log = world
                .source
                .as_ref()
                .map(Service::log_tail)
                .unwrap_or_default();
            Err(error.context(format!(
                "the world of seed {seed} (its plan is in {}; the source's log ends:\n{log}\n)",
                plan.display()
            )))
        }
    }
}

impl World {
    async fn create(stack: &Stack, name: &str, seed: u64) -> Result<Self> {
        let mut pipeline = Pipeline::new(stack, &format!("{name}_{seed}")).await?;
        let plan = Plan::of(seed);
        pipeline.tables = vec![format!("{}.*", plan.schema), Marks::TABLE.to_owned()];
        let mut client = pipeline.source().await?;
        let schema = identifier(&plan.schema);
        client
            .batch_execute(&format!(
                "CREATE SCHEMA {schema}; {};{}",
                Marks::SQL,
                PRELUDE.replace("{}", &schema)
            ))
            .await?;
        for table in &plan.tables {
            let sql = table.create();
            client.batch_execute(&sql).await.with_context(|| sql)?;
        }
        commit(&mut client, &pipeline.source_url, &plan.fill).await?;
        let config = format!(
            "{}[snapshot]\nchunk_pages = {}\n",
            pipeline.source_config(),
            plan.chunk_pages
        );
        let source = pipeline.service(Kind::Source, "source", &config)?;
        Ok(Self {
            seed,
            client,
            source: Some(source),
            reader: TopicReader::new(stack.kafka(), stack.registry_url()),
            kafka: stack.kafka().to_owned(),
            topics: BTreeMap::new(),
            offsets: Offsets::new(),
            marks: Marks::default(),
            transactions: 0,
            hits: 0,
            pipeline,
            plan,
        })
    }

    async fn run(&mut self) -> Result<Vec<Evidence>> {
        self.source()?.start()?;
        if let Some(phase) = self.plan.beside_snapshot.take() {
            self.work(&phase)
                .await
                .context("beside the first snapshot")?;
        }
        self.source()?.wait_ready(PATIENCE)?;
        let nothing = BTreeMap::new();
        self.judge_now(&nothing)
            .await
            .context("after the first snapshot")?;
        for topic in self.topics.values_mut() {
            topic.before_events = topic.records.len();
        }
        let slot = format!("oracle_{}", self.pipeline.prefix());
        let changes = ChangeLog::create(
            &self.client,
            &self.pipeline.source_url,
            &slot,
            self.pipeline.dir(),
        )
        .await?;
        let phases = std::mem::take(&mut self.plan.phases);
        let mut lineages = &nothing;
        for (number, phase) in phases.iter().enumerate() {
            self.work(phase)
                .await
                .with_context(|| format!("phase {number}"))?;
            lineages = &phase.lineages;
            self.judge_now(lineages)
                .await
                .with_context(|| format!("after phase {number}"))?;
        }
        let events = changes.read_keyed(&self.client, &self.plan.keys).await?;
        let mut evidence = self.evidence(lineages).await?;
        for one in &mut evidence {
            one.events = Some(events_of(&events, one));
            accuse(one)?;
        }
        Ok(evidence)
    }

    fn source(&mut self) -> Result<&mut Service> {
        self.source
            .as_mut()
            .context("the source was lost on the way")
    }

    /// All connections work at the same time, and the source has a hard time if the phase says so.
    async fn work(&mut self, phase: &Phase) -> Result<()> {
        let over = Arc::new(AtomicBool::new(!phase.chaos));
        let source = self.source.take().context("no source")?;
        let chaos = tokio::spawn(torment(
            source,
            self.pipeline.source().await?,
            self.seed,
            Arc::clone(&over),
        ));
        let mut workers = Vec::new();
        for transactions in &phase.workers {
            let (url, transactions) = (self.pipeline.source_url.clone(), transactions.clone());
            workers.push(tokio::spawn(async move {
                let mut client = shop::connect(&url).await?;
                let mut committed = 0;
                for transaction in &transactions {
                    committed += usize::from(commit(&mut client, &url, transaction).await?);
                }
                Ok::<_, anyhow::Error>(committed)
            }));
        }
        let mut outcome = Ok(());
        for worker in workers {
            match worker.await? {
                Ok(committed) => self.transactions += committed,
                Err(error) => outcome = Err(error),
            }
        }
        over.store(true, Ordering::Relaxed);
        let (source, hits) = chaos.await??;
        self.source = Some(source);
        self.hits += hits;
        outcome
    }

    /// Waits until the source has published all that is committed, and judges each table.
    async fn judge_now(&mut self, lineages: &BTreeMap<String, Lineage>) -> Result<()> {
        let source = self
            .source
            .as_mut()
            .context("the source was lost on the way")?;
        self.marks
            .quiet(
                &self.pipeline,
                &self.client,
                &mut self.reader,
                source,
                PATIENCE,
            )
            .await?;
        for evidence in self.evidence(lineages).await? {
            accuse(&evidence)?;
        }
        Ok(())
    }

    async fn evidence(&mut self, lineages: &BTreeMap<String, Lineage>) -> Result<Vec<Evidence>> {
        let prefix = self.pipeline.prefix();
        let tables = self.plan.tables.iter();
        let names: Vec<_> = tables
            .map(|table| topic_name(prefix, &table.schema, &table.name))
            .collect();
        let topics: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut read = self.reader.read_on(&topics, &mut self.offsets).await?;
        let mut evidence = Vec::new();
        for (table, name) in self.plan.tables.iter().zip(&names) {
            let topic = self.topics.entry(name.clone()).or_default();
            topic.records.extend(read.remove(name).unwrap_or_default());
            evidence.push(Evidence {
                table: table.plain(),
                key: if table.keyed { table.key() } else { Vec::new() },
                partitioned: table.partitioned,
                records: topic.records.clone(),
                before_events: topic.before_events,
                rows: TableRows::read(&self.client, &table.quoted()).await?,
                lineage: lineages.get(&table.plain()).cloned().unwrap_or_default(),
                events: None,
            });
        }
        Ok(evidence)
    }

    /// Leaves nothing behind in the servers: hundreds of worlds share them.
    async fn remove(mut self) -> Result<()> {
        let source = self.source.take().context("no source")?;
        let topics = self.topics.into_keys();
        clear(source, &self.client, &self.pipeline, &self.kafka, topics).await
    }
}

/// Fails with what is wrong about a table.
fn accuse(evidence: &Evidence) -> Result<()> {
    let found = judge(evidence);
    ensure!(found.is_empty(), "table {}: {found:#?}", evidence.table);
    Ok(())
}

/// The changes of a table, or of its leaves.
fn events_of(events: &[Event], evidence: &Evidence) -> Vec<Event> {
    let leaf = format!("{} leaf ", evidence.table);
    let own = |event: &&Event| {
        event.table == evidence.table || evidence.partitioned && event.table.starts_with(&leaf)
    };
    let mut events: Vec<Event> = events.iter().filter(own).cloned().collect();
    for event in &mut events {
        // wal2json tells it, pgoutput before PG18 does not.
        event.row.remove(GENERATED);
    }
    events
}
