//! The tables of a source, by topic.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::table::TableProgress;

/// What is remembered of each table, by topic, and of which it has changed since somebody asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    by_topic: BTreeMap<String, TableProgress>,
    changed: BTreeSet<String>,
}

impl Tables {
    /// The table of a topic, to change what is remembered of it.
    pub(crate) fn get_mut(&mut self, topic: &str) -> Option<&mut TableProgress> {
        let table = self.by_topic.get_mut(topic)?;
        if !self.changed.contains(topic) {
            self.changed.insert(topic.to_owned());
        }
        Some(table)
    }

    /// Remembers a table. One of the same topic is forgotten.
    pub(crate) fn insert(&mut self, topic: String, table: TableProgress) {
        self.changed.insert(topic.clone());
        self.by_topic.insert(topic, table);
    }

    /// All tables, with their topics, to change what is remembered of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut TableProgress)> {
        self.changed.extend(self.by_topic.keys().cloned());
        self.by_topic.iter_mut()
    }

    /// The tables that have changed since [`Tables::settle`].
    pub(super) fn changed(&self) -> BTreeMap<&String, &TableProgress> {
        let changed = self.changed.iter();
        changed
            .filter_map(|topic| self.by_topic.get_key_value(topic))
            .collect()
    }

    /// What is remembered now is what was asked for: nothing has changed since.
    pub(super) fn settle(&mut self) {
        self.changed.clear();
    }
}

impl Deref for Tables {
    type Target = BTreeMap<String, TableProgress>;

    fn deref(&self) -> &Self::Target {
        &self.by_topic
    }
}

impl FromIterator<(String, TableProgress)> for Tables {
    fn from_iter<T: IntoIterator<Item = (String, TableProgress)>>(tables: T) -> Self {
        Self {
            by_topic: tables.into_iter().collect(),
            changed: BTreeSet::new(),
        }
    }
}
