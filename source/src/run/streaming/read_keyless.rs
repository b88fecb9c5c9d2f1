//! What the stream does about a table without a key: it waits, and then lets the rows in.

use super::Streaming;
use super::chunks::Ended;
use super::gate::{Due, Opening};
use super::keyless::{Behind, Prepared, Preparing};
use super::table_reader::TableReader;
use crate::failpoint;
use crate::run::session::STATUS_INTERVAL;
use crate::snapshot::shape::{self, HeldRelation};
use std::time::Instant;
use tributary_postgres::ctid::TidRange;
use tributary_postgres::pgoutput::Message;
use tributary_postgres::rows::{Row, Rows};
use tributary_runtime::{Error, Policy, ResultExt};
use tributary_schemas::Lsn;

impl Streaming {
    /// Takes over how far the preparation is.
    pub(super) fn keyless_prepared(
        &mut self,
        preparing: Preparing,
    ) -> Result<Option<Ended>, Error> {
        match preparing {
            Preparing::Further | Preparing::Ready => Ok(None),
            Preparing::Gone => Ok(self.gone()),
            Preparing::Failed(error) if error.cause().is::<Behind>() => {
                let known = &self.progress.get().tables;
                Ok(self
                    .chunks
                    .behind(known, &error.to_string(), Instant::now()))
            }
            Preparing::Failed(error) if error.policy() == Policy::Retry => {
                Ok(self.chunks.postpone(&error.to_string(), Instant::now()))
            }
            Preparing::Failed(error) => {
                let table = self.reader.keyless().map(|it| it.table.clone());
                let table = table.unwrap_or_default();
                Err(error.context(format!("prepare to read table {table}")))
            }
        }
    }

    /// Reads a table without a key, if the stream stands where that is due. Between two transactions.
    pub(super) async fn attend_keyless(&mut self) -> Result<(), Error> {
        let Some(keyless) = self.reader.keyless() else {
            return Ok(());
        };
        let state = (keyless.stage(), keyless.is_prepared());
        let passed = self.translator.position().confirm();
        keyless.passes(passed);
        match self.gate.due(state, (self.translator.begun(), passed)) {
            None => Ok(()),
            Some(Due::Passed) => {
                self.postpone("the stream has passed the place of its snapshot");
                Ok(())
            }
            Some(Due::Read) => {
                self.complete_first().await?;
                self.read_keyless().await
            }
        }
    }

    /// Lets the transaction in that is held, if nothing keeps it out any more. Returns whether it did.
    pub(super) fn let_in(&mut self) -> Result<bool, Error> {
        while let Some(opening) = self.gate.open(self.reader.stage(), Instant::now()) {
            match opening {
                Opening::LetIn(begin) => {
                    self.translator.apply(&Message::Begin(begin), Lsn::ZERO)?;
                    return Ok(true);
                }
                Opening::Late => self.postpone("its snapshot is not ready in time"),
                Opening::Release => tracing::warn!(
                    table = self.reader.keyless().map(|it| &*it.table),
                    "the slot to read the table under waits for transactions that are open: the stream goes on meanwhile"
                ),
            }
        }
        Ok(false)
    }

    /// Puts all rows of the table into the log, while the stream stands still. Where its snapshot does not show them any
    /// more, what has entered the log is no harm: all of it is gone when the table is read again.
    async fn read_keyless(&mut self) -> Result<(), Error> {
        let TableReader::Keyless(keyless) = &mut self.reader else {
            return Ok(());
        };
        let Some(prepared) = keyless.prepared.take() else {
            return Ok(());
        };
        if self.read_prepared(&prepared).await? {
            let ended = self.chunks.done();
            self.end_reading(ended);
        } else {
            self.postpone("it has changed, or is being changed, since its snapshot");
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
                // In the same Kafka transaction: from here on all rows are read, however often that begins again.
                if let Some(known) = self.progress.get_mut().tables.get_mut(&table.topic) {
                    known.begin_bag();
                }
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
            let Some((_, line)) = line else { break };
            let cells = row.parse(&line, &table.table)?;
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
