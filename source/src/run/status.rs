//! What a running source says of itself: kept by those who do the work, read by `/status`, the log, the metrics
//! and the terminal.

mod estimate;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tributary_runtime::telemetry::{Bar, Bars};

use crate::log::outbox::Outbox;
use crate::log::progress::{Position, Progress};
use crate::telemetry;
pub(crate) use estimate::Extent;
use estimate::Pace;
pub(crate) use text::details_text;
use tributary_postgres::catalog::{KEY_REMEDY, without_key};
use tributary_postgres::slot::Slot;

/// How often the log says how far the snapshots are.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The state of a source, for those who watch it. One per process, over all sessions.
pub(crate) struct Monitor {
    source: String,
    slot_name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    position: Option<Position>,
    signals_offset: Option<i64>,
    slot: Option<SlotView>,
    /// When something got into the log, and how old it was, in seconds.
    commit_age: Option<(Instant, f64)>,
    /// By topic.
    tables: BTreeMap<String, TableState>,
    paused: bool,
    pace: Pace,
    logged: Option<Instant>,
    bars: Bars,
}

/// The slot as it was polled last.
struct SlotView {
    state: Slot,
    lag_seconds: f64,
}

/// A table's figures. What is counted is counted since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct TableState {
    table: String,
    rows_snapshotted: u64,
    changes: u64,
    /// Of `rows_snapshotted`, those that the stream's next records may be.
    #[serde(skip)]
    rows_handed_over: u64,
    /// Commit time of the newest change: milliseconds since 1970.
    last_change_ms: Option<i64>,
    /// While its rows are on their way into the log.
    snapshot: Option<TableReading>,
    /// Its updates and deletes are not published.
    without_key: bool,
}

/// A table of which not all rows are in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct TableReading {
    #[serde(flatten)]
    extent: Extent,
    sweep: bool,
    filtered: bool,
}

impl Monitor {
    pub(crate) fn new(source: &str, slot_name: &str) -> Self {
        Self {
            source: source.to_owned(),
            slot_name: slot_name.to_owned(),
            state: Mutex::default(),
        }
    }

    /// A transaction is in the log.
    pub(crate) fn committed(&self, position: Position, signals_offset: Option<i64>) {
        let mut state = self.lock();
        state.position = Some(position);
        state.signals_offset = signals_offset;
    }

    /// The newest change of a transaction was so old when it got into the log, in seconds.
    pub(crate) fn commit_age(&self, seconds: f64) {
        metrics::gauge!(telemetry::LAG_SECONDS).set(seconds);
        self.lock().commit_age = Some((Instant::now(), seconds));
    }

    /// The lag: since when the server waits for us, or how old the changes are that got into the log within the
    /// time given, whatever is longer.
    pub(crate) fn lag_seconds(&self, waited: f64, within: Duration) -> f64 {
        match self.lock().commit_age {
            Some((at, age)) if at.elapsed() <= within => waited.max(age),
            _ => waited,
        }
    }

    /// Rows of a snapshot are on their way into the log.
    pub(crate) fn rows_read(&self, topic: &str, table: &str, rows: u64) {
        metrics::counter!(telemetry::SNAPSHOT_ROWS, "table" => table.to_owned()).increment(rows);
        let mut state = self.lock();
        let counted = state.table(topic);
        counted.rows_snapshotted += rows;
        counted.rows_handed_over += rows;
        if counted.table.is_empty() {
            table.clone_into(&mut counted.table);
        }
    }

    /// Records are on their way into the log. Rows of snapshots among them were told by
    /// [`rows_read`](Self::rows_read) before; the others are changes, the newest committed at `commit_us`
    /// (microseconds since 1970).
    pub(crate) fn handed_over(&self, outbox: &Outbox, commit_us: i64) {
        let mut by_topic: Vec<(&Arc<str>, u64)> = Vec::new();
        for record in outbox.records.iter().filter(|one| one.value.is_some()) {
            // The topic before is the likeliest.
            let mut known = by_topic.iter_mut().rev();
            match known.find(|(topic, _)| Arc::ptr_eq(topic, &record.topic)) {
                Some((_, records)) => *records += 1,
                None => by_topic.push((&record.topic, 1)),
            }
        }
        let mut state = self.lock();
        for (topic, records) in by_topic {
            let counted = state.table(topic);
            let rows = counted.rows_handed_over.min(records);
            counted.rows_handed_over -= rows;
            if records > rows {
                counted.changes += records - rows;
                counted.last_change_ms = Some(commit_us / 1000);
            }
        }
    }

    /// What the progress record says: which tables are not read yet, and how far they are. Called every second
    /// or so while rows are read.
    pub(crate) fn observe(&self, progress: &Progress) {
        let mut state = self.lock();
        if progress.has_begun() {
            state.position.get_or_insert(progress.position);
        }
        state.paused = progress.snapshots_paused;
        for (topic, table) in progress.tables.iter() {
            let counted = state.table(topic);
            table.table.clone_into(&mut counted.table);
            counted.without_key = table.is_keyless();
            counted.snapshot = table.snapshot.as_ref().map(|snapshot| {
                let (pages, pages_left) = snapshot.pages();
                TableReading {
                    extent: Extent::new(snapshot.rows, pages, pages_left),
                    sweep: snapshot.below.is_some(),
                    filtered: snapshot.filter.is_some(),
                }
            });
        }
        state
            .tables
            .retain(|topic, table| table.snapshot.is_none() || progress.tables.contains_key(topic));
        state.tell();
    }

    /// The slot was looked at.
    pub(crate) fn slot_polled(&self, state: Slot, lag_seconds: f64) {
        self.lock().slot = Some(SlotView { state, lag_seconds });
    }

    /// There is no slot, or nobody can say.
    pub(crate) fn slot_unknown(&self) {
        self.lock().slot = None;
    }

    /// What somebody should know as long as the tables are as they are.
    pub(crate) fn notes(&self) -> Vec<String> {
        let state = self.lock();
        let tables = state.tables.values().filter(|table| table.without_key);
        let notes =
            tables.map(|table| format!("{}; to do: {KEY_REMEDY}", without_key(&table.table)));
        notes.collect()
    }

    /// The source's part of `/status`.
    pub(crate) fn details(&self) -> Value {
        let state = self.lock();
        let position = state.position.map(|position| {
            json!({
                "lsn": position.commit_lsn().to_string(),
                "ordinal": position.ordinal(),
                "confirmed_lsn": position.confirm().to_string(),
                "seq": position.seq(),
            })
        });
        let slot = state.slot.as_ref().map(|SlotView { state, lag_seconds }| {
            json!({
                "active": state.active,
                "wal_status": state.wal_status,
                "lag_bytes": state.lag_bytes(),
                "lag_seconds": lag_seconds,
                "retained_bytes": state.retained_bytes(),
                "safe_wal_bytes": state.safe_wal_bytes,
            })
        });
        let mut tables: Vec<&TableState> = state.tables.values().collect();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        json!({
            "source": self.source,
            "slot_name": self.slot_name,
            "slot": slot,
            "position": position,
            "signals_offset": state.signals_offset,
            "snapshot": state.snapshot(),
            "tables": tables,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn table(&mut self, topic: &str) -> &mut TableState {
        self.tables.entry(topic.to_owned()).or_default()
    }

    /// All that is being read, together; `None` when everything is.
    fn snapshot(&self) -> Option<Value> {
        let (extent, tables_left) = self.extent()?;
        Some(json!({
            "paused": self.paused,
            "tables_left": tables_left,
            "rows": extent.rows,
            "bytes": extent.bytes,
            "bytes_left": extent.bytes_left,
            "percent": extent.percent,
            "seconds_left": self.pace.seconds_left(extent.bytes_left),
        }))
    }

    fn extent(&self) -> Option<(Extent, usize)> {
        let unread = || self.tables.values().filter_map(|t| t.snapshot.as_ref());
        let tables_left = unread().count();
        (tables_left > 0).then(|| (unread().map(|one| one.extent).sum(), tables_left))
    }

    /// Tells the metrics, the terminal and, now and then, the log.
    fn tell(&mut self) {
        let (extent, tables_left) = self.extent().unwrap_or_default();
        let now = Instant::now();
        if tables_left == 0 || self.paused {
            self.pace = Pace::default();
        } else {
            self.pace.observe(extent.bytes_left, now);
        }
        let seconds_left = self.pace.seconds_left(extent.bytes_left);
        let bytes = (extent.bytes, extent.bytes_left);
        telemetry::snapshot(bytes, tables_left, seconds_left);
        let paused = if self.paused { ", paused" } else { "" };
        let unread = self.tables.values();
        self.bars.show(unread.filter_map(|table| {
            let extent = table.snapshot.as_ref()?.extent;
            Some(Bar {
                name: &table.table,
                done: extent.bytes,
                all: extent.bytes + extent.bytes_left,
                note: format!("{} rows{paused}", extent.rows),
            })
        }));
        if tables_left == 0 {
            self.logged = None;
            return;
        }
        if self
            .logged
            .is_some_and(|logged| now.duration_since(logged) < LOG_INTERVAL)
        {
            return;
        }
        self.logged = Some(now);
        tracing::info!(
            tables_left,
            rows = extent.rows,
            bytes = extent.bytes,
            bytes_left = extent.bytes_left,
            percent = extent.percent,
            seconds_left,
            paused = self.paused,
            "snapshot"
        );
    }
}

#[cfg(test)]
mod tests;
