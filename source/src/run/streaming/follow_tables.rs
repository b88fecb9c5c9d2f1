//! What the stream does about tables that appear, go and change.

use super::Streaming;
use crate::change::relation::RelationShape;
use crate::config::SnapshotMode;
use crate::log::progress::Followed;
use crate::log::progress::SnapshotRequest;
use crate::log::progress::TableProgress;
use crate::log::steps::Counter;
use crate::log::table_topic::{TableTopic, topic_spec};
use crate::run::session::{Session, keep_alive};
use crate::run::watch::{Survey, Surveyed};
use futures::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tributary_postgres::catalog::{CatalogTable, KnownTypes, TopicNames};
use tributary_postgres::publication::NewOwners;
use tributary_runtime::{Error, Policy, ResultExt};

/// How soon a table that could not be taken in is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// So many tables are taken in before the stream goes on.
const TAKEN_AT_ONCE: usize = 64;
/// So many of them are prepared at the same time.
const PREPARED_AT_ONCE: usize = 16;

/// What is to be done about a table.
enum Finding {
    /// All its rows are read, for this reason.
    Read(&'static str),
    /// Its rows have other values, for this reason.
    Values(&'static str),
    /// Its partitions are others than before.
    Partitions,
    /// Its types are: an enum has other labels.
    Types,
}

impl Streaming {
    /// Takes over what the catalog's watch has seen, once the stream has passed it.
    pub(super) async fn attend_tables(&mut self) -> Result<(), Error> {
        let again = self.tables.left.is_some_and(|at| at <= Instant::now());
        let survey = match self.tables.watch.take(self.received) {
            Some(survey) => {
                self.tables.taken_to = None;
                survey
            }
            None if again => match &self.tables.last {
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
        self.miss_tables(&survey);
        self.remember_truncates();
        let mut unread = Vec::new();
        for (topic, surveyed) in &survey.facts.tables {
            let renamed = self.tables.renamed.get(topic);
            if renamed.is_some_and(|at| *at > survey.since) {
                continue;
            }
            self.tables.renamed.remove(topic);
            self.take_over_truncates(topic, &surveyed.table);
            self.take_over_owner(topic, surveyed.place, &survey.facts.new_owners);
            let finding = self.finding(topic, surveyed);
            let relabelled = self.is_relabelled(topic, &surveyed.table);
            match finding {
                None | Some(Finding::Types) => {}
                Some(Finding::Read(why)) => unread.push((topic.as_str(), surveyed, why)),
                Some(Finding::Values(why)) => self.values_changed(topic, surveyed, why),
                Some(Finding::Partitions) => self.partitions_changed(topic, &surveyed.table),
            }
            let is_read = matches!(finding, Some(Finding::Read(_)));
            if matches!(finding, Some(Finding::Types)) || (relabelled && !is_read) {
                self.learn_again(topic, surveyed.table.table.oid).await?;
            }
            self.remember_storage(topic, &surveyed.table);
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
        self.tables.last = Some(survey);
        Ok(())
    }

    /// A table's publication has another owner: its place is another one by that alone.
    fn take_over_owner(&mut self, topic: &str, place: u64, new_owners: &NewOwners) {
        let known = self.progress.get().tables.get(topic);
        let before = known.map(|known| known.followed.place);
        if before.is_some_and(|before| before != place && new_owners.place(before) == place)
            && let Some(known) = self.progress.get_mut().tables.get_mut(topic)
        {
            known.followed.place = place;
        }
    }

    /// Whether an enum has other labels than progress remembers: the stream's shape may be older than the first look of
    /// this session.
    fn is_relabelled(&self, topic: &str, table: &CatalogTable) -> bool {
        let known = self.progress.get().tables.get(topic);
        let storage = known.and_then(|known| known.followed.storage.as_ref());
        storage.is_some_and(|storage| storage.has_other_labels(&table.storage))
    }

    fn finding(&self, topic: &str, surveyed: &Surveyed) -> Option<Finding> {
        let table = &surveyed.table;
        let Some(known) = self.progress.get().tables.get(topic) else {
            return Some(Finding::Read("it is new"));
        };
        let followed = &known.followed;
        if known.oid != table.table.oid {
            return Some(Finding::Read("it is another table of the same name"));
        }
        if followed.absent {
            return Some(Finding::Read("it is back"));
        }
        if followed.place != surveyed.place {
            return Some(Finding::Read(
                "it was out of its publication for a while, or the publication was altered",
            ));
        }
        if followed.key != table.key() {
            return Some(Finding::Read("it has another key"));
        }
        let given = followed.storage.as_ref();
        if let Some(why) = given.and_then(|storage| table.given_since(storage)) {
            return Some(Finding::Values(why));
        }
        if followed.leaves != table.leaves {
            return Some(Finding::Partitions);
        }
        let last = self.tables.last.as_ref()?.facts.tables.get(topic)?;
        let types = |table: &CatalogTable| {
            let columns = table.table.columns.iter();
            let types = columns.map(|column| (column.attnum, column.column_type.clone()));
            types.collect::<Vec<_>>()
        };
        (types(&last.table) != types(table)).then_some(Finding::Types)
    }

    /// Marks the tables that are not there any more; their topics stay as they are.
    fn miss_tables(&mut self, survey: &Survey) {
        let facts = &survey.facts;
        let tables = self.progress.get().tables.iter();
        let missed = tables.filter(|(topic, known)| {
            !known.followed.absent
                && !facts.tables.contains_key(*topic)
                && facts.untold.get(&known.oid) != Some(&known.table)
        });
        let missed: Vec<String> = missed.map(|(topic, _)| topic.clone()).collect();
        for topic in missed {
            self.lose(
                &topic,
                "dropped, renamed, out of its publication or not selected any more",
            );
        }
    }

    /// A table is not followed any more.
    fn lose(&mut self, topic: &str, why: &str) {
        self.chunks.abandon(topic);
        if let Some(known) = self.progress.get_mut().tables.get_mut(topic) {
            tracing::warn!(
                table = known.table,
                topic,
                "the table is {why}: its topic stays as it is, and is brought up to date if a table of this name comes back"
            );
            known.followed.leave();
            known.snapshot = None;
        }
    }

    /// A Relation message names a table that is known by another name: under that one nothing more comes.
    pub(super) fn renamed(&mut self, shape: &RelationShape) {
        let config = &self.session.config;
        let now = config.topic_of(shape.schema(), shape.name()).ok();
        let tables = self.progress.get().tables.iter();
        let before = tables.filter(|(topic, known)| {
            known.oid == shape.oid && Some(*topic) != now.as_ref() && !known.followed.absent
        });
        let before: Vec<String> = before.map(|(topic, _)| topic.clone()).collect();
        for topic in before {
            self.lose(&topic, "renamed");
            // A catalog that was looked at before the transaction's commit has the name of before.
            let at = self.received.max(self.translator.begun());
            self.tables.renamed.insert(topic, at);
            // It may have its name back before anybody looks.
            self.tables.watch.want();
        }
    }

    /// A Relation message gives a table another key, and that is allowed: from here on its records have that one.
    pub(super) fn key_changed(&mut self, table: &TableTopic) {
        let Some(known) = self.progress.get().tables.get(&*table.topic) else {
            return;
        };
        if !table.has_other_key(known) {
            return;
        }
        let followed = known.followed.clone();
        let mut now = table.progress();
        now.followed = Followed {
            key: now.followed.key,
            rekeyed: true,
            ..followed
        };
        tracing::warn!(
            table = now.table,
            "the table has another key: all its rows are read again under it, and those under the old one are gone then"
        );
        let tables = &mut self.progress.get_mut().tables;
        tables.insert(table.topic.to_string(), now);
        self.request_all(&table.topic, true);
    }

    /// Keeps what neither a later message nor a later catalog may say.
    pub(super) fn remember_dimensions(&mut self, table: &TableTopic) {
        let mut new = table.dimensions();
        let Some(known) = self.progress.get().tables.get(&*table.topic) else {
            return;
        };
        new.retain(|name, count| known.followed.dimensions.get(name) != Some(count));
        if !new.is_empty()
            && let Some(known) = self.progress.get_mut().tables.get_mut(&table.topic)
        {
            known.followed.dimensions.extend(new);
        }
    }

    /// Keeps what the columns' types are, before the watch has seen them: they may be dropped while their changes are
    /// still to come.
    pub(super) fn remember_types(&mut self, table: &TableTopic, types: &KnownTypes) {
        let known = self.progress.get().tables.get(&*table.topic);
        let Some(storage) = known.and_then(|known| known.followed.storage.as_ref()) else {
            return;
        };
        let mut with = storage.clone();
        with.types.add(types);
        if with != *storage
            && let Some(known) = self.progress.get_mut().tables.get_mut(&table.topic)
        {
            known.followed.storage = Some(with);
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
        if known.is_some() || self.session.config.snapshot.mode != SnapshotMode::Never {
            self.request_all(topic, known.is_some());
        }
        self.learn_again(topic, table.table.oid).await
    }

    /// Partitions were attached, detached, dropped, truncated or rewritten, of which the stream says nothing.
    fn partitions_changed(&mut self, topic: &str, table: &CatalogTable) {
        let Some(known) = self.progress.get_mut().tables.get_mut(topic) else {
            return;
        };
        let before = std::mem::replace(&mut known.followed.leaves, table.leaves.clone());
        let added: Vec<String> = table
            .leaves
            .keys()
            .filter(|oid| !before.contains_key(oid))
            .map(u32::to_string)
            .collect();
        let only_added = before
            .iter()
            .all(|(oid, state)| table.leaves.get(oid) == Some(state));
        let under_way = known
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.below.is_some());
        let keyless = known.key_schema_id.is_none();
        let name = known.table.clone();
        if only_added && under_way.is_none() && !keyless {
            tracing::info!(
                table = name,
                partitions = added.len(),
                "reading the rows of new partitions"
            );
            let filter = format!("tableoid IN ({})", added.join(", "));
            let request = SnapshotRequest {
                sweep: false,
                filter: Some(filter),
            };
            self.request_snapshot(topic, request);
            return;
        }
        tracing::warn!(
            table = name,
            "reading all rows of the table: partitions were attached, detached, dropped, truncated or rewritten"
        );
        self.request_all(topic, !only_added || keyless || under_way == Some(true));
    }

    /// A statement gave old rows values of which the stream says nothing.
    fn values_changed(&mut self, topic: &str, surveyed: &Surveyed, why: &str) {
        let Some(known) = self.progress.get_mut().tables.get_mut(topic) else {
            return;
        };
        known.followed.place(surveyed.place, &surveyed.table);
        let table = known.table.clone();
        if self.session.config.snapshot.mode == SnapshotMode::Never {
            tracing::warn!(
                table,
                "{why}: what its old rows got by that is not in the topic, since snapshot.mode is \"never\""
            );
            return;
        }
        tracing::warn!(table, "reading all rows of the table again: {why}");
        self.request_all(topic, true);
    }

    /// What is found now is no news later, even behind a kill.
    fn remember_storage(&mut self, topic: &str, table: &CatalogTable) {
        let Some(known) = self.progress.get().tables.get(topic) else {
            return;
        };
        let storage = known.followed.storage.as_ref();
        if storage.is_some_and(|storage| storage.has(&table.storage)) {
            return;
        }
        if let Some(known) = self.progress.get_mut().tables.get_mut(topic) {
            known.followed.store(table);
        }
    }

    /// Tables whose newest schema cannot read what is in their topics, as `on_type_change` allows it: what is there is
    /// replaced.
    pub(super) fn attend_types(&mut self) {
        for topic in self.session.registrar.take_retyped() {
            let Some(known) = self.progress.get_mut().tables.get_mut(&topic) else {
                continue;
            };
            known.followed.rekeyed = true;
            tracing::warn!(
                table = known.table,
                topic,
                "a column has another type, which the schemas before cannot be read with: all rows of the table are read again"
            );
            self.request_all(&topic, true);
        }
    }

    fn request_all(&mut self, topic: &str, sweep: bool) {
        let request = SnapshotRequest {
            sweep,
            filter: None,
        };
        self.request_snapshot(topic, request);
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
