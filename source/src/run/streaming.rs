//! The steady state: read, translate, complete, hand over, confirm; and beside it the chunks of snapshots.

mod chunks;
mod commands;
mod follow_tables;
mod gate;
mod keyless;
mod membership;
mod obey_signals;
mod postponed;
mod read_chunks;
mod read_keyless;
mod silence;
mod table_reader;
mod tables;
mod topic_watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tributary_runtime::cli::Context;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

use crate::change::completion::Completer;
use crate::change::origin::now_ns;
use crate::change::relation::{RelationShape, Resolved};
use crate::change::translate::{Applied, Translator};
use crate::change::watermark::Watermark;
use crate::failpoint;
use crate::log::outbox::Outbox;
use crate::log::progress::{Position, ProgressLog};
use crate::log::publisher::Transaction;
use crate::log::publisher::{Committed, Publisher};
use crate::run::pace;
use crate::run::session::{Begun, STATUS_INTERVAL, Session, keep_alive, send_status};
use crate::run::signals::Inbox;
use crate::telemetry;
use chunks::Chunks;
use commands::Commands;
use gate::Gate;
use silence::Silence;
use table_reader::TableReader;
use tables::TablesFollowed;
use topic_watch::TopicWatch;
use tributary_postgres::decoder::{Decoded, Decoder};
use tributary_postgres::pgoutput::{Begin, Message};
use tributary_postgres::replication::{Frame, ReplicationStream};
use tributary_postgres::slot::Slot;
use tributary_postgres::spool::{Spool, Taken};

/// How long an idle database's slot may stand still: then a progress record alone moves it.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// So many frames of a spooled transaction are read before something else gets its turn.
const REPLAYED_AT_ONCE: usize = 10_000;

/// Streams until shutdown.
///
/// # Errors
/// Whatever ends the session.
pub(crate) async fn run(session: Session, begun: Begun, context: &Context) -> Result<(), Error> {
    let Begun {
        mut stream,
        publisher,
        mut progress,
    } = begun;
    session.monitor.observe(&progress);
    let (inbox, signals_offset) = keep_alive(
        &mut stream,
        &session.database,
        progress.position.confirm(),
        Inbox::start(&session.config, progress.signals_offset),
    )
    .await?;
    progress.signals_offset = Some(signals_offset);
    let name = session.config.slot_name();
    progress.selection = session.asked_for();
    let slot = Slot::read(&session.client, &session.database, &name).await?;
    let mut streaming = Streaming {
        gate: Gate::new(
            session
                .selection
                .as_ref()
                .map(|_| progress.position.commit_lsn()),
        ),
        silence: Silence::of(slot.as_ref()),
        tables: TablesFollowed::begin(&session, &progress),
        topics: TopicWatch::new(Arc::clone(&session.registrar)),
        stream,
        publisher,
        translator: Translator::new(progress.position).with_metadata(Arc::clone(&session.metadata)),
        spool: Spool::of_session(
            &session.config.spool,
            &session.config.slot_name(),
            &progress.system_id,
            &session.streaming,
        )?,
        completer: Completer::new(session.database.clone(), context.shutdown.clone()),
        decoder: Decoder::new(session.config.postgres.plugin, progress.oids()),
        session,
        decoding: Lsn::ZERO,
        durable: progress.position,
        received: progress.position.confirm(),
        progress: ProgressLog::new(progress),
        chunks: Chunks::default(),
        reader: TableReader::None,
        commands: Commands::new(inbox),
        in_flight: None,
        newest_commit_us: 0,
        spare: Outbox::default(),
        published_at: Instant::now(),
        rest_until: Instant::now(),
    };
    context.health.set_phase("streaming");
    context.health.set_ready(true, "");
    let ended = Box::pin(streaming.run(context)).await;
    context.health.set_ready(false, "not streaming");
    ended?;
    Box::pin(streaming.end()).await
}

struct Streaming {
    session: Session,
    stream: ReplicationStream,
    silence: Silence,
    /// Where streamed transactions wait for their commit.
    spool: Option<Spool>,
    publisher: Publisher,
    /// What the next transaction's progress record says.
    progress: ProgressLog,
    translator: Translator,
    completer: Completer,
    chunks: Chunks,
    /// Of the table that [`Chunks`] says.
    reader: TableReader,
    gate: Gate,
    tables: TablesFollowed,
    topics: TopicWatch,
    decoder: Decoder,
    /// Where the payload stands that the decoder has not done with.
    decoding: Lsn,
    commands: Commands,
    /// The position of the last committed transaction.
    durable: Position,
    /// How far the server has sent.
    received: Lsn,
    /// The transaction that is being committed.
    in_flight: Option<InFlight>,
    /// When the newest change was committed that was handed over.
    newest_commit_us: i64,
    spare: Outbox,
    published_at: Instant,
    /// Until then what comes is gathered, unless it fills a transaction.
    rest_until: Instant,
}

/// A transaction that was handed over.
struct InFlight {
    since: Instant,
    /// When its newest change was committed in Postgres: microseconds since 1970; 0 without changes.
    newest_commit_us: i64,
    /// What its progress record says of the signals.
    signals_offset: Option<i64>,
}

/// Why reading the buffer paused.
enum Pause {
    /// Nothing more is there.
    Drained,
    /// What came in is to be published first.
    Full,
    /// A table's shape must be looked up.
    Relation(RelationShape),
    /// The decoder must ask the catalog.
    Ask,
    /// A watermark of some source has come.
    Watermark(Watermark),
    /// The next transaction is not, or may not be, in the snapshot of a table without a key, whose rows come first.
    Keyless(Begin),
}

impl Streaming {
    async fn run(&mut self, context: &Context) -> Result<(), Error> {
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let pause = if self.gate.holds() {
                Pause::Drained
            } else {
                self.read_buffered().await?
            };
            let full = match pause {
                Pause::Relation(shape) => {
                    self.learn(&shape).await?;
                    continue;
                }
                Pause::Ask => {
                    self.ask().await?;
                    continue;
                }
                Pause::Watermark(mark) => {
                    self.complete_first().await?;
                    self.watermark(&mark)?;
                    continue;
                }
                Pause::Keyless(begin) => {
                    self.gate.hold(begin, Instant::now());
                    false
                }
                Pause::Full => true,
                Pause::Drained => false,
            };
            if self.translator.is_between_transactions() {
                self.between_transactions().await?;
                if self.is_done() || self.rest_is_in() {
                    return Ok(());
                }
                if self.let_in()? {
                    continue;
                }
            }
            let resting = !full && self.rest_until > Instant::now();
            if !resting {
                self.hand_over().await?;
            }
            if full && self.in_flight.is_none() {
                continue;
            }
            let reads = !full && !self.gate.holds();
            let replaying = reads && self.is_replaying();
            tokio::select! {
                committed = self.publisher.committed(), if self.in_flight.is_some() => self.committed(committed?),
                arrived = self.commands.arrived() => arrived?,
                news = self.reader.next() => self.progressed(news?)?,
                () = tokio::task::yield_now(), if replaying => {}
                () = tokio::time::sleep_until(self.rest_until.into()), if resting => {}
                filled = self.stream.fill(), if reads && !replaying => filled.map_err(|e| self.session.database.explain_stream(e))?,
                // The server may be past it already, or tell when it is.
                () = self.tables.watch.arrived() => self.report().await?,
                _ = tick.tick() => self.report().await?,
                () = context.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// What may change only between two transactions.
    async fn between_transactions(&mut self) -> Result<(), Error> {
        if self.gate.is_for_a_rest() {
            self.attend_types();
            return Ok(());
        }
        self.attend_tables().await?;
        self.attend_types();
        self.attend_keyless().await?;
        self.obey();
        self.drive_snapshots();
        Ok(())
    }

    fn is_replaying(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::is_replaying)
    }

    /// Translates what the connection has received already, and what was spooled of a transaction that is
    /// committed now.
    async fn read_buffered(&mut self) -> Result<Pause, Error> {
        self.translator.set_now_ns(now_ns());
        let keeps_out = |begin: &Begin| self.gate.keeps_out(self.reader.stage(), begin);
        let (mut reply, mut replayed) = (false, 0);
        let pause = loop {
            if self.translator.is_full(self.completer.max_rows()) {
                break Pause::Full;
            }
            let more = self.decoder.more()?;
            if !matches!(more, Decoded::Nothing) {
                match apply(&mut self.translator, keeps_out, &more, self.decoding)? {
                    None => continue,
                    Some(pause) => break pause,
                }
            }
            let frame = match &mut self.spool {
                Some(spool) if spool.is_replaying() && replayed == REPLAYED_AT_ONCE => {
                    break Pause::Drained;
                }
                Some(spool) if spool.is_replaying() => {
                    replayed += 1;
                    match spool.next_replayed()? {
                        None => continue,
                        frame => frame,
                    }
                }
                spool => {
                    let explain = |e| self.session.database.explain_stream(e);
                    let frame = self.stream.next_buffered().map_err(explain)?;
                    if let Some(spool) = spool
                        && let Some(Frame::XLogData {
                            wal_start, payload, ..
                        }) = frame
                        && spool.take(wal_start, payload)? != Taken::Ordinary
                    {
                        self.received = self.received.max(wal_start);
                        continue;
                    }
                    frame
                }
            };
            match frame {
                None => break Pause::Drained,
                Some(Frame::Keepalive {
                    wal_end,
                    reply_requested,
                    ..
                }) => {
                    self.received = self.received.max(wal_end);
                    self.translator.skip_to(wal_end);
                    reply |= reply_requested;
                }
                Some(Frame::XLogData {
                    wal_start, payload, ..
                }) => {
                    self.received = self.received.max(wal_start);
                    self.decoding = wal_start;
                    let decoded = self.decoder.decode(payload)?;
                    match apply(&mut self.translator, keeps_out, &decoded, wal_start)? {
                        None => {}
                        Some(pause) => break pause,
                    }
                }
            }
        };
        if reply {
            self.report().await?;
        }
        Ok(pause)
    }

    /// Looks a table's shape up and registers its schema, before a record uses it.
    async fn learn(&mut self, shape: &RelationShape) -> Result<(), Error> {
        self.renamed(shape);
        let known = &self.progress.get().tables;
        let resolver = self.session.resolver();
        let work = resolver.resolve(known, shape);
        let resolved = keep_alive(
            &mut self.stream,
            &self.session.database,
            self.durable.confirm(),
            work,
        )
        .await
        .doing(|| format!("prepare table {}", shape.display_name()))?;
        let table = match resolved {
            Resolved::Ours(table, types) => {
                self.learned(&table, &types);
                Some(*table)
            }
            Resolved::NotOurs => None,
        };
        self.translator.learn(shape, table.map(Arc::new));
        Ok(())
    }

    /// Lets the decoder ask the catalog what the plug-in does not say.
    async fn ask(&mut self) -> Result<(), Error> {
        let work = self
            .decoder
            .ask(&self.session.client, &self.session.database);
        keep_alive(
            &mut self.stream,
            &self.session.database,
            self.durable.confirm(),
            work,
        )
        .await
    }

    /// Hands over what came in, if the producer is free.
    async fn hand_over(&mut self) -> Result<(), Error> {
        let heartbeat = self.translator.position().confirm() > self.durable.confirm()
            && self.published_at.elapsed() >= HEARTBEAT;
        self.remember_truncates();
        let nothing = self.translator.is_empty() && !self.progress.has_changed();
        if self.in_flight.is_some() || (nothing && !heartbeat) {
            return Ok(());
        }
        let (mut outbox, mut incomplete) = self.translator.take(std::mem::take(&mut self.spare));
        let work = self
            .completer
            .complete(&self.session.client, &mut outbox, &incomplete);
        let completed = keep_alive(
            &mut self.stream,
            &self.session.database,
            self.durable.confirm(),
            work,
        )
        .await?;
        self.translator.looked_up(completed.newest);
        let newest_commit_us = self.translator.newest_commit_us();
        let rest = incomplete.split_off(completed.rows);
        // The newest change is in the log when all that came in is.
        let is_new = rest.is_empty()
            && std::mem::replace(&mut self.newest_commit_us, newest_commit_us) != newest_commit_us;
        let position = self.translator.give_back(&mut outbox, rest);
        self.session.monitor.handed_over(&outbox, newest_commit_us);
        let transaction = Transaction {
            outbox,
            progress: self.progress.encode(position),
            position,
        };
        let started = Instant::now();
        self.publisher.ready().await?.send(transaction);
        self.in_flight = Some(InFlight {
            since: started,
            newest_commit_us: if is_new { newest_commit_us } else { 0 },
            signals_offset: self.progress.get().signals_offset,
        });
        self.published_at = started;
        Ok(())
    }

    /// Publishes what came in, if rows of it wait for their columns: see [`Translator::has_incomplete`].
    async fn complete_first(&mut self) -> Result<(), Error> {
        if self.translator.has_incomplete() {
            self.publish_rows().await?;
        }
        Ok(())
    }

    fn committed(&mut self, committed: Committed) {
        self.durable = committed.position;
        self.spare = committed.outbox;
        if let Some(done) = self.in_flight.take() {
            let monitor = &self.session.monitor;
            monitor.committed(committed.position, done.signals_offset);
            let took = done.since.elapsed();
            metrics::histogram!(telemetry::COMMIT_SECONDS).record(took);
            self.rest_until = Instant::now() + pace::rest_behind_commit(took);
            if done.newest_commit_us > 0 {
                let age_us = now_ns() / 1000 - done.newest_commit_us;
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                let age_seconds = age_us.max(0) as f64 / 1e6;
                self.session.monitor.commit_age(age_seconds);
            }
        }
    }

    /// Tells the server how far the log is. The slot never gets ahead of it.
    async fn report(&mut self) -> Result<(), Error> {
        self.session.monitor.observe(self.progress.get());
        self.topics.attend(self.progress.get())?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(telemetry::LAG_BYTES)
            .set(self.received.bytes_since(self.durable.confirm()) as f64);
        let silence = self.stream.silence();
        self.silence.endure(silence, &self.session).await?;
        let ask = Silence::asks_for_an_answer(silence) || self.tables.watch.awaits(self.received);
        let confirm = self.durable.confirm();
        failpoint::hit(failpoint::CONFIRMING);
        self.session.caught_up_to(self.received);
        let positions = (self.received.max(confirm), confirm);
        send_status(&mut self.stream, &self.session.database, positions, ask).await
    }
}

/// Applies a message, unless something must be looked up first, or a transaction is kept out.
fn apply(
    translator: &mut Translator,
    keeps_out: impl Fn(&Begin) -> bool,
    decoded: &Decoded<'_>,
    lsn: Lsn,
) -> Result<Option<Pause>, Error> {
    match decoded {
        Decoded::Nothing => Ok(None),
        Decoded::Ask => Ok(Some(Pause::Ask)),
        Decoded::Message(Message::Relation(relation)) if !translator.knows(relation) => {
            Ok(Some(Pause::Relation(RelationShape::of(relation))))
        }
        Decoded::Message(Message::Begin(begin)) if keeps_out(begin) => {
            Ok(Some(Pause::Keyless(*begin)))
        }
        Decoded::Message(message) => Ok(match translator.apply(message, lsn)? {
            Applied::Change => None,
            Applied::Watermark(mark) => Some(Pause::Watermark(mark)),
        }),
    }
}
