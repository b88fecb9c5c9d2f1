//! What the stream does about a table without a key: it waits, and then lets the rows in.

use super::Streaming;
use super::keyless::{Prepared, Preparing};
use crate::failpoint;
use crate::run::session::STATUS_INTERVAL;
use crate::snapshot::shape::{self, HeldRelation};
use std::time::Duration;
use tributary_postgres::ctid::TidRange;
use tributary_postgres::pgoutput::Message;
use tributary_postgres::rows::{Row, Rows};
use tributary_runtime::{Error, Policy, ResultExt};
use tributary_schemas::Lsn;

/// How long the stream waits for a slot, and for the rest of a preparation. A slot waits for all transactions that are
/// open, which may be long; where commits wait for our confirmation, they and the slot would wait for each other.
const MAX_HOLD: Duration = Duration::from_secs(5);

impl Streaming {
    /// Takes over how far the preparation is.
    pub(super) fn keyless_prepared(&mut self, preparing: Preparing) -> Result<(), Error> {
        match preparing {
            Preparing::Further | Preparing::Ready => {}
            Preparing::Gone => self.gone(),
            Preparing::Failed(error) if error.policy() == Policy::Retry => self.postpone(&error),
            Preparing::Failed(error) => {
                let table = self.chunks.keyless.as_ref().map(|it| it.table.clone());
                let table = table.unwrap_or_default();
                return Err(error.context(format!("prepare to read table {table}")));
            }
        }
        Ok(())
    }

    /// Whether the stream stands where a table without a key is to be read. Between two transactions.
    pub(super) fn keyless_is_due(&mut self) -> bool {
        let Some(keyless) = &self.chunks.keyless else {
            return false;
        };
        let Some(point) = keyless.consistent_point() else {
            return false;
        };
        if self.translator.begun() >= point {
            // Its snapshot lacks what is in the log already.
            self.postpone(&"the stream has passed the place of its snapshot");
            return false;
        }
        let is_there = self.translator.position().confirm() >= point
            || self
                .held
                .as_ref()
                .is_some_and(|held| held.begin.final_lsn >= point);
        keyless.prepared.is_some() && is_there
    }

    /// Lets the transaction in that is held, if nothing keeps it out any more. Returns whether it did.
    pub(super) fn let_in(&mut self) -> Result<bool, Error> {
        let Some(held) = &self.held else {
            return Ok(false);
        };
        let begin = held.begin;
        if self.chunks.keyless_before(&begin) {
            if held.since.elapsed() < MAX_HOLD {
                return Ok(false);
            }
            self.hold_no_longer();
        }
        self.held = None;
        self.translator.apply(&Message::Begin(begin), Lsn::ZERO)?;
        Ok(true)
    }

    /// A slot that is not there yet may still be in time. Behind its consistent point the stream cannot go with it.
    fn hold_no_longer(&mut self) {
        let Some(keyless) = &mut self.chunks.keyless else {
            return;
        };
        if keyless.consistent_point().is_some() {
            self.postpone(&"its snapshot is not ready in time");
            return;
        }
        keyless.released = true;
        tracing::warn!(
            table = keyless.table,
            "the slot to read the table under waits for transactions that are open: the stream goes on meanwhile"
        );
    }

    /// Puts all rows of the table into the log, while the stream stands still. Where its snapshot does not show them any
    /// more, what has entered the log is no harm: all of it is gone when the table is read again.
    pub(super) async fn read_keyless(&mut self) -> Result<(), Error> {
        let keyless = self.chunks.keyless.as_mut();
        let Some(prepared) = keyless.and_then(|it| it.prepared.take()) else {
            return Ok(());
        };
        if self.read_prepared(&prepared).await? {
            self.chunks.keyless = None;
        } else {
            self.postpone(&"it has changed, or is being changed, since its snapshot");
        }
        Ok(())
    }

    /// Returns whether the snapshot has shown all rows.
    async fn read_prepared(&mut self, prepared: &Prepared) -> Result<bool, Error> {
        let table = &prepared.table;
        let known = self.progress.get().tables.get(&*table.topic);
        let Some(mut state) = known.and_then(|known| known.snapshot.clone()) else {
            return Ok(true);
        };
        failpoint::pause(failpoint::KEYLESS_READING, String::new).await;
        let database = self.session.database.clone();
        let lsn = self.read_lsn();
        let below = self.translator.position().seq() + 1;
        let (mut count, mut is_first) = (0, true);
        for relation in &prepared.relations {
            let held = HeldRelation {
                oid: relation.ranges.oid,
                name: &relation.name,
            };
            let unchanged = shape::hold(&prepared.client, held).await;
            if !unchanged.map_err(|error| database.explain(error))? {
                return Ok(false);
            }
            if std::mem::take(&mut is_first) {
                self.translator.append_gone_below(table, below, lsn)?;
            }
            count += self.read_relation(prepared, &relation.name, lsn).await?;
            let given_back = shape::give_back(&prepared.client).await;
            given_back.map_err(|error| database.explain(error))?;
        }
        if is_first {
            self.translator.append_gone_below(table, below, lsn)?;
        }
        state.rows = count;
        state.below = None;
        state.relations = Some(Vec::new());
        self.rows_are_read(table, state, 0)?;
        Ok(true)
    }

    async fn read_relation(
        &mut self,
        prepared: &Prepared,
        relation: &str,
        lsn: Lsn,
    ) -> Result<u64, Error> {
        let table = &prepared.table;
        let (client, database) = (&prepared.client, self.session.database.clone());
        let what = (relation, TidRange::ALL);
        let mut rows = Rows::read(client, &database, &table.table, what, None).await?;
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        let (mut row, mut count) = (Row::default(), 0);
        loop {
            let line = tokio::select! {
                line = rows.next() => line.doing(|| format!("read table {}", table.display_name()))?,
                _ = tick.tick() => { self.report().await?; continue; }
            };
            let Some(line) = line else { break };
            let (_, cells) = row.parse(&line, &table.table)?;
            self.translator.append_read(table, None, &cells, lsn)?;
            count += 1;
            if self.translator.is_full(usize::MAX) {
                self.publish_rows().await?;
            }
        }
        let (topic, name) = (&table.topic, table.display_name());
        self.session.monitor.rows_read(topic, &name, count);
        Ok(count)
    }

    /// Hands over what is there and waits for room for more.
    pub(super) async fn publish_rows(&mut self) -> Result<(), Error> {
        self.hand_over().await?;
        while !self.translator.is_empty() {
            let committed = tokio::select! {
                committed = self.publisher.committed() => committed?,
                () = tokio::time::sleep(STATUS_INTERVAL) => { self.report().await?; continue; }
            };
            self.committed(committed);
            self.hand_over().await?;
        }
        Ok(())
    }
}
