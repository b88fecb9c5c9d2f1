//! Which tables are followed, and which of their rows are read again: what the catalog's watch and the stream tell, compared
//! with what progress remembers (ADR 7). Nothing is done here: what is to be done is given back as commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_postgres::catalog::{CatalogTable, KnownTypes};
use tributary_postgres::publication::NO_PUBLICATION;
use tributary_schemas::Lsn;

use crate::config::SnapshotMode;
use crate::log::progress::{Followed, SnapshotRequest, TableProgress, Tables};
use crate::log::table_topic::TableTopic;
use crate::run::watch::{Facts, Survey, Surveyed};

/// What is to be done about a topic's table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableCommand {
    /// This is what progress remembers of it from now on.
    Remember(String, Box<TableProgress>),
    /// It is not followed any more, for this reason.
    Lose(String, &'static str),
    /// Rows of it are read beside the stream, for this reason.
    Read(String, SnapshotRequest, String),
    /// For this reason its old rows have other values, which are not read, since `snapshot.mode` is "never".
    LeaveUnread(String, &'static str),
}

/// What follows from what a survey says of a table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Consequences {
    pub(super) commands: Vec<TableCommand>,
    /// Its topic and its schemas are made ready, and then all its rows are read, for this reason.
    pub(super) take_in: Option<&'static str>,
    /// Its shape, which the stream has told, is looked up again: the stream will not tell it again.
    pub(super) learn_again: bool,
}

/// How a table differs from what is remembered of it.
enum Finding {
    /// It is taken in anew, for this reason.
    TakeIn(&'static str),
    /// Its rows have other values, for this reason.
    Values(&'static str),
    /// Its partitions are others than before.
    Partitions,
    /// Its types are: an enum has other labels.
    Types,
}

/// What is known of the tables beside progress.
pub(super) struct Membership {
    mode: SnapshotMode,
    /// The survey that counts, for what is compared with the one before.
    last: Option<Arc<Survey>>,
    /// By topic, where the stream told that its table has another name: an older survey does not know that.
    renamed: BTreeMap<String, Lsn>,
}

impl Membership {
    pub(super) const fn new(mode: SnapshotMode) -> Self {
        Self {
            mode,
            last: None,
            renamed: BTreeMap::new(),
        }
    }

    /// The survey that was taken over last.
    pub(super) const fn last(&self) -> Option<&Arc<Survey>> {
        self.last.as_ref()
    }

    /// A survey is taken over.
    pub(super) fn settle(&mut self, survey: Arc<Survey>) {
        self.last = Some(survey);
    }

    /// Whether all rows of a table are read that is taken in.
    pub(super) fn reads_all(&self, known: Option<&TableProgress>) -> bool {
        known.is_some() || self.mode != SnapshotMode::Never
    }

    /// Gives the tables up that are not there any more; their topics stay as they are.
    pub(super) fn miss(known: &Tables, facts: &Facts) -> Vec<TableCommand> {
        let missed = known.iter().filter(|(topic, known)| {
            !known.followed.absent
                && !facts.tables.contains_key(*topic)
                && facts.untold.get(&known.oid) != Some(&known.table)
        });
        let why = "dropped, renamed, out of its publication or not selected any more";
        missed
            .map(|(topic, _)| TableCommand::Lose(topic.clone(), why))
            .collect()
    }

    /// What follows from what a survey says of a table. Nothing, if the stream has told since that it has another name.
    pub(super) fn consider(
        &mut self,
        known: Option<&TableProgress>,
        (topic, surveyed): (&str, &Surveyed),
        survey: &Survey,
    ) -> Consequences {
        let renamed = self.renamed.get(topic);
        if renamed.is_some_and(|at| *at > survey.since) {
            return Consequences::default();
        }
        self.renamed.remove(topic);
        let take_in = |why| Consequences {
            take_in: Some(why),
            ..Consequences::default()
        };
        let Some(known) = known else {
            return take_in("it is new");
        };
        let Surveyed { table, place } = surveyed;
        let mut now = known.clone();
        // What the stream has told is no news in the catalog.
        now.followed.take_over_truncates(table);
        // The publication has another owner: the table's place in it is another one by that alone.
        if survey.facts.new_owners.place(now.followed.place) == *place {
            now.followed.place = *place;
        }
        let finding = self.finding(&now, (topic, surveyed));
        // The stream's shape may be older than the first look of this session.
        let storage = now.followed.storage.as_ref();
        let relabelled = storage.is_some_and(|storage| storage.has_other_labels(&table.storage));
        let read = match finding {
            Some(Finding::TakeIn(why)) => return take_in(why),
            Some(Finding::Values(why)) => Some(self.values_changed(topic, why)),
            Some(Finding::Partitions) => Some(partitions_changed(topic, &now, table)),
            Some(Finding::Types) | None => None,
        };
        // What is found now is no news later, even behind a kill.
        now.followed.place(*place, table);
        Consequences {
            commands: remember(topic, known, now)
                .into_iter()
                .chain(read)
                .collect(),
            take_in: None,
            learn_again: relabelled || matches!(finding, Some(Finding::Types)),
        }
    }

    fn finding(
        &self,
        known: &TableProgress,
        (topic, surveyed): (&str, &Surveyed),
    ) -> Option<Finding> {
        let (followed, table) = (&known.followed, &surveyed.table);
        if known.oid != table.table.oid {
            return Some(Finding::TakeIn("it is another table of the same name"));
        }
        if followed.absent {
            return Some(Finding::TakeIn("it is back"));
        }
        if followed.place != surveyed.place {
            return Some(Finding::TakeIn(
                "it was out of its publication for a while, or the publication was altered",
            ));
        }
        if followed.key != table.key() {
            return Some(Finding::TakeIn("it has another key"));
        }
        let storage = followed.storage.as_ref();
        if let Some(why) = storage.and_then(|storage| table.given_since(storage)) {
            return Some(Finding::Values(why));
        }
        // In a publication no table can be unlogged.
        let is_published = surveyed.place != NO_PUBLICATION;
        if !is_published && storage.is_some_and(|it| table.may_have_been_unlogged(it)) {
            return Some(Finding::Values(
                "it was written anew, and may have been unlogged meanwhile, when the WAL has none of its rows",
            ));
        }
        if followed.leaves != table.leaves {
            return Some(Finding::Partitions);
        }
        let last = self.last.as_ref()?.facts.tables.get(topic)?;
        let types = |table: &CatalogTable| {
            let columns = table.table.columns.iter();
            let types = columns.map(|column| (column.attnum, column.column_type.clone()));
            types.collect::<Vec<_>>()
        };
        (types(&last.table) != types(table)).then_some(Finding::Types)
    }

    /// A statement gave old rows values of which the stream says nothing.
    fn values_changed(&self, topic: &str, why: &'static str) -> TableCommand {
        if self.mode == SnapshotMode::Never {
            return TableCommand::LeaveUnread(topic.to_owned(), why);
        }
        let why = format!("reading all rows of the table again: {why}");
        TableCommand::Read(topic.to_owned(), all(true), why)
    }

    /// A Relation message names a table that other topics are known to be of: under their names nothing more comes. `at`: a
    /// survey that began before does not know that.
    pub(super) fn renamed(
        &mut self,
        known: &Tables,
        (oid, topic): (u32, Option<&str>),
        at: Lsn,
    ) -> Vec<TableCommand> {
        let before = known.iter().filter(|(before, known)| {
            known.oid == oid && Some(before.as_str()) != topic && !known.followed.absent
        });
        let before: Vec<String> = before.map(|(topic, _)| topic.clone()).collect();
        self.renamed
            .extend(before.iter().map(|topic| (topic.clone(), at)));
        before
            .into_iter()
            .map(|topic| TableCommand::Lose(topic, "renamed"))
            .collect()
    }

    /// A Relation message gives a table this shape. From here on its records have another key, if that is another one: it is
    /// allowed. What neither a later message nor a later catalog may say is kept: dimensions, and types, which may be dropped
    /// while their changes are still to come.
    pub(super) fn learned(
        known: &TableProgress,
        table: &TableTopic,
        types: &KnownTypes,
    ) -> Vec<TableCommand> {
        let mut now = known.clone();
        let has_other_key = table.has_other_key(known);
        if has_other_key {
            now = table.progress();
            now.followed = Followed {
                key: now.followed.key,
                rekeyed: true,
                ..known.followed.clone()
            };
        }
        now.followed.dimensions.extend(table.dimensions());
        if let Some(storage) = &mut now.followed.storage {
            storage.types.add(types);
        }
        let read = has_other_key.then(|| {
            let why = "the table has another key: all its rows are read again under it, and those under the old one are gone then";
            TableCommand::Read(table.topic.to_string(), all(true), why.to_owned())
        });
        remember(&table.topic, known, now)
            .into_iter()
            .chain(read)
            .collect()
    }

    /// A table's newest schema cannot read what is in its topic, as `on_type_change` allows it: what is there is replaced.
    pub(super) fn retyped(topic: &str, known: &TableProgress) -> Vec<TableCommand> {
        let mut now = known.clone();
        now.followed.rekeyed = true;
        let why = "a column has another type, which the schemas before cannot be read with: all rows of the table are read again";
        let read = TableCommand::Read(topic.to_owned(), all(true), why.to_owned());
        remember(topic, known, now)
            .into_iter()
            .chain([read])
            .collect()
    }
}

/// Partitions were attached, detached, dropped, truncated or rewritten, of which the stream says nothing.
fn partitions_changed(topic: &str, known: &TableProgress, table: &CatalogTable) -> TableCommand {
    let before = &known.followed.leaves;
    let added = table.leaves.keys().filter(|oid| !before.contains_key(oid));
    let added: Vec<String> = added.map(u32::to_string).collect();
    let only_added = before
        .iter()
        .all(|(oid, state)| table.leaves.get(oid) == Some(state));
    let snapshot = known.snapshot.as_ref();
    if only_added && snapshot.is_none() && !known.is_keyless() {
        let request = SnapshotRequest {
            sweep: false,
            filter: Some(format!("tableoid IN ({})", added.join(", "))),
        };
        let why = "reading the rows of new partitions";
        return TableCommand::Read(topic.to_owned(), request, why.to_owned());
    }
    let sweeps = snapshot.is_some_and(|snapshot| snapshot.below.is_some());
    let request = all(!only_added || known.is_keyless() || sweeps);
    let why = "reading all rows of the table: partitions were attached, detached, dropped, truncated or rewritten";
    TableCommand::Read(topic.to_owned(), request, why.to_owned())
}

const fn all(sweep: bool) -> SnapshotRequest {
    SnapshotRequest {
        sweep,
        filter: None,
    }
}

/// Remembers what is new.
fn remember(topic: &str, known: &TableProgress, now: TableProgress) -> Option<TableCommand> {
    (now != *known).then(|| TableCommand::Remember(topic.to_owned(), Box::new(now)))
}

#[cfg(test)]
mod tests;
