//! The first start of a source: progress, slot, snapshot, and then the stream from the slot's consistent point.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;
use tributary_schemas::encode::{Change, Snapshot};
use tributary_schemas::record::Op;

use crate::catalog::Catalog;
use crate::failpoint;
use crate::outbox::{Outbox, Transaction};
use crate::progress::{Position, Progress, SnapshotState, TableProgress};
use crate::published::PublishedTable;
use crate::publisher::Publisher;
use crate::replication::{CreatedSlot, ReplicationConnection};
use crate::session::{Begun, Session, keep_alive};
use crate::snapshot::{SnapshotPoint, Workers, now_ns};

type Tables = Vec<Arc<PublishedTable>>;

/// Takes the first snapshot. `interrupted` is the progress of an earlier attempt, whose rows may be in the
/// topics.
///
/// # Errors
/// Whatever a session's errors are. The next session finds the unfinished snapshot and starts it over.
pub(crate) async fn run(
    session: &mut Session,
    mut publisher: Publisher,
    interrupted: Option<Progress>,
) -> Result<Begun, Error> {
    session.remember(interrupted.as_ref());
    let tables = publish_tables(session).await?;
    let (identity, mut connection) = session.connect_replication().await?;
    let before = interrupted
        .as_ref()
        .map_or(0, |progress| progress.position.seq);
    let mut progress = Progress::new(
        identity.system_id,
        identity.timeline,
        Position::at_consistent_point(Lsn::ZERO, before),
        SnapshotState::Running,
        remembered(&tables),
    );
    // Before the slot: a slot without any progress would be a gap.
    publish_progress(&mut publisher, &progress).await?;

    failpoint::hit(failpoint::CREATING_SLOT);
    let created = create_slot(session, &mut connection).await?;
    failpoint::hit(failpoint::CREATED_SLOT);
    let seq = (before + 1).max(created.consistent_point.0);
    progress.position = Position::at_consistent_point(created.consistent_point, seq);
    let point = SnapshotPoint {
        consistent: created.consistent_point,
        position: progress.position,
        progress: progress.writer()?.encode(&progress.position).into(),
        exported: created.snapshot_name,
    };
    let workers = Workers::pin(
        &session.database,
        session.config.snapshot.workers,
        point.clone(),
    )
    .await?;
    let mut stream = session
        .start_replication(connection, created.consistent_point)
        .await?;

    let work = async {
        unchanged_tables(session).await?;
        if interrupted.is_some() {
            sweep(&mut publisher, &tables, &point).await?;
        }
        read_all(session, workers, &mut publisher, &tables).await?;
        progress.snapshot = SnapshotState::Done;
        publish_progress(&mut publisher, &progress).await
    };
    keep_alive(&mut stream, &session.database, Lsn::ZERO, work).await?;
    tracing::info!(consistent_point = %created.consistent_point, "the first snapshot is complete");
    Ok(Begun {
        stream,
        publisher,
        progress,
    })
}

async fn create_slot(
    session: &Session,
    connection: &mut ReplicationConnection,
) -> Result<CreatedSlot, Error> {
    let slot = session.config.slot_name();
    tracing::info!(slot, "creating the slot; running transactions are awaited");
    connection
        .create_slot_exporting_snapshot(&slot, session.config.postgres.plugin.name())
        .await
        .map_err(|error| session.database.explain_replication(error))
        .doing(|| format!("create the slot '{slot}'"))
}

/// What progress remembers of the tables, by topic.
fn remembered(tables: &Tables) -> BTreeMap<String, TableProgress> {
    tables
        .iter()
        .map(|table| (table.topic.to_string(), table.progress()))
        .collect()
}

async fn publish_tables(session: &Session) -> Result<Tables, Error> {
    let mut tables = Vec::new();
    for table in &session.tables {
        let published = session.registrar.publish(table.table.clone()).await?;
        tables.push(Arc::new(published));
    }
    Ok(tables)
}

/// The tables were described before the slot existed: had one changed in between, its rows would be read in
/// one shape and streamed in another.
async fn unchanged_tables(session: &Session) -> Result<(), Error> {
    let now = Catalog::new(&session.client, &session.database)
        .select(&session.config)
        .await?;
    if now.tables == session.tables {
        return Ok(());
    }
    Err(Error::retry_msg(
        "the tables have changed while the slot was created",
    ))
}

/// Rows of an earlier attempt may have vanished meanwhile: "gone below" comes before all rows of this one.
async fn sweep(
    publisher: &mut Publisher,
    tables: &Tables,
    point: &SnapshotPoint,
) -> Result<(), Error> {
    let handled_at_ns = now_ns();
    let mut outbox = Outbox::default();
    for table in tables {
        let change = Change {
            op: Op::Truncate,
            before: None,
            after: None,
            commit_time_us: handled_at_ns / 1000,
            snapshot: Snapshot::True,
            sequence: (None, point.consistent),
            tx_id: None,
            lsn: Some(point.consistent),
            transaction: None,
            handled_at_ns,
        };
        let seq = point.position.seq;
        table.append_gone_below(&mut outbox, &change, seq, || seq)?;
    }
    let transaction = Transaction {
        outbox,
        progress: point.progress.to_vec(),
        position: point.position,
    };
    publisher.publish(transaction).await.map(drop)
}

/// Reads all rows, and waits until the last of them is committed.
async fn read_all(
    session: &Session,
    workers: Workers,
    publisher: &mut Publisher,
    tables: &Tables,
) -> Result<(), Error> {
    let reading = workers.read(
        tables,
        session.config.snapshot.chunk_pages,
        publisher.sender(),
    );
    let mut reading = std::pin::pin!(reading);
    let (mut committed, mut sent) = (0, None);
    while sent != Some(committed) {
        tokio::select! {
            total = &mut reading, if sent.is_none() => sent = Some(total?),
            one = publisher.committed() => {
                one?;
                committed += 1;
            }
        }
    }
    Ok(())
}

async fn publish_progress(publisher: &mut Publisher, progress: &Progress) -> Result<(), Error> {
    let transaction = Transaction {
        outbox: Outbox::default(),
        progress: progress.writer()?.encode(&progress.position),
        position: progress.position,
    };
    publisher.publish(transaction).await.map(drop)
}
