//! What the stream does about tables that appear, go and change.

use super::Streaming;
use super::membership::{Membership, TableCommand};
use crate::change::relation::RelationShape;
use crate::log::progress::SnapshotRequest;
use crate::log::progress::TableProgress;
use crate::log::steps::Counter;
use crate::log::table_topic::{TableTopic, topic_spec};
use crate::run::session::{Session, keep_alive};
use crate::run::watch::Surveyed;
use futures::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tributary_postgres::catalog::{CatalogTable, KnownTypes, TopicNames};
use tributary_runtime::{Error, Policy, ResultExt};

/// How soon a table that could not be taken in is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// So many tables are taken in before the stream goes on.
const TAKEN_AT_ONCE: usize = 64;
/// So many of them are prepared at the same time.
const PREPARED_AT_ONCE: usize = 16;

impl Streaming {
    /// Takes over what the catalog's watch has seen, once the stream has passed it.
    pub(super) async fn attend_tables(&mut self) -> Result<(), Error> {
        let again = self.tables.left.is_some_and(|at| at <= Instant::now());
        let survey = match self.tables.watch.take(self.received) {
            Some(survey) => {
                self.tables.taken_to = None;
                survey
            }
            None if again => match self.tables.membership.last() {
                Some(survey) => Arc::clone(survey),
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        self.tables.left = None;
        if let Some(problem) = &survey.facts.fault {
            return Err(problem.clone().into());
        }
        if let Some(publication) = &survey.facts.gone {
            // What that means is for the next start to say, which compares.
            return Err(Error::retry_msg(format!(
                "publication '{publication}' is gone"
            )));
        }
        let missed = Membership::miss(&self.progress.get().tables, &survey.facts);
        self.carry_out(missed);
        self.remember_truncates();
        let mut unread = Vec::new();
        for (topic, surveyed) in &survey.facts.tables {
            let known = self.progress.get().tables.get(topic);
            let membership = &mut self.tables.membership;
            let found = membership.consider(known, (topic, surveyed), &survey);
            self.carry_out(found.commands);
            if let Some(why) = found.take_in {
                unread.push((topic.as_str(), surveyed, why));
            }
            if found.learn_again {
                self.learn_again(topic, surveyed.table.table.oid).await?;
            }
        }
        let taken_to = self.tables.taken_to.take();
        if let Some(done) = &taken_to {
            unread.retain(|(topic, ..)| *topic > done.as_str());
        }
        let is_all = unread.len() <= TAKEN_AT_ONCE;
        unread.truncate(TAKEN_AT_ONCE);
        let last = unread.last().map(|(topic, ..)| (*topic).to_owned());
        self.take_in_all(unread).await?;
        if !is_all {
            // The stream goes on in between.
            self.tables.taken_to = last;
            self.tables.left = Some(Instant::now());
        } else if taken_to.is_some() {
            // An earlier round may have left some out.
            self.tables.left.get_or_insert(Instant::now() + AGAIN);
        }
        self.tables.membership.settle(survey);
        Ok(())
    }

    /// Does what is to be done.
    fn carry_out(&mut self, commands: Vec<TableCommand>) {
        for command in commands {
            match command {
                TableCommand::Remember(topic, table) => {
                    self.progress.get_mut().tables.insert(topic, *table);
                }
                TableCommand::Lose(topic, why) => self.lose(&topic, why),
                TableCommand::Read(topic, request, why) => {
                    let table = self.name_of(&topic);
                    match &request.filter {
                        Some(only) => tracing::info!(table, only, "{why}"),
                        None => tracing::warn!(table, "{why}"),
                    }
                    self.request_snapshot(&topic, request);
                }
                TableCommand::LeaveUnread(topic, why) => tracing::warn!(
                    table = self.name_of(&topic),
                    "{why}: what its old rows got by that is not in the topic, since snapshot.mode is \"never\""
                ),
            }
        }
    }

    /// The name of a topic's table.
    pub(super) fn name_of(&self, topic: &str) -> Option<&str> {
        let known = self.progress.get().tables.get(topic);
        known.map(|known| &*known.table)
    }

    /// A table is not followed any more.
    fn lose(&mut self, topic: &str, why: &str) {
        self.abandon(topic);
        if let Some(known) = self.progress.get_mut().tables.get_mut(topic) {
            tracing::warn!(
                table = known.table,
                topic,
                "the table is {why}: its topic stays as it is, and is brought up to date if a table of this name comes back"
            );
            known.leave();
        }
    }

    /// A Relation message names a table that is known by another name: under that one nothing more comes.
    pub(super) fn renamed(&mut self, shape: &RelationShape) {
        let config = &self.session.config;
        let topic = config.topic_of(shape.schema(), shape.name()).ok();
        // A catalog that was looked at before the transaction's commit has the name of before.
        let at = self.received.max(self.translator.begun());
        let known = &self.progress.get().tables;
        let membership = &mut self.tables.membership;
        let lost = membership.renamed(known, (shape.oid, topic.as_deref()), at);
        if !lost.is_empty() {
            // It may have its name back before anybody looks.
            self.tables.watch.want();
        }
        self.carry_out(lost);
    }

    /// Takes over what a Relation message says of a table.
    pub(super) fn learned(&mut self, table: &TableTopic, types: &KnownTypes) {
        let known = self.progress.get().tables.get(&*table.topic);
        let commands = known.map(|known| Membership::learned(known, table, types));
        self.carry_out(commands.unwrap_or_default());
    }

    /// Tables whose newest schema cannot read what is in their topics.
    pub(super) fn attend_types(&mut self) {
        for topic in self.session.registrar.take_retyped() {
            let known = self.progress.get().tables.get(&topic);
            let commands = known.map(|known| Membership::retyped(&topic, known));
            self.carry_out(commands.unwrap_or_default());
        }
    }

    /// Keeps which transactions truncated a partitioned table: the catalog shows new files of its partitions as it does where
    /// one of them was truncated alone, of which the stream does not tell. In the log no later than what they did, so that
    /// a kill does not make news of it.
    pub(super) fn remember_truncates(&mut self) {
        for (topic, xid) in self.translator.take_truncated() {
            let known = self.progress.get().tables.get(&*topic);
            let is_partitioned = known.is_some_and(|known| !known.followed.leaves.is_empty());
            if is_partitioned && let Some(known) = self.progress.get_mut().tables.get_mut(&topic) {
                known.followed.truncated(xid);
            }
        }
    }

    /// Reads all rows of tables into their topics, which are created where they are new.
    async fn take_in_all(&mut self, tables: Vec<(&str, &Surveyed, &str)>) -> Result<(), Error> {
        if tables.is_empty() {
            return Ok(());
        }
        let known = &self.progress.get().tables;
        let known = tables.iter().map(|(topic, ..)| known.get(*topic).cloned());
        let known: Vec<Option<TableProgress>> = known.collect();
        let new = tables
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none());
        let new: Vec<String> = new.map(|((topic, ..), _)| (*topic).to_owned()).collect();
        let claimed = keep_alive(
            &mut self.stream,
            &self.session.database,
            self.durable.confirm(),
            self.session.claims.of_others(new.into_iter()),
        );
        let mut claimed = Box::pin(claimed).await?;
        let claimed: Vec<Option<Error>> = tables
            .iter()
            .map(|(topic, ..)| claimed.remove(*topic))
            .collect();
        let preparing = claimed.into_iter().enumerate().map(|(at, claimed)| {
            let (_, Surveyed { table, .. }, _) = tables[at];
            let (session, known) = (&self.session, known[at].as_ref());
            async move {
                if let Some(claimed) = claimed {
                    return Err(claimed);
                }
                prepare(session, table, known)
                    .await
                    .doing(|| format!("take table {} in", table.display_name()))
            }
        });
        let preparing = stream::iter(preparing).buffered(PREPARED_AT_ONCE);
        let prepared = keep_alive(
            &mut self.stream,
            &self.session.database,
            self.durable.confirm(),
            async { Ok(preparing.collect::<Vec<_>>().await) },
        );
        let prepared = Box::pin(prepared).await?;
        for ((table, known), prepared) in tables.into_iter().zip(known).zip(prepared) {
            self.take_in(table, known, prepared).await?;
        }
        Ok(())
    }

    /// Reads all rows of a table that is prepared.
    async fn take_in(
        &mut self,
        (topic, surveyed, why): (&str, &Surveyed, &str),
        known: Option<TableProgress>,
        prepared: Result<TableTopic, Error>,
    ) -> Result<(), Error> {
        let table = &surveyed.table;
        let published = match prepared {
            Ok(published) => published,
            // A new table must not end what others need.
            Err(error) if known.is_none() && error.policy() == Policy::Stop => {
                self.tables.left = Some(Instant::now() + AGAIN);
                if self.tables.told.insert(error.to_string()) {
                    tracing::warn!(%error, topic, "a new table is left out; it is tried again");
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut now = published.progress();
        now.followed.place(surveyed.place, table);
        tracing::info!(table = now.table, topic, "taking the table in: {why}");
        self.decoder.forget(&table.table.schema, &table.table.name);
        self.progress.get_mut().tables.insert(topic.to_owned(), now);
        if self.tables.membership.reads_all(known.as_ref()) {
            let request = SnapshotRequest {
                sweep: known.is_some(),
                filter: None,
            };
            self.request_snapshot(topic, request);
        }
        self.learn_again(topic, table.table.oid).await
    }

    /// Looks a table up again whose shape the stream has told already: it will not tell it again.
    async fn learn_again(&mut self, topic: &str, oid: u32) -> Result<(), Error> {
        let Some(shape) = self.translator.shape(oid).cloned() else {
            return Ok(());
        };
        // Behind a rename it does.
        let named = self.session.config.topic_of(shape.schema(), shape.name());
        if named.is_ok_and(|named| named == topic) {
            self.learn(&shape).await?;
        }
        Ok(())
    }
}

/// Makes a table ready to be published: its topic, its schemas.
async fn prepare(
    session: &Session,
    table: &CatalogTable,
    known: Option<&TableProgress>,
) -> Result<TableTopic, Error> {
    if known.is_none() {
        let spec = topic_spec(&session.config, &table.table)?;
        let registrar = &session.registrar;
        registrar
            .ensure_topics(&[spec], &Counter::default())
            .await?;
    }
    session.registrar.publish(table.table.clone(), known).await
}
