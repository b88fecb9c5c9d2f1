//! The start order: slot, producer, progress, comparison; and how to go on where they do not fit together.

use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::Lsn;

use super::lost_topics::{self, TopicIds, remember_ids};
use super::session::{Begun, Session, keep_alive};
use crate::config::SnapshotMode;
use crate::failpoint;
use crate::log::log_end;
use crate::log::progress::Followed;
use crate::log::progress::{Position, Progress, TableProgress};
use crate::log::publisher::Publisher;
use crate::log::specs::topic_specs;
use crate::log::steps::{self, Counter};
use crate::log::table_topic::topic_spec;
use crate::run::first_start;
use crate::run::gap;
use crate::run::gap::{Gap, Offer};
use tributary_postgres::catalog::Catalog;
use tributary_postgres::publication;
use tributary_postgres::replication::{ReplicationConnection, SystemIdentity, TimelineHistory};
use tributary_postgres::slot::Slot;
use tributary_postgres::slot::drop_free;

/// A producer that has fenced all others, and what is in the log.
struct Taken {
    publisher: Publisher,
    progress: Option<Progress>,
    topic_ids: TopicIds,
}

/// How the stream goes on from the slot.
enum Way {
    /// From this progress.
    On(Progress),
    /// Behind a gap, with what progress asks for read again.
    Reread(Progress),
    /// Behind a gap, with every row read again.
    Sweep(Progress),
    /// Behind a gap from which this slot does not lead on: with another one.
    Anew(Progress),
}

impl Session {
    pub(super) async fn begin(&mut self) -> Result<Begun, Error> {
        let name = self.config.slot_name();
        let Some(slot) = Slot::read(&self.client, &self.database, &name).await? else {
            return self.begin_without_slot(None).await;
        };
        slot.ours(&name, self.config.postgres.plugin, &self.database)?;
        match slot.lost() {
            None => self.resume(&slot).await,
            // Nobody can hold it any more.
            Some(reason) => {
                let reason = reason.to_owned();
                let lost = Gap::SlotLost { slot: name, reason };
                self.begin_without_slot(Some(lost)).await
            }
        }
    }

    /// There is a slot: holding it comes first. An instance that waits for it must not touch the producer,
    /// which would fence the healthy one.
    async fn resume(&mut self, slot: &Slot) -> Result<Begun, Error> {
        let (mut identity, mut connection) = self.connect_replication().await?;
        let history = self.history(&mut connection, &identity).await?;
        self.let_standbys_keep(slot, &mut connection).await?;
        let mut stream = self.start_replication(connection, Lsn::ZERO).await?;
        let slot = &self.look_behind_the_slot(&mut identity).await?;
        let work = async {
            let mut taken = self.take_log().await?;
            let before = taken.progress.take();
            let goes_on = self.go_on(slot, &identity, &history, before, &taken.topic_ids);
            let way = goes_on.await?;
            self.asked_rightly(match &way {
                Way::On(progress) | Way::Reread(progress) => Some(progress),
                Way::Sweep(_) | Way::Anew(_) => None,
            })?;
            let (progress, anew) = match way {
                Way::On(progress) => (progress, false),
                Way::Anew(before) => (before, true),
                Way::Reread(progress) => {
                    first_start::publish_progress(&mut taken.publisher, &progress).await?;
                    (progress, false)
                }
                Way::Sweep(before) => {
                    let from = slot.confirmed_flush.unwrap_or(identity.xlogpos);
                    let position = at(from, &before);
                    let progress = self.sweeping(before, &identity, position).await?;
                    // Before the stream: killed earlier, the next session finds the same gap; later, none.
                    first_start::publish_progress(&mut taken.publisher, &progress).await?;
                    (progress, false)
                }
            };
            Ok((taken.publisher, progress, anew))
        };
        let (publisher, progress, anew) = match &self.publication_gone {
            None => keep_alive(&mut stream, &self.database, Lsn::ZERO, work).await?,
            // The server may have ended this stream already. Who gets the slot then fences us before he looks.
            Some(_) => work.await?,
        };
        if anew {
            drop(stream);
            let (identity, connection) = self.connect_replication().await?;
            let server = (identity, connection);
            let before = Some(progress);
            return self.begin_anew(publisher, before, server, true).await;
        }
        Ok(Begun {
            stream,
            publisher,
            progress,
        })
    }

    /// Compares slot, server and topics with progress.
    async fn go_on(
        &self,
        slot: &Slot,
        identity: &SystemIdentity,
        history: &TimelineHistory,
        progress: Option<Progress>,
        topic_ids: &TopicIds,
    ) -> Result<Way, Error> {
        let name = self.config.slot_name();
        let Some(mut progress) = progress else {
            let seq = self.highest_seq().await?;
            let adopted = self.adopt(identity, seq.unwrap_or(0)).await?;
            return Ok(self.behind_gap(adopted));
        };
        if !progress.has_begun() {
            self.decided(&progress, identity)?;
            if self.publication_gone.is_some() {
                return Ok(Way::Anew(progress));
            }
            // Killed behind the slot's creation and before the first rows: its snapshot is gone, but the
            // slot still stands where it began.
            tracing::warn!(
                slot = name,
                "the snapshot had not begun: its rows are read beside the stream"
            );
            progress.position = at(slot.confirmed_flush.unwrap_or(Lsn::ZERO), &progress);
            progress.system_id.clone_from(&identity.system_id);
            progress.timeline = identity.timeline;
            remember_ids(&mut progress, topic_ids);
            return Ok(Way::On(progress));
        }
        let offer = Offer {
            slot: &name,
            confirmed: slot.confirmed_flush,
            identity,
            history,
        };
        let found = gap::find(&offer, &progress)
            .and_then(|confirm| self.undecodable().map_or(Ok(confirm), Err));
        match found {
            Ok(confirm) => {
                if identity.timeline != progress.timeline {
                    tracing::warn!(
                        timeline = identity.timeline,
                        before = progress.timeline,
                        "another server is the primary now, and has all that is in the topics: going on"
                    );
                }
                progress.timeline = identity.timeline;
                progress.position.confirm_at_most(confirm);
                self.behind_lost_topics(progress, topic_ids)
            }
            Err(gap) => {
                gap.decide(&self.config, self.adopts())?;
                Ok(self.behind_gap(progress))
            }
        }
    }

    /// Where topics are others now, or have lost records, what their tables hold is read again; all else goes on.
    fn behind_lost_topics(
        &self,
        mut progress: Progress,
        topic_ids: &TopicIds,
    ) -> Result<Way, Error> {
        let lost = &self.lost_records;
        let Some(gap) = lost_topics::find(&progress, topic_ids, lost) else {
            remember_ids(&mut progress, topic_ids);
            return Ok(Way::On(progress));
        };
        gap.decide(&self.config, self.adopts())?;
        lost_topics::read_again(&mut progress, topic_ids, lost);
        Ok(Way::Reread(progress))
    }

    /// Whatever the gap is: where a publication was not there, the slot fails at every start.
    fn behind_gap(&self, before: Progress) -> Way {
        match self.publication_gone {
            None => Way::Sweep(before),
            Some(_) => Way::Anew(before),
        }
    }

    fn undecodable(&self) -> Option<Gap> {
        let publication = self.publication_gone.clone()?;
        Some(Gap::PublicationGone { publication })
    }

    /// There is no slot, or one that is of no use: a first start, or a gap.
    async fn begin_without_slot(&mut self, lost: Option<Gap>) -> Result<Begun, Error> {
        self.selection = None;
        let taken = self.take_log().await?;
        self.unless_done(taken.progress.as_ref())?;
        let (identity, mut connection) = self.connect_replication().await?;
        let history = self.history(&mut connection, &identity).await?;
        match &taken.progress {
            Some(progress) if progress.has_begun() => {
                self.decide_without_slot(progress, &identity, &history, lost.as_ref())?;
            }
            Some(progress) => self.decided(progress, &identity)?,
            None => {}
        }
        let before = match taken.progress {
            None => match self.highest_seq().await? {
                Some(seq) => Some(self.adopt(&identity, seq).await?),
                None => None,
            },
            progress => progress,
        };
        let server = (identity, connection);
        self.begin_anew(taken.publisher, before, server, lost.is_some())
            .await
    }

    /// What to do about the gap that a lost or missing slot is.
    fn decide_without_slot(
        &self,
        progress: &Progress,
        identity: &SystemIdentity,
        history: &TimelineHistory,
        lost: Option<&Gap>,
    ) -> Result<(), Error> {
        let slot = self.config.slot_name();
        let offer = Offer {
            slot: &slot,
            confirmed: None,
            identity,
            history,
        };
        match (gap::find(&offer, progress), lost) {
            (Ok(_), _) => Ok(()),
            (Err(Gap::SlotMissing { .. }), Some(lost)) => lost.decide(&self.config, self.adopts()),
            (Err(gap), _) => gap.decide(&self.config, self.adopts()),
        }
    }

    /// A sweep whose slot's beginning is not in the log yet was decided on for one server: another one is another gap.
    fn decided(&self, progress: &Progress, identity: &SystemIdentity) -> Result<(), Error> {
        match gap::lineage(identity, progress) {
            Err(gap) if progress.sweeps() => gap.decide(&self.config, self.adopts()),
            _ => Ok(()),
        }
    }

    /// Begins with a new slot: a first start, or a sweep. `stale` says that there is one, which is of no use.
    async fn begin_anew(
        &mut self,
        publisher: Publisher,
        before: Option<Progress>,
        (identity, connection): (SystemIdentity, ReplicationConnection),
        stale: bool,
    ) -> Result<Begun, Error> {
        match before {
            // That, too, for a sweep that was decided on, and killed before its slot was there.
            Some(before) if before.has_begun() || before.sweeps() => {
                let server = (&identity, connection);
                self.begin_sweep(publisher, before, server, stale).await
            }
            before => {
                drop(connection);
                self.make_room(stale).await?;
                first_start::run(self, publisher, before).await
            }
        }
    }

    /// Goes on behind a gap with a new slot: every row is read again beside its stream.
    async fn begin_sweep(
        &mut self,
        mut publisher: Publisher,
        before: Progress,
        (identity, mut connection): (&SystemIdentity, ReplicationConnection),
        stale: bool,
    ) -> Result<Begun, Error> {
        let unknown = Position::at_consistent_point(Lsn::ZERO, before.position.seq());
        let mut progress = self.sweeping(before, identity, unknown).await?;
        // Before the slot, as at a first start: with what the log said before, a new slot would be a gap of its own, and
        // nobody would be there any more who has decided about this one.
        first_start::publish_progress(&mut publisher, &progress).await?;
        self.monitor.observe(&progress);
        failpoint::hit(failpoint::CREATING_SLOT);
        self.make_room(stale).await?;
        let created = first_start::create_slot(self, &mut connection).await?;
        failpoint::hit(failpoint::CREATED_SLOT);
        self.let_standbys_keep_new(&mut connection).await?;
        let consistent = created.consistent_point;
        let mut stream = self.start_replication(connection, consistent).await?;
        progress.position = at(consistent, &progress);
        self.follow_all(&mut progress)?;
        let begun = first_start::publish_progress(&mut publisher, &progress);
        keep_alive(&mut stream, &self.database, Lsn::ZERO, begun).await?;
        Ok(Begun {
            stream,
            publisher,
            progress,
        })
    }

    /// With `snapshot.mode` "only" there is nothing to begin once all rows are in the log.
    fn unless_done(&self, progress: Option<&Progress>) -> Result<(), Error> {
        let is_done = progress.is_some_and(|known| known.has_begun() && known.is_read());
        if is_done && self.config.snapshot.mode == SnapshotMode::Only {
            let done = "all rows are in the log, and snapshot.mode is \"only\"";
            tracing::info!("{done}");
            return Err(Error::interrupted(done));
        }
        Ok(())
    }

    /// What stands before a new slot: no old one, and both publications, which its stream needs from its beginning on.
    async fn make_room(&mut self, stale: bool) -> Result<(), Error> {
        if stale {
            drop_free(&self.client, &self.database, &self.config.slot_name()).await?;
        }
        if self.publication_gone.is_some() {
            let mut catalog = Catalog::new(&self.client, &self.database);
            let selection = catalog.select(&self.config.wanted()).await?;
            let (client, names) = (&self.client, self.config.publications());
            let right = publication::put_right(client, &self.database, &names, &selection, false);
            (self.members, _) = right.await?;
        }
        Ok(())
    }

    /// Takes over where the tables are in the publications, which may just have been made.
    fn follow_all(&self, progress: &mut Progress) -> Result<(), Error> {
        for table in &self.tables {
            let topic = self.config.topic_name(&table.table)?;
            if let Some(known) = progress.tables.get_mut(&topic) {
                self.follow(table, &mut known.followed);
            }
        }
        Ok(())
    }

    /// The progress with which the stream goes on from `position` behind a gap: every row is read again beside it, at a
    /// higher `seq`, and what is not there any more is swept.
    async fn sweeping(
        &self,
        before: Progress,
        identity: &SystemIdentity,
        position: Position,
    ) -> Result<Progress, Error> {
        let mut progress = Progress::new(identity.system_id.clone(), identity.timeline, position);
        progress.signals_offset = before.signals_offset;
        progress.snapshots_paused = before.snapshots_paused;
        progress.tables = first_start::unread_again(self, before, position.seq() + 1).await?;
        Ok(progress)
    }

    /// Behind the slot: topics, producer, progress, in this order.
    async fn take_log(&self) -> Result<Taken, Error> {
        let specs = topic_specs(&self.config, self.tables.iter().map(|one| &one.table))?;
        let topics = "comparing and creating topics";
        let ensure = async |counter: Counter| self.registrar.ensure_topics(&specs, &counter).await;
        let topic_ids = steps::during(&self.health, topics, ensure).await?;
        let publisher = Publisher::start(&self.config).await?;
        failpoint::hit(failpoint::TAKEN_OVER);
        let config = std::sync::Arc::clone(&self.config);
        let progress = tokio::task::spawn_blocking(move || log_end::progress(&config));
        let progress = progress.await.map_err(Error::stop)??;
        let progress = progress.map(|known| self.of_these_topics(known, &topic_ids));
        let progress = progress.transpose()?;
        self.refuse_topics_of_others(progress.as_ref()).await?;
        Ok(Taken {
            publisher,
            progress,
            topic_ids,
        })
    }

    /// Topics that progress does not know must not be another source's, whatever we were told to do.
    async fn refuse_topics_of_others(&self, progress: Option<&Progress>) -> Result<(), Error> {
        let tables = self.tables.iter();
        let topics: Result<Vec<String>, Error> = tables
            .map(|table| self.config.topic_name(&table.table))
            .collect();
        let is_known = |topic: &String| progress.is_some_and(|p| p.tables.contains_key(topic));
        let new = topics?.into_iter().filter(|topic| !is_known(topic));
        self.claims.refuse_those_of_others(new).await
    }

    async fn history(
        &self,
        connection: &mut ReplicationConnection,
        identity: &SystemIdentity,
    ) -> Result<TimelineHistory, Error> {
        let history = connection.timeline_history(identity.timeline).await;
        history.map_err(|error| self.database.explain_replication(error))
    }

    /// Makes the slot one that a promoted standby has as well, where the server can.
    pub(crate) async fn let_standbys_keep(
        &self,
        slot: &Slot,
        connection: &mut ReplicationConnection,
    ) -> Result<(), Error> {
        if slot.failover != Some(false) {
            return Ok(());
        }
        let altered = connection
            .make_failover_slot(&self.config.slot_name())
            .await;
        altered.map_err(|error| self.database.explain_replication(error))
    }

    /// The same for a slot that was just created: whether the server can is seen there.
    pub(crate) async fn let_standbys_keep_new(
        &self,
        connection: &mut ReplicationConnection,
    ) -> Result<(), Error> {
        let name = self.config.slot_name();
        match Slot::read(&self.client, &self.database, &name).await? {
            Some(slot) => self.let_standbys_keep(&slot, connection).await,
            None => Ok(()),
        }
    }

    async fn highest_seq(&self) -> Result<Option<u64>, Error> {
        let topics: Vec<(String, i32)> = self.real_partitions().await?.into_iter().collect();
        let config = Arc::clone(&self.config);
        let read = async |counter: Counter| {
            let read = move || log_end::highest_seq(&config, &topics, &counter);
            tokio::task::spawn_blocking(read)
                .await
                .map_err(Error::retry)?
        };
        let partitions = "looking for the highest seq at the ends of the topics' partitions";
        steps::during(&self.health, partitions, read).await
    }

    /// What takes the place of a lost progress record, if we are told to go on without: `seq` goes on above all
    /// that is in the topics.
    async fn adopt(&self, identity: &SystemIdentity, seq: u64) -> Result<Progress, Error> {
        if !self.adopts() {
            return Err(Error::stop_msg(format!(
                "topic '{}' has no progress of source '{}', but there is a slot, or records in its topics: what is in them is unknown",
                self.config.progress_topic(),
                self.config.name
            ))
            .remedy("restore the topic; or `tributary-source run --adopt`, once: seq goes on above all that is in the topics, and every row is read again; or start over with a new `name` and kafka.topic_prefix"));
        }
        tracing::warn!(
            seq,
            "progress is lost: adopting what is in the topics; every row is read again"
        );
        let position = Position::at_consistent_point(identity.xlogpos, seq);
        let mut before = Progress::new(identity.system_id.clone(), identity.timeline, position);
        let real = self.real_partitions().await?;
        for table in &self.tables {
            let spec = topic_spec(&self.config, &table.table)?;
            let partitions = real.get(&spec.name).copied();
            before.tables.insert(
                spec.name,
                TableProgress {
                    table: format!("{}.{}", table.table.schema, table.table.name),
                    oid: table.table.oid,
                    partitions: partitions.unwrap_or(spec.partitions),
                    key_schema_id: None,
                    // That of the records that are there is not known: it is taken to be this one.
                    followed: Followed {
                        key: table.key(),
                        ..Followed::default()
                    },
                    snapshot: None,
                    topic_id: None,
                },
            );
        }
        Ok(before)
    }
}

/// The position at which a slot begins, with all that is in the log before.
fn at(consistent: Lsn, before: &Progress) -> Position {
    let mut position = before.position;
    Position::at_consistent_point(consistent, position.next_seq(consistent))
}
