//! Applies messages.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;
use tributary_schemas::{Lsn, header};

use crate::change::completion::{Cut, Incomplete};
use crate::change::origin::Origin;
use crate::change::relation::RelationShape;
use crate::change::watermark::{WATERMARK_PREFIX, Watermark};
use crate::log::metadata::MetadataTopics;
use crate::log::outbox::{MAX_BYTES, Outbox};
use crate::log::progress::Position;
use crate::log::table_topic::TableTopic;
use tributary_postgres::pgoutput::{
    Begin, Commit, Delete, Insert, Message, OldRow, Relation, Truncate, Update,
};

use super::rows::{NewRow, contradiction, old_cells};
use super::tally::Tally;
use super::waiting::WaitingRows;
use super::window::{Streamed, Window};

/// Applies the stream's messages, one after the other, to an outbox.
///
/// The position always describes what the outbox and all before it hold: it may be closed behind any message.
pub(crate) struct Translator {
    pub(super) tables: HashMap<u32, Announced>,
    pub(super) position: Position,
    pub(super) open: Option<OpenTransaction>,
    pub(super) begun: Lsn,
    pub(super) previous_commit: Option<Lsn>,
    pub(super) outbox: Outbox,
    pub(super) waiting: WaitingRows,
    /// Before the change that is being applied.
    pub(super) before: Cut,
    pub(super) now_ns: i64,
    pub(super) newest_commit_us: i64,
    pub(super) window: Option<Window>,
    pub(super) streamed: Streamed,
    pub(super) metadata: Arc<MetadataTopics>,
    pub(super) tally: Tally,
    /// [`Translator::take_truncated`]
    pub(super) truncated: Vec<(Arc<str>, u32)>,
}

/// What a message was, beside the records that it became.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Nothing that concerns the caller.
    Change,
    /// A watermark, of this source or another one.
    Watermark(Watermark),
}

/// A relation that was announced.
pub(super) struct Announced {
    pub(super) shape: RelationShape,
    /// `None` for a table that is not ours: its changes are counted, and left out.
    pub(super) table: Option<Arc<TableTopic>>,
}

/// The transaction whose messages are coming in.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenTransaction {
    pub(super) begin: Begin,
    /// How many changes have come in.
    pub(super) ordinal: u64,
    /// How many of them are in the log already; `None` for all.
    published: Option<u64>,
    /// Whether one of them is of a table that our publications have.
    pub(super) has_ours: bool,
}

impl Translator {
    pub(crate) fn new(position: Position) -> Self {
        Self {
            tables: HashMap::new(),
            position,
            open: None,
            begun: Lsn::ZERO,
            previous_commit: None,
            outbox: Outbox::default(),
            waiting: WaitingRows::default(),
            before: Cut {
                records: 0,
                position,
            },
            now_ns: 0,
            newest_commit_us: 0,
            window: None,
            streamed: Streamed::default(),
            metadata: Arc::default(),
            tally: Tally::default(),
            truncated: Vec::new(),
        }
    }

    /// The topics whose tables were truncated since the last call, each with the transaction.
    pub(crate) fn take_truncated(&mut self) -> Vec<(Arc<str>, u32)> {
        std::mem::take(&mut self.truncated)
    }

    /// Whether no transaction is half read.
    pub(crate) const fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    /// The position behind all that came in.
    pub(crate) const fn position(&self) -> Position {
        self.position
    }

    /// Where the newest transaction is committed that has begun to come in; zero before the first one.
    pub(crate) const fn begun(&self) -> Lsn {
        self.begun
    }

    /// Values were looked up, as new as this.
    pub(crate) fn looked_up(&mut self, newest: Lsn) {
        self.position.look_up_to(newest);
    }

    /// When the newest transaction that came in was committed: microseconds since 1970.
    pub(crate) const fn newest_commit_us(&self) -> i64 {
        self.newest_commit_us
    }

    /// Whether there is nothing to publish.
    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.records.is_empty()
    }

    /// Sets the time that the next records carry as the one when they were handled.
    pub(crate) const fn set_now_ns(&mut self, now_ns: i64) {
        self.now_ns = now_ns;
    }

    /// Between transactions: the WAL up to here holds nothing for us.
    pub(crate) fn skip_to(&mut self, lsn: Lsn) {
        if self.open.is_none() {
            self.position.confirm_to(lsn);
        }
    }

    /// Learns a table's shape; its rows follow. `None` for a table that is not ours.
    pub(crate) fn learn(&mut self, shape: &RelationShape, table: Option<Arc<TableTopic>>) {
        if let (Some(window), Some(table)) = (&mut self.window, &table) {
            window.changed_shape(&table.topic);
        }
        self.tables.insert(
            shape.oid,
            Announced {
                shape: shape.clone(),
                table,
            },
        );
    }

    /// The shape in which a table's rows come.
    pub(crate) fn shape(&self, oid: u32) -> Option<&RelationShape> {
        self.tables.get(&oid).map(|announced| &announced.shape)
    }

    /// Whether a Relation message says what is known already.
    pub(crate) fn knows(&self, relation: &Relation<'_>) -> bool {
        self.tables
            .get(&relation.oid)
            .is_some_and(|known| known.shape.is(relation))
    }

    /// Applies a message. Relation messages are the caller's: see [`Translator::learn`].
    ///
    /// # Errors
    /// The stream contradicts itself, or a value does not fit its column's form.
    pub(crate) fn apply(&mut self, message: &Message<'_>, lsn: Lsn) -> Result<Applied, Error> {
        match message {
            Message::Begin(begin) => self.begin(*begin),
            Message::Commit(commit) => self.commit(commit),
            Message::Insert(insert) => self.change(lsn, |this, origin| this.insert(insert, origin)),
            Message::Update(update) => self.change(lsn, |this, origin| this.update(update, origin)),
            Message::Delete(delete) => self.change(lsn, |this, origin| this.delete(delete, origin)),
            Message::Truncate(truncate) => {
                self.change(lsn, |this, origin| this.truncate(truncate, origin))
            }
            Message::Unpublished => self.count().map(drop),
            Message::Logical(message) => {
                self.logical(message, lsn)?;
                if message.prefix == WATERMARK_PREFIX {
                    let mark = Watermark(message.content.to_vec());
                    return Ok(Applied::Watermark(mark));
                }
                Ok(())
            }
            Message::Origin(_) | Message::Type(_) | Message::Relation(_) => Ok(()),
        }?;
        Ok(Applied::Change)
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(contradiction("a transaction begins inside another one"));
        }
        let published = self.position.published_of(begin.final_lsn);
        self.tally = Tally::default();
        self.begun = begin.final_lsn;
        self.open = Some(OpenTransaction {
            begin,
            ordinal: 0,
            published,
            has_ours: false,
        });
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let Some(open) = self.open.take() else {
            return Err(contradiction("a commit without a begin"));
        };
        // As from PG15 on pgoutput: it leaves out transactions without a change for us.
        if open.has_ours {
            self.previous_commit = Some(commit.end_lsn);
        }
        self.streamed.push(open.begin.xid);
        if open.published.is_none() {
            return Ok(());
        }
        self.end(&open);
        let commit_lsn = open.begin.final_lsn;
        self.position
            .commit(commit_lsn, open.ordinal, commit.end_lsn);
        Ok(())
    }

    /// Counts a change.
    pub(super) fn count(&mut self) -> Result<&mut OpenTransaction, Error> {
        let Some(open) = &mut self.open else {
            return Err(contradiction("a change outside a transaction"));
        };
        open.ordinal += 1;
        Ok(open)
    }

    /// Counts a change, and applies it unless the log has it.
    pub(super) fn change(
        &mut self,
        lsn: Lsn,
        apply: impl FnOnce(&mut Self, Origin) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let open = self.count()?;
        open.has_ours = true;
        let open = *open;
        let Some(published) = open.published else {
            return Ok(());
        };
        let origin = Origin {
            commit_lsn: open.begin.final_lsn,
            commit_time_us: open.begin.commit_time_us,
            previous_commit: self.previous_commit,
            lsn,
            xid: open.begin.xid,
            handled_at_ns: self.now_ns,
            place: None,
        };
        if open.ordinal <= published {
            return self.recount(origin, apply);
        }
        self.before = Cut {
            records: self.outbox.records.len(),
            position: self.position,
        };
        apply(self, origin)?;
        self.newest_commit_us = origin.commit_time_us;
        self.position.advance(open.begin.final_lsn, open.ordinal)
    }

    /// The table of a change; `None` for one that is not ours.
    fn table(&self, oid: u32) -> Result<Option<Arc<TableTopic>>, Error> {
        match self.tables.get(&oid) {
            Some(announced) => Ok(announced.table.clone()),
            None => Err(contradiction(&format!(
                "a change of relation {oid}, which was not announced"
            ))),
        }
    }

    fn insert(&mut self, insert: &Insert<'_>, origin: Origin) -> Result<(), Error> {
        let Some(table) = self.table(insert.relation)? else {
            return Ok(());
        };
        let row = NewRow::read(insert.new, None, &table)?;
        self.emit_row(&table, Op::Create, None, &row, origin, Vec::new())
    }

    fn update(&mut self, update: &Update<'_>, origin: Origin) -> Result<(), Error> {
        let Some(table) = self.table(update.relation)? else {
            return Ok(());
        };
        let old = update.old.map(|old| old_cells(old, &table)).transpose()?;
        let full = matches!(update.old, Some(OldRow::Full(_)));
        let row = NewRow::read(
            update.new,
            old.as_ref().map(|old| (old.as_slice(), full)),
            &table,
        )?;
        let before = old.as_deref().filter(|_| full);
        let old_key = match &old {
            Some(old) => table.key_bytes(old)?,
            None => None,
        };
        if let (Some(old_key), Some(new_key)) = (&old_key, &row.key)
            && old_key != new_key
        {
            let gone = vec![(header::NEW_KEY, new_key.clone())];
            self.emit_gone(
                &table,
                old_key,
                old.as_deref().unwrap_or_default(),
                origin,
                gone,
            )?;
            let moved = vec![(header::OLD_KEY, old_key.clone())];
            return self.emit_row(&table, Op::Create, None, &row, origin, moved);
        }
        self.emit_row(&table, Op::Update, before, &row, origin, Vec::new())
    }

    fn delete(&mut self, delete: &Delete<'_>, origin: Origin) -> Result<(), Error> {
        let Some(table) = self.table(delete.relation)? else {
            return Ok(());
        };
        let old = old_cells(delete.old, &table)?;
        match table.key_bytes(&old)? {
            Some(key) => self.emit_gone(&table, &key, &old, origin, Vec::new()),
            None => Err(contradiction(&format!(
                "a delete from table {}, which has no key",
                table.display_name()
            ))),
        }
    }

    fn truncate(&mut self, truncate: &Truncate, origin: Origin) -> Result<(), Error> {
        for oid in &truncate.relations {
            let Some(table) = self.table(*oid)? else {
                continue;
            };
            if let Some(window) = &mut self.window {
                window.truncated(&table.topic);
            }
            self.truncated.push((Arc::clone(&table.topic), origin.xid));
            let origin = self.event(|| table.display_name(), origin);
            let below = self.position.following_seq(origin.commit_lsn);
            let change = origin.change(Op::Truncate, None, None);
            let (outbox, position) = (&mut self.outbox, &mut self.position);
            table.append_gone_below(outbox, &change, below, || {
                position.next_seq(origin.commit_lsn)
            })?;
        }
        Ok(())
    }

    /// A delete, and the tombstone behind it, both with these headers.
    fn emit_gone(
        &mut self,
        table: &TableTopic,
        key: &[u8],
        old: &[Cell<'_>],
        origin: Origin,
        headers: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<(), Error> {
        if let Some(window) = &mut self.window {
            window.changed(&table.topic, key);
        }
        let origin = self.event(|| table.display_name(), origin);
        let change = origin.change(Op::Delete, Some(old), None);
        let seq = self.position.next_seq(origin.commit_lsn);
        table.append(
            &mut self.outbox,
            Some(key),
            Some(&change),
            seq,
            headers.clone(),
        )?;
        let seq = self.position.next_seq(origin.commit_lsn);
        table.append(&mut self.outbox, Some(key), None, seq, headers)
    }

    fn emit_row(
        &mut self,
        table: &Arc<TableTopic>,
        op: Op,
        before: Option<&[Cell<'_>]>,
        row: &NewRow<'_>,
        origin: Origin,
        headers: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<(), Error> {
        if let (Some(window), Some(key)) = (&mut self.window, &row.key) {
            window.changed(&table.topic, key);
        }
        let origin = self.event(|| table.display_name(), origin);
        let seq = self.position.next_seq(origin.commit_lsn);
        if row.unchanged.is_empty() {
            let change = origin.change(op, before, Some(&row.cells));
            return table.append(
                &mut self.outbox,
                row.key.as_deref(),
                Some(&change),
                seq,
                headers,
            );
        }
        // The record keeps its place; its value comes from the look-up.
        let record = self.outbox.records.len();
        table.append(&mut self.outbox, row.key.as_deref(), None, seq, headers)?;
        let place = (record, self.before);
        let waiting = Incomplete::new(place, table, op, &row.cells, &row.unchanged, origin);
        self.waiting.push(waiting);
        Ok(())
    }
}

impl Translator {
    /// Whether rows wait for their columns. Until they have them, nothing joins the outbox but the stream's changes: a
    /// transaction may end before any of the rows, and its progress record tells everything but the position as it is
    /// then.
    pub(crate) const fn has_incomplete(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Whether what came in should be published before more is read.
    pub(crate) fn is_full(&self, max_incomplete: usize) -> bool {
        self.outbox.is_full()
            || self.waiting.len() >= max_incomplete
            || self.outbox.bytes.len() + self.waiting.bytes >= MAX_BYTES
    }

    /// Takes out what came in; `empty` is used next.
    pub(crate) fn take(&mut self, empty: Outbox) -> (Outbox, Vec<Incomplete>) {
        (
            std::mem::replace(&mut self.outbox, empty),
            std::mem::take(&mut self.waiting).rows,
        )
    }

    /// Takes back what was taken out, from the change of the first of these rows on: it is the beginning of the next
    /// outbox. Nothing may have come in meanwhile. Returns the position behind what stays in `outbox`.
    pub(crate) fn give_back(&mut self, outbox: &mut Outbox, rows: Vec<Incomplete>) -> Position {
        let Some(Cut {
            records,
            mut position,
        }) = rows.first().map(Incomplete::cut)
        else {
            return self.position;
        };
        outbox.move_tail(records, &mut self.outbox);
        for mut row in rows {
            row.move_forward(records);
            self.waiting.push(row);
        }
        position.look_up_to(self.position.looked_up());
        position
    }
}
