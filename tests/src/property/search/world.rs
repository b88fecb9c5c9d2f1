//! Runs a history against real servers.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};
use tokio_postgres::Client;

use super::group::Group;
use super::history::{Episode, History, Incident, REFUSED};
use super::reindexing::Reindex;
use super::standing::{delete_all, leftovers};
use crate::http;
use crate::marks::Marks;
use crate::oracle::{
    Fold, Lineage, Offsets, TableRows, TopicReader, TopicRecord, compare_documents,
};
use crate::pipeline::Pipeline;
use crate::property::clearing::clear;
use crate::property::table::Table;
use crate::property::transacting::commit;
use crate::property::workload::Transaction;
use crate::service::{Kind, Service};
use crate::shop;
use crate::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);
/// As the source's configuration has it.
const PARTITIONS: i32 = 3;
const POLL: Duration = Duration::from_millis(50);

/// A database, its source, a search sink, and what was read from the topics.
#[derive(Debug)]
pub struct SearchWorld {
    pipeline: Pipeline,
    history: History,
    client: Client,
    source: Service,
    sink: Service,
    second: Service,
    group: Group,
    engine: String,
    reader: TopicReader,
    offsets: Offsets,
    marks: Marks,
    records: BTreeMap<String, Vec<TopicRecord>>,
    signals: u64,
    outcome: SearchOutcome,
}

/// What a world has been through.
#[derive(Debug, Default, Clone)]
pub struct SearchOutcome {
    /// Committed transactions.
    pub transactions: usize,
    /// How often the index was compared with the log and the tables.
    pub comparisons: usize,
    /// Records in the log at the end.
    pub records: usize,
    /// What happened how often.
    pub events: BTreeMap<&'static str, usize>,
}

impl SearchWorld {
    /// Makes the tables of a seed; nothing runs yet. `name` tells worlds of one seed apart. A short one takes seconds.
    ///
    /// # Errors
    /// The servers refuse.
    pub async fn create(stack: &Stack, name: &str, seed: u64, is_short: bool) -> Result<Self> {
        let mut pipeline = Pipeline::new(stack, &format!("{name}_{seed}")).await?;
        let history = History::of(seed, is_short);
        pipeline.tables = vec!["s.*".to_owned(), Marks::TABLE.to_owned()];
        let client = pipeline.source().await?;
        let tables = history.tables.iter().map(Table::create);
        let sql: Vec<String> = tables.collect();
        let sql = format!("CREATE SCHEMA s; {}; {}", Marks::SQL, sql.join("; "));
        client.batch_execute(&sql).await?;
        let config = format!("{}[snapshot]\nchunk_pages = 8\n", pipeline.source_config());
        let source = pipeline.service(Kind::Source, "source", &config)?;
        // Small batches: whatever happens, happens in the middle of something.
        let config = pipeline.sink_config(Kind::SinkElastic);
        let mut config = format!("{config}[batch]\nrows = 100\n");
        if history.refuses {
            let topic = pipeline.topic(&history.tables[0].plain());
            config = format!(
                "on_error = \"dead-letter\"\n{config}[[elasticsearch.documents]]\ntopics = [{topic:?}]\n[elasticsearch.documents.fields]\n{} = {{ type = \"byte\" }}\n",
                REFUSED.0
            );
        }
        let sink = pipeline.service(Kind::SinkElastic, "sink", &config)?;
        let second = pipeline.service(Kind::SinkElastic, "second", &config)?;
        let plan = pipeline.dir().join("history.txt");
        fs::write(&plan, format!("{history:#?}"))?;
        Ok(Self {
            group: Group {
                name: pipeline.group(Kind::SinkElastic),
                kafka: stack.kafka().to_owned(),
            },
            engine: stack.search_url().to_owned(),
            reader: TopicReader::new(stack.kafka(), stack.registry_url()),
            offsets: Offsets::new(),
            marks: Marks::default(),
            records: BTreeMap::new(),
            signals: 0,
            outcome: SearchOutcome::default(),
            pipeline,
            history,
            client,
            source,
            sink,
            second,
        })
    }

    /// Runs the history to its end, and compares at the end of each episode.
    ///
    /// # Errors
    /// Something is wrong, with the services or with the world: the message says what, and all that has happened.
    pub async fn run(&mut self) -> Result<SearchOutcome> {
        let episodes = std::mem::take(&mut self.history.episodes);
        let mut steps = Vec::new();
        for (number, episode) in episodes.iter().enumerate() {
            steps.push(format!("episode {number}: {:?}", episode.events));
        }
        let steps = steps.join("\n");
        match self.run_all(&episodes).await {
            Ok(()) => Ok(self.outcome.clone()),
            Err(error) => {
                let dir = self.pipeline.dir();
                let (source, sink) = (self.source.log_tail(), self.sink.log_tail());
                Err(error.context(format!(
                    "steps:\n{steps}\n(all changes are in {}/history.txt)\nthe source's log ends:\n{source}\nthe sink's log ends:\n{sink}\n",
                    dir.display()
                )))
            }
        }
    }

    async fn run_all(&mut self, episodes: &[Episode]) -> Result<()> {
        self.source.start()?;
        self.sink.start()?;
        let fill = self.history.fill.clone();
        let url = self.pipeline.source_url.clone();
        commit(&mut self.client, &url, &fill).await?;
        block_in_place(|| self.source.wait_ready(PATIENCE))?;
        for (number, episode) in episodes.iter().enumerate() {
            let done = self.episode(episode).await;
            done.with_context(|| format!("episode {number}"))?;
            let found = self.differences().await?;
            ensure!(found.is_empty(), "behind episode {number}: {found:#?}");
            self.outcome.comparisons += 1;
        }
        Ok(())
    }

    async fn episode(&mut self, episode: &Episode) -> Result<()> {
        let mut workers = Vec::new();
        for transactions in &episode.workers {
            let (url, transactions) = (self.pipeline.source_url.clone(), transactions.clone());
            workers.push(tokio::spawn(work(url, transactions)));
        }
        let mut reindexes = Vec::new();
        for (pause, event) in &episode.events {
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            *self.outcome.events.entry(event.name()).or_default() += 1;
            match self.meet(event).await {
                Ok(begun) => reindexes.extend(begun),
                Err(error) => return Err(error).with_context(|| format!("{event:?}")),
            }
        }
        for reindex in reindexes {
            reindex.await??;
        }
        for worker in workers {
            self.outcome.transactions += worker.await??;
        }
        Ok(())
    }

    /// Lets one thing happen; gives back what goes on.
    async fn meet(&mut self, event: &Incident) -> Result<Option<JoinHandle<Result<()>>>> {
        match event {
            Incident::KillSink => {
                block_in_place(|| self.sink.kill())?;
                self.sink.start()?;
            }
            Incident::RestartSink => {
                block_in_place(|| self.sink.stop(PATIENCE))?;
                self.sink.start()?;
            }
            Incident::KillSource => {
                block_in_place(|| self.source.kill())?;
                self.source.start()?;
            }
            Incident::Pause { table, ms } => self.pause(*table, *ms).await?,
            Incident::SetBack(parts) => {
                block_in_place(|| {
                    self.sink.stop(PATIENCE)?;
                    self.group.set_back(&self.topics(), PARTITIONS, parts)
                })?;
                self.sink.start()?;
            }
            Incident::ForgetGroup => {
                block_in_place(|| self.sink.stop(PATIENCE))?;
                self.group.delete().await?;
                self.sink.start()?;
            }
            Incident::Second { ms, is_killed } => {
                self.second.start()?;
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                if *is_killed {
                    block_in_place(|| self.second.kill())?;
                } else {
                    block_in_place(|| self.second.stop(PATIENCE))?;
                }
            }
            Incident::Snapshot { table, sweeps } => {
                let table = self.history.tables[*table].plain();
                let sweep: &[&str] = if *sweeps { &["--sweep"] } else { &[] };
                let words = [&["snapshot", "--table", table.as_str()], sweep].concat();
                asked(&self.source, &words)?;
                self.signals += 1;
            }
            Incident::Replay => {
                if self.history.refuses {
                    block_in_place(|| self.sink.wait_ready(PATIENCE))?;
                    self.replay()?;
                }
            }
            Incident::Reindex { table, fate } => {
                let reindex = Reindex {
                    binary: self.sink.binary()?,
                    config: self.sink.config_path().to_owned(),
                    topic: self.topic(&self.history.tables[*table]),
                };
                self.until_there(&reindex.topic).await?;
                let fate = fate.clone();
                let begun = async move { reindex.meets(&fate).await };
                return Ok(Some(tokio::spawn(begun)));
            }
        }
        Ok(None)
    }

    async fn pause(&mut self, table: Option<usize>, ms: u64) -> Result<()> {
        block_in_place(|| self.sink.wait_ready(PATIENCE))?;
        let topic = table.map(|table| self.topic(&self.history.tables[table]));
        let which: Vec<&str> = topic
            .iter()
            .flat_map(|topic| ["--topic", topic.as_str()])
            .collect();
        asked(&self.sink, &[&["pause"], &which[..]].concat())?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        asked(&self.sink, &[&["resume"], &which[..]].concat())
    }

    /// There is nothing to build again before the sink has made it.
    async fn until_there(&self, alias: &str) -> Result<()> {
        let url = format!("{}/_alias/{alias}", self.engine);
        let deadline = Instant::now() + PATIENCE;
        let client = http::client();
        while !client.get(&url).send().await?.status().is_success() {
            ensure!(Instant::now() < deadline, "no index {alias} is made");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn topic(&self, table: &Table) -> String {
        self.pipeline.topic(&table.plain())
    }

    fn topics(&self) -> Vec<String> {
        let tables = self.history.tables.iter();
        tables.map(|table| self.topic(table)).collect()
    }

    /// Waits until all that is committed is in the index, and says in what index, log and tables differ, and what is there
    /// beside.
    ///
    /// # Errors
    /// The services do not come so far, or a server does not answer.
    pub async fn differences(&mut self) -> Result<Vec<String>> {
        self.until_signals_are_read().await?;
        if self.history.refuses {
            self.mend().await?;
        }
        let Self {
            pipeline,
            client,
            reader,
            source,
            ..
        } = self;
        let marks = &mut self.marks;
        marks
            .quiet(pipeline, client, reader, source, PATIENCE)
            .await?;
        let topics = self.topics();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let read = self.reader.read_on(&names, &mut self.offsets).await?;
        for (topic, records) in read {
            self.records.entry(topic).or_default().extend(records);
        }
        self.outcome.records = self.records.values().map(Vec::len).sum();
        let waits =
            self.pipeline
                .wait_sink(&mut self.sink, &self.group.name, &self.records, PATIENCE);
        waits.await?;
        if self.history.refuses {
            self.until_replayed().await?;
        }
        self.compare().await
    }

    /// No row has a value any more that the index refuses.
    async fn mend(&self) -> Result<()> {
        let (column, taken) = REFUSED;
        let table = self.history.tables[0].quoted();
        let sql = format!("UPDATE {table} SET {column} = 1 WHERE {column} NOT {taken}");
        Ok(self.client.batch_execute(&sql).await?)
    }

    /// Has the letters written again; whether all partitions that have some are the sink's.
    fn replay(&self) -> Result<bool> {
        let words = ["dead-letters", "replay", "--yes", "--output", "json"];
        let (code, out, errors) = block_in_place(|| self.sink.command(&words))?;
        ensure!(
            matches!(code, 0 | 3),
            "{words:?} ends with {code}: {out}{errors}"
        );
        Ok(code == 0)
    }

    /// Has the letters written again, of which none must be left.
    async fn until_replayed(&self) -> Result<()> {
        // A killed instance keeps its partitions for a while.
        let deadline = Instant::now() + PATIENCE;
        while !self.replay()? {
            ensure!(Instant::now() < deadline, "not all letters are replayed");
            tokio::time::sleep(POLL).await;
        }
        let words = ["dead-letters", "list", "--output", "json"];
        let (_, out, errors) = block_in_place(|| self.sink.command(&words))?;
        let listed: Value = serde_json::from_str(&out).with_context(|| errors)?;
        ensure!(listed["letters"] == json!([]), "letters are left: {listed}");
        Ok(())
    }

    /// As it stands: the index with the fold, and the fold with the tables.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn compare(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for table in &self.history.tables {
            let topic = self.topic(table);
            let mut fold = Fold::default();
            fold.apply(self.records.get(&topic).context("nothing was read")?);
            let rows = TableRows::read(&self.client, &table.quoted()).await?;
            let in_log = fold.compare(&rows, &table.key(), &Lineage::default());
            found.extend(in_log.iter().map(|what| format!("log of {topic}: {what}")));
            found.extend(compare_documents(&fold, &table.key(), &self.engine, &topic).await?);
        }
        let mut aliases = self.topics();
        aliases.push(self.pipeline.topic(Marks::TABLE));
        let prefix = self.pipeline.prefix();
        found.extend(leftovers(&self.engine, prefix, &aliases, &self.group).await?);
        Ok(found)
    }

    async fn until_signals_are_read(&mut self) -> Result<()> {
        if self.signals == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let words = ["status", "--output", "json"];
            let (_, out, _) = block_in_place(|| self.source.command(&words))?;
            let status: Value = serde_json::from_str(&out).unwrap_or_default();
            if status["details"]["signals_offset"] == self.signals {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} signals are not read: {status}",
                self.signals
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Gives the table whose documents have a simple key some rows, whatever has become of it, and waits until nothing differs; its
    /// alias, for who plants something there.
    ///
    /// # Errors
    /// Something differs, or as [`SearchWorld::differences`].
    pub async fn with_rows(&mut self) -> Result<String> {
        let insert = "INSERT INTO s.plain (id, name) SELECT g, 'row ' || g FROM generate_series(9000, 9020) g";
        self.client.batch_execute(insert).await?;
        let found = self.differences().await?;
        ensure!(found.is_empty(), "{found:#?}");
        Ok(self.topic(&self.history.tables[0]))
    }

    /// Leaves nothing behind in the servers: dozens of worlds share them.
    ///
    /// # Errors
    /// A server refuses, or a service does not end.
    pub async fn remove(mut self) -> Result<()> {
        block_in_place(|| self.sink.stop(PATIENCE))?;
        delete_all(&self.engine, self.pipeline.prefix()).await?;
        let topics = self.topics().into_iter();
        let kafka = self.group.kafka.clone();
        clear(self.source, &self.client, &self.pipeline, &kafka, topics).await
    }
}

/// Does what a connection is to do; how many of its transactions were committed.
async fn work(url: String, transactions: Vec<(u64, Transaction)>) -> Result<usize> {
    let mut client = shop::connect(&url).await?;
    let mut committed = 0;
    for (pause, transaction) in &transactions {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        committed += usize::from(commit(&mut client, &url, transaction).await?);
    }
    Ok(committed)
}

/// Runs a command that must do what it is asked for.
fn asked(service: &Service, words: &[&str]) -> Result<()> {
    let (code, out, errors) = block_in_place(|| service.command(words))?;
    ensure!(code == 0, "{words:?} ends with {code}: {out}{errors}");
    Ok(())
}
