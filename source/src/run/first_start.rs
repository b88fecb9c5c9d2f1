//! The first start of a source: progress, slot, snapshot, and then the stream from the slot's consistent point.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tributary_runtime::{Error, Policy, ResultExt};
use tributary_schemas::Lsn;
use tributary_schemas::record::Op;

use crate::change::origin::now_ns;
use crate::config::SnapshotMode;
use crate::failpoint;
use crate::log::outbox::Outbox;
use crate::log::progress::{Position, Progress, ProgressLog, Tables};
use crate::log::progress::{SnapshotRequest, TableSnapshot};
use crate::log::publisher::Publisher;
use crate::log::publisher::Transaction;
use crate::log::steps::{self, Counter};
use crate::log::table_topic::TableTopic;
use crate::run::session::{Begun, Session, keep_alive};
use crate::run::signals::{Inbox, Received, obey};
use crate::snapshot::parallel::{Batch, SnapshotPoint, Workers};
use tributary_postgres::catalog::Catalog;
use tributary_postgres::replication::{CreatedSlot, ReplicationConnection, SystemIdentity};
use tributary_postgres::slot::{Awaited, Reminder, SlotCreation};

type TableTopics = Vec<Arc<TableTopic>>;

/// Creates the slot and reads all tables under its snapshot. `before` is what progress said before: then rows
/// may be in the topics that are not in the tables any more, and the snapshot sweeps.
///
/// # Errors
/// Whatever a session's errors are. The next session finds what was read in the progress record, and goes on
/// beside the stream.
pub(crate) async fn run(
    session: &mut Session,
    mut publisher: Publisher,
    before: Option<Progress>,
) -> Result<Begun, Error> {
    let known = before.as_ref().and_then(|before| before.signals_offset);
    // None of the three needs another one.
    let (mut tables, (identity, mut connection), (mut inbox, signals_offset)) = tokio::try_join!(
        publish_tables(session, before.as_ref()),
        session.connect_replication(),
        Inbox::start(&session.config, known),
    )?;
    let mut progress = to_begin(session, identity, before, &mut tables);
    progress.signals_offset = Some(signals_offset);
    // Before the slot: a slot without any progress would be a gap.
    publish_progress(&mut publisher, &progress).await?;
    session.monitor.observe(&progress);

    failpoint::hit(failpoint::CREATING_SLOT);
    let created = create_slot(session, &mut connection).await?;
    failpoint::hit(failpoint::CREATED_SLOT);
    session.health.set_phase("snapshot");
    let seq = progress.position.next_seq(created.consistent_point);
    progress.position = Position::at_consistent_point(created.consistent_point, seq);
    let point = SnapshotPoint {
        consistent: created.consistent_point,
        seq,
        exported: created.snapshot_name,
    };
    let workers = Workers::pin(
        &session.database,
        session.config.snapshot.workers,
        &session.throttle,
        point.clone(),
    )
    .await?;
    // Behind the workers: any command ends the exported snapshot.
    session.let_standbys_keep_new(&mut connection).await?;
    let mut stream = session
        .start_replication(connection, created.consistent_point)
        .await?;

    let mut reading = Reading {
        session,
        publisher: &mut publisher,
        progress: ProgressLog::new(progress),
        point,
    };
    let health = &reading.session.health;
    health.set_ready(false, "reading the tables for the first time");
    let work = reading.run(workers, &tables, &mut inbox);
    keep_alive(&mut stream, &session.database, Lsn::ZERO, work).await?;
    let progress = reading.progress.into_inner();
    let consistent_point = created.consistent_point;
    if progress.is_read() {
        tracing::info!(%consistent_point, "the first snapshot is complete");
    } else {
        tracing::info!(%consistent_point, "not all is read: the first snapshot goes on beside the stream");
    }
    Ok(Begun {
        stream,
        publisher,
        progress,
    })
}

/// What progress says before the slot is there. With `snapshot.mode` "never" no table is to be read.
fn to_begin(
    session: &Session,
    identity: SystemIdentity,
    before: Option<Progress>,
    tables: &mut TableTopics,
) -> Progress {
    let seq = before.as_ref().map_or(0, |before| before.position.seq());
    let mut progress = Progress::new(
        identity.system_id,
        identity.timeline,
        Position::at_consistent_point(Lsn::ZERO, seq),
    );
    progress.snapshots_paused = before
        .as_ref()
        .is_some_and(|before| before.snapshots_paused);
    progress.tables = unread(session, tables, before, seq + 1);
    if session.config.snapshot.mode == SnapshotMode::Never {
        tracing::info!("existing rows are not read, since snapshot.mode is \"never\"");
        tables.clear();
        for (_, table) in progress.tables.iter_mut() {
            table.snapshot = None;
        }
    }
    progress
}

/// Creates the slot, with the snapshot that its stream continues.
pub(crate) async fn create_slot(
    session: &Session,
    connection: &mut ReplicationConnection,
) -> Result<CreatedSlot, Error> {
    let slot = session.config.slot_name();
    let plugin = session.config.postgres.plugin.name();
    tracing::info!(slot, "creating the slot; running transactions are awaited");
    session.health.set_phase("creating the slot");
    session.health.set_ready(false, "creating the slot");
    let creation = SlotCreation {
        client: &session.client,
        name: &slot,
        plugin,
        temporary: false,
    };
    let mut reminder = Reminder::default();
    let told = |awaited: &Awaited| {
        if reminder.is_due(awaited) {
            tracing::warn!(slot, "creating the slot waits for {awaited}");
        }
        let reason = format!("creating the slot waits for {awaited}");
        session.health.set_ready(false, reason);
    };
    let created = creation.run(connection, told).await;
    session.health.set_ready(false, "not streaming");
    created
        .map_err(|error| match error.sqlstate() {
            // Elsewhere it is a file of the server's own, and passes.
            Some("58P01") => Error::stop(error).remedy(format!(
                "install the plug-in {plugin} on the server, or set postgres.plugin = \"pgoutput\""
            )),
            _ => session.database.explain_replication(error),
        })
        .doing(|| format!("create the slot '{slot}'"))
}

/// The tables, all of which are to be read again; those of which there may be rows in the log are swept.
pub(crate) async fn unread_again(
    session: &Session,
    before: Progress,
    next_seq: u64,
) -> Result<Tables, Error> {
    let tables = publish_tables(session, Some(&before)).await?;
    Ok(unread(session, &tables, Some(before), next_seq))
}

/// The tables, of which nothing is read yet. Where rows of theirs may be in the log, the snapshot sweeps.
fn unread(
    session: &Session,
    tables: &TableTopics,
    before: Option<Progress>,
    next_seq: u64,
) -> Tables {
    let begun = before.as_ref().is_some_and(Progress::has_begun);
    let mut all = before.map(|before| before.tables).unwrap_or_default();
    leave_others(&mut all, tables);
    for (table, described) in tables.iter().zip(&session.tables) {
        // One that was to sweep before and did not come to it still is, and so is one that is back.
        let known = all.get(&*table.topic);
        let swept = known.and_then(|known| known.snapshot.as_ref()?.below);
        let has_rows = known.is_some_and(|known| begun || known.followed.absent);
        let request = SnapshotRequest {
            sweep: has_rows || swept.is_some(),
            filter: None,
        };
        let mut progress = table.progress();
        session.follow(described, &mut progress.followed);
        progress.snapshot = Some(TableSnapshot::requested(request, next_seq));
        all.insert(table.topic.to_string(), progress);
    }
    all
}

/// Leaves the tables that cannot be read now: what they hold is read, and swept, when they are back.
fn leave_others(all: &mut Tables, tables: &TableTopics) {
    let read: BTreeSet<&str> = tables.iter().map(|table| &*table.topic).collect();
    for (topic, known) in all.iter_mut() {
        if known.followed.absent || read.contains(topic.as_str()) {
            continue;
        }
        tracing::warn!(
            table = known.table,
            topic,
            "the table is not there, or cannot be read: its topic stays as it is, and is brought up to date once it can"
        );
        known.leave();
    }
}

async fn publish_tables(
    session: &Session,
    before: Option<&Progress>,
) -> Result<TableTopics, Error> {
    let mut tables = Vec::new();
    for table in &session.tables {
        let topic = session.config.topic_name(&table.table)?;
        let known = before.and_then(|before| before.tables.get(&topic));
        tables.push((&table.table, known));
    }
    let publish = async |counter: Counter| session.registrar.publish_all(&tables, &counter).await;
    steps::during(
        &session.health,
        "registering the schemas of tables",
        publish,
    )
    .await
}

/// Puts progress into the log, on its own.
pub(crate) async fn publish_progress(
    publisher: &mut Publisher,
    progress: &Progress,
) -> Result<(), Error> {
    let transaction = Transaction {
        outbox: Outbox::default(),
        progress: progress.encode(),
        position: progress.position,
    };
    publisher.publish(transaction).await.map(drop)
}

/// What a future comes to; never ready without one. Cancel safe.
async fn ended<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The snapshot under way: workers read, and every Kafka transaction says what is read with it.
struct Reading<'a> {
    session: &'a Session,
    publisher: &'a mut Publisher,
    progress: ProgressLog,
    point: SnapshotPoint,
}

impl Reading<'_> {
    /// Reads until all is read or a signal comes, which the stream obeys: it can leave off and go on at any
    /// place, while here a snapshot of the server is held.
    async fn run(
        &mut self,
        workers: Workers,
        tables: &TableTopics,
        inbox: &mut Inbox,
    ) -> Result<(), Error> {
        self.unchanged_tables().await?;
        let planned = workers.plan(tables).await?;
        for (table, relations) in tables.iter().zip(&planned) {
            if let Some(snapshot) = self.snapshot(&table.topic) {
                let ranges = relations.iter().map(|relation| relation.ranges.clone());
                snapshot.reconcile(ranges.collect());
            }
        }
        let (output, mut batches) = mpsc::channel(1);
        let chunk_pages = self.session.config.snapshot.chunk_pages;
        let mut reading = Some(Box::pin(workers.read(tables, planned, chunk_pages, output)));
        let mut in_flight = 0_usize;
        loop {
            let closed = batches.is_closed() && batches.is_empty();
            if reading.is_none() && closed && in_flight == 0 {
                break;
            }
            tokio::select! {
                done = ended(&mut reading), if reading.is_some() => {
                    if let Err(error) = done {
                        return Err(self.told_apart(error).await?);
                    }
                    reading = None;
                }
                received = inbox.next(), if reading.is_some() => if self.is_to_obey(&received?) {
                    reading = None;
                    batches.close();
                },
                batch = batches.recv(), if in_flight < 2 && !closed => if let Some(batch) = batch {
                    self.publish(batch).await?;
                    in_flight += 1;
                },
                one = self.publisher.committed(), if in_flight > 0 => { one?; in_flight -= 1; }
            }
        }
        publish_progress(self.publisher, self.progress.get()).await
    }

    /// The tables were described before the slot existed: had one changed in between, its rows would be read
    /// in one shape and streamed in another.
    async fn unchanged_tables(&self) -> Result<(), Error> {
        let now = Catalog::new(&self.session.client, &self.session.database)
            .select(&self.session.config.wanted())
            .await?;
        if now.tables == self.session.tables {
            return Ok(());
        }
        Err(Error::retry_msg(
            "the tables have changed since they were described",
        ))
    }

    /// What a type has become neither a lock nor a snapshot hides: rows that do not fit may be those of tables that are
    /// to be described anew.
    async fn told_apart(&self, error: Error) -> Result<Error, Error> {
        if error.policy() == Policy::Stop {
            self.unchanged_tables().await?;
        }
        Ok(error)
    }

    /// Whether a signal is one to obey. Others are passed over here.
    fn is_to_obey(&mut self, received: &Received) -> bool {
        let source = &self.session.config.name;
        let is_ours = received
            .signal
            .as_ref()
            .is_ok_and(|signal| signal.is_for(source));
        if !is_ours {
            obey(received, source, self.progress.get_mut());
        }
        is_ours
    }

    /// Publishes rows, and with them what they leave to be read.
    async fn publish(&mut self, mut batch: Batch) -> Result<(), Error> {
        for advance in &batch.read {
            let table = &advance.table;
            let (monitor, name) = (&self.session.monitor, table.display_name());
            monitor.rows_read(&table.topic, &name, advance.rows);
            let Some(snapshot) = self.snapshot(&table.topic) else {
                continue;
            };
            snapshot.rows += advance.rows;
            if let Some(relation) = snapshot.relation_mut(advance.oid) {
                relation.finish(advance.range);
            }
        }
        for advance in &batch.read {
            self.complete(&advance.table, &mut batch.outbox)?;
        }
        self.session.monitor.handed_over(&batch.outbox, 0);
        self.session.monitor.observe(self.progress.get());
        let position = self.progress.get().position;
        let transaction = Transaction {
            outbox: batch.outbox,
            progress: self.progress.encode(position),
            position,
        };
        self.publisher.ready().await?.send(transaction);
        Ok(())
    }

    /// If all rows of a table are read, those that were there before and are not any more are gone.
    fn complete(&mut self, table: &TableTopic, outbox: &mut Outbox) -> Result<(), Error> {
        let point = self.point.clone();
        let Some(progress) = self.progress.get_mut().tables.get_mut(&table.topic) else {
            return Ok(());
        };
        let Some(below) = progress.take_complete().and_then(|read| read.below) else {
            return Ok(());
        };
        let change = point.change(Op::Truncate, None, now_ns());
        table.append_gone_below(outbox, &change, below, || point.seq)
    }

    fn snapshot(&mut self, topic: &str) -> Option<&mut TableSnapshot> {
        let table = self.progress.get_mut().tables.get_mut(topic)?;
        table.snapshot.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tributary_schemas::table::Table;

    use super::{SnapshotRequest, TableSnapshot, Tables, leave_others};
    use crate::log::table_topic::TableTopic;

    #[test]
    fn tables_that_cannot_be_read_now_are_read_when_they_are_back() {
        let read = Arc::new(TableTopic::for_test(Table {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: Vec::new(),
        }));
        let mut known = read.progress();
        known.snapshot = Some(TableSnapshot::requested(SnapshotRequest::default(), 7));
        let topics = ["p.s.t", "p.s.u"].map(|topic| (topic.to_owned(), known.clone()));
        let mut all: Tables = topics.into_iter().collect();
        leave_others(&mut all, &vec![read]);
        assert_eq!(all["p.s.t"], known);
        let other = &all["p.s.u"];
        assert!(other.followed.absent && other.snapshot.is_none());
    }
}
