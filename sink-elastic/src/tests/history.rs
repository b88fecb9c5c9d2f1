//! A stream of writes from a seed, what an index holds behind them, and a lane that goes through a fault meanwhile. The rows that are
//! expected come from nothing of the product.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::{Change, Known, Lane as _, Swept, WriteError};
use tributary_runtime::{Error, Policy};
use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{Fixture, delete, lane, mark, record_type, text_key, upsert};
use super::wire::{Dice, Wire};
use crate::ElasticLane;
use crate::config::ElasticConfig;
use crate::lane::Elastic;

const KEYS: u64 = 200;
const BATCH: usize = 40;
/// How many rows stay that were written before a fault; what is older is swept while it lasts.
const STAY: u64 = 150;
const DEADLINE: Duration = Duration::from_secs(120);

/// A row's change; without a text its end.
#[derive(Debug, Clone)]
pub(super) struct Step {
    id: String,
    seq: u64,
    text: Option<String>,
}

/// What is written to one index, and the rows that are to be there.
struct History {
    dice: Dice,
    seq: u64,
    /// How long a text may be.
    longest: u64,
    rows: BTreeMap<String, (u64, String)>,
}

impl History {
    /// Batches of changes, of which some come twice.
    fn batches(&mut self, count: usize) -> Vec<Vec<Step>> {
        let mut batches: Vec<Vec<Step>> = Vec::new();
        for number in 0..count {
            batches.push((0..BATCH).map(|_| self.step()).collect());
            if number % 3 == 2 {
                batches.push(batches[number / 2].clone());
            }
        }
        batches
    }

    fn step(&mut self) -> Step {
        self.seq += 1;
        let id = format!("key {}", self.dice.roll() % KEYS);
        let length = self.dice.roll() % self.longest;
        let is_delete = self.dice.roll().is_multiple_of(4);
        let text = (!is_delete).then(|| format!("{} {}", self.seq, "x".repeat(length as usize)));
        match &text {
            Some(text) => self.rows.insert(id.clone(), (self.seq, text.clone())),
            None => self.rows.remove(&id),
        };
        let seq = self.seq;
        Step { id, seq, text }
    }
}

/// A topic with its lane and its history.
struct Table {
    lane: ElasticLane,
    topic: String,
    history: History,
}

/// A table whose engine fails, and another one, which has the same target and is not to notice.
pub(super) struct Scene {
    pub(super) fixture: Fixture,
    pub(super) wire: Wire,
    table: Table,
    other: Table,
    types: (RecordType, RecordType),
}

/// When a fault ends: once the lane was told of it and has tried to sweep, or once all is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    Told,
    Written,
}

/// What a lane was told while it waited.
#[derive(Default)]
pub(super) struct Told(Mutex<Vec<String>>);

impl Told {
    /// Every error but of this policy ends a service.
    fn note(&self, error: &Error) {
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        self.0.lock().unwrap().push(error.to_string());
    }

    pub(super) fn has(&self, parts: &[&str]) -> bool {
        let told = self.0.lock().unwrap();
        told.iter()
            .any(|text| parts.iter().all(|part| text.contains(part)))
    }
}

impl Scene {
    /// Behind a wire; `text` is how long texts may be.
    pub(super) async fn set(text: u64, configure: impl FnOnce(&mut ElasticConfig)) -> Self {
        let mut fixture = Fixture::new();
        let wire = Wire::start(&fixture.url).await;
        fixture.config.url = vec![wire.url.clone()];
        configure(&mut fixture.config);
        let patience = Duration::from_millis(200);
        fixture.elastic = Elastic::with_patience(fixture.config.clone(), patience).unwrap();
        let table = async |topic: String, seed: u64| {
            let lane = lane(&fixture.elastic, &topic).await;
            // Deadlines are short in some of these tests.
            while let Err(error) = lane.begin(&mark("first")).await {
                assert_eq!(error.policy(), Policy::Retry, "{error}");
            }
            let history = History {
                dice: Dice(seed),
                seq: 0,
                longest: text,
                rows: BTreeMap::new(),
            };
            Table {
                lane,
                topic,
                history,
            }
        };
        Self {
            table: table(fixture.topic.clone(), 10).await,
            other: table(format!("{}x", fixture.topic), 11).await,
            wire,
            fixture,
            types: (
                text_key(),
                record_type(&[("id", FieldType::String), ("text", FieldType::String)]),
            ),
        }
    }

    /// Whether a request is about the table whose engine fails.
    pub(super) fn concerns(&self) -> impl Fn(&str) -> bool + Clone + Send + Sync + 'static {
        let path = format!("/{}", self.table.topic);
        move |asked: &str| {
            let rest = asked.strip_prefix(&path);
            rest.is_some_and(|rest| !rest.starts_with('x'))
        }
    }

    fn changes<'a>(&'a self, steps: &'a [Step]) -> impl Iterator<Item = Change<'a>> + Send + 'a {
        let (key, row) = &self.types;
        steps.iter().map(move |step| {
            let (offset, id) = (step.seq as i64, Datum::Str(&step.id));
            match &step.text {
                Some(text) => {
                    let values = [id.clone(), Datum::Str(text)];
                    upsert(offset, step.seq, (key, id), (row, &values))
                }
                None => delete(offset, step.seq, (key, id)),
            }
        })
    }

    async fn write(&self, table: &Table, batches: &[Vec<Step>], told: &Told) {
        for batch in batches {
            while let Err(error) = table.lane.put(self.changes(batch)).await {
                match error {
                    WriteError::Target(error) => told.note(&error),
                    error => panic!("{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// The next change of a row that no other change concerns.
    pub(super) fn row(&mut self, id: &str, text: String) -> Step {
        self.table.history.seq += 1;
        Step {
            id: id.to_owned(),
            seq: self.table.history.seq,
            text: Some(text),
        }
    }

    /// Tries to write rows together, once.
    pub(super) async fn try_rows(&mut self, rows: &[Step]) -> Result<(), WriteError> {
        self.table.lane.put(self.changes(rows)).await?;
        for row in rows {
            let written = (row.seq, row.text.clone().unwrap_or_default());
            self.table.history.rows.insert(row.id.clone(), written);
        }
        Ok(())
    }

    /// Writes and sweeps while a fault is on, until it ends; then every document of both tables is compared. `words`: what the
    /// lane is to be told of it, in one error.
    pub(super) async fn through(
        &mut self,
        (name, words, ends): (&str, &[&str], Ends),
        on: impl AsyncFnOnce(&Self),
        off: impl AsyncFnOnce(&Self),
    ) {
        let below = self.table.history.seq.saturating_sub(STAY) + 1;
        let batches = self.table.history.batches(5);
        self.table.history.rows.retain(|_, (seq, _)| *seq >= below);
        let elsewhere = self.other.history.batches(2);
        let (told, of_other) = (Told::default(), Told::default());
        let (is_written, is_swept) = (AtomicBool::new(false), AtomicBool::new(false));
        on(self).await;
        let writing = async {
            self.write(&self.table, &batches, &told).await;
            is_written.store(true, Ordering::Relaxed);
        };
        let sweeping = async {
            while let Err(error) = self.table.lane.sweep_all(below).await {
                told.note(&error);
                is_swept.store(true, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            is_swept.store(true, Ordering::Relaxed);
        };
        let ending = async {
            let begun = Instant::now();
            let goes_on = || match ends {
                Ends::Told => !told.has(words) || !is_swept.load(Ordering::Relaxed),
                Ends::Written => !is_written.load(Ordering::Relaxed),
            };
            while goes_on() {
                let told = told.0.lock().unwrap().last().cloned();
                assert!(begun.elapsed() < DEADLINE, "{name}: {told:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The fault lasts until this is written.
            let others = self.write(&self.other, &elsewhere, &of_other);
            let written = tokio::time::timeout(DEADLINE, others).await;
            assert!(written.is_ok(), "{name}: the other lane waits too");
            self.begins_again(name).await;
            off(self).await;
        };
        tokio::join!(writing, sweeping, ending);
        let all = told.0.into_inner().unwrap();
        assert!(
            words.is_empty() || Told(Mutex::new(all.clone())).has(words),
            "{name}: nobody says {words:?}: {all:?}"
        );
        for table in [&self.table, &self.other] {
            self.compare(name, table).await;
        }
    }

    /// Sweeps a piece.
    pub(super) async fn sweep(&self, below: u64) -> Result<Swept, Error> {
        self.table.lane.sweep(below).await
    }

    /// What a service that is started now finds: never that there is no index, and nothing that ends it.
    async fn begins_again(&self, name: &str) {
        let lane = lane(&self.fixture.elastic, &self.table.topic).await;
        match lane.known().await {
            Ok(known) => assert!(matches!(known, Known::Marked(_)), "{name}: {known:?}"),
            Err(error) => assert_eq!(error.policy(), Policy::Retry, "{name}: {error}"),
        }
    }

    async fn compare(&self, name: &str, table: &Table) {
        let refresh = format!("/{}/_refresh", table.topic);
        let (status, answer) = self.fixture.call(Method::POST, &refresh, None).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let path = format!("/{}/_search?size=1000&version=true", table.topic);
        let (status, answer) = self.fixture.call(Method::GET, &path, None).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let hits = answer["hits"]["hits"].as_array().unwrap();
        let found = hits.iter().map(|hit| {
            let id = hit["_id"].as_str().unwrap().to_owned();
            (id, (hit["_version"].clone(), hit["_source"].clone()))
        });
        let found: BTreeMap<String, (Value, Value)> = found.collect();
        assert_eq!(found.len(), hits.len(), "{name}");
        let expected = table.history.rows.iter().map(|(id, (seq, text))| {
            let source = json!({"id": id, "text": text, "_tributary_seq": seq});
            (id.clone(), (json!(seq), source))
        });
        let expected: BTreeMap<String, (Value, Value)> = expected.collect();
        for id in expected.keys().chain(found.keys()) {
            let (expected, found) = (expected.get(id), found.get(id));
            assert!(expected == found, "{name}: {id}: {expected:?} {found:?}");
        }
    }
}
