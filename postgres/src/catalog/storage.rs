//! What tells that a statement gave old rows other values. The stream says nothing of that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tributary_schemas::table::{Column, ColumnType};

use super::known_types::KnownTypes;

/// How the catalog says that a table's rows are stored, and under which names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// `pg_class.relfilenode`. 0 for a partitioned table: its leaves have their own, see
    /// [`LeafState`](super::LeafState).
    pub(super) filenode: u32,
    /// `pg_class.reltoastrelid`; 0 without a TOAST table, and in a record of an older version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) toast: u32,
    /// The transactions that wrote the columns' rows of `pg_attribute` (`xmin`). Each ALTER TABLE that computes values
    /// anew adds one; VACUUM FULL, CLUSTER and SET TABLESPACE do not.
    pub(super) altered: BTreeSet<String>,
    /// The columns' names by number. A number is never used again, so dropped columns stay in it.
    pub(super) columns: BTreeMap<i16, String>,
    /// The numbers of its generated columns, whose values are in no event.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) generated: BTreeSet<i16>,
    /// By number the names that are part of a column's values: the labels of an enum, the attributes of a composite type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<i16, BTreeSet<String>>,
    /// The types of its columns, and those that it had: the stream may still have changes from before.
    #[serde(default, skip_serializing_if = "KnownTypes::is_empty")]
    pub types: KnownTypes,
}

impl Storage {
    /// Takes a column in that is published.
    pub(super) fn add(&mut self, column: &Column, altered: String) {
        self.altered.insert(altered);
        self.columns.insert(column.attnum, column.name.clone());
        let mut labels = BTreeSet::new();
        collect_labels(&column.column_type, &mut labels);
        if !labels.is_empty() {
            self.labels.insert(column.attnum, labels);
        }
    }

    /// Takes over a later state.
    pub fn follow(&mut self, now: &Self) {
        let mut columns = std::mem::take(&mut self.columns);
        columns.extend(now.columns.clone());
        let mut types = std::mem::take(&mut self.types);
        types.add(&now.types);
        *self = Self {
            columns,
            types,
            ..now.clone()
        };
    }

    /// Whether [`follow`](Self::follow) would change nothing.
    #[must_use]
    pub fn has(&self, now: &Self) -> bool {
        let mut later = self.clone();
        later.follow(now);
        later == *self
    }

    /// Whether other names are part of the columns' values now: a new label of an enum, say.
    #[must_use]
    pub fn has_other_labels(&self, now: &Self) -> bool {
        self.labels != now.labels
    }

    /// Whether names are gone that are part of a column's values: they are others now, in old rows too.
    fn lost_labels(&self, now: &Self) -> bool {
        self.labels.iter().any(|(number, before)| {
            let now = now.labels.get(number);
            now.is_some_and(|now| !before.is_subset(now))
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(oid: &u32) -> bool {
    *oid == 0
}

fn collect_labels(column_type: &ColumnType, into: &mut BTreeSet<String>) {
    match column_type {
        ColumnType::Enum { labels } => into.extend(labels.iter().cloned()),
        ColumnType::Array(item) | ColumnType::ArrayDomain(item) => collect_labels(item, into),
        ColumnType::Composite { attributes, .. } => {
            for attribute in attributes {
                into.insert(attribute.name.clone());
                collect_labels(&attribute.column_type, into);
            }
        }
        _ => {}
    }
}

impl Storage {
    /// [`CatalogTable::given_since`](super::CatalogTable::given_since), of a table of which these columns are defaulted.
    pub(super) fn given_since(
        &self,
        before: &Self,
        defaulted: &BTreeSet<i16>,
    ) -> Option<&'static str> {
        let now = self;
        for (number, name) in &now.columns {
            match before.columns.get(number) {
                Some(known) if known == name => {}
                Some(_) => return Some("a column was renamed"),
                None if defaulted.contains(number) => {
                    return Some("a column was added with a default");
                }
                None if before.generated.contains(number) => {
                    return Some("a generated column is an ordinary one now");
                }
                // Old records have the dropped column's values under this name.
                None if before.columns.values().any(|known| known == name) => {
                    return Some("a column was dropped and added again");
                }
                None => {}
            }
        }
        if before.lost_labels(now) {
            return Some(
                "a label of an enum, or an attribute of a composite type, was renamed or dropped",
            );
        }
        let altered = !now.altered.is_subset(&before.altered);
        (altered && now.filenode != before.filenode)
            .then_some("an ALTER TABLE rewrote it, maybe with new values")
    }
}

impl Storage {
    /// [`CatalogTable::may_have_been_unlogged`](super::CatalogTable::may_have_been_unlogged)
    pub(super) fn may_have_been_unlogged(&self, before: &Self) -> bool {
        if self.toast == 0 || before.toast == 0 {
            return self.filenode != before.filenode;
        }
        self.toast != before.toast
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::table::{Column, ColumnType};

    use super::Storage;

    fn storage(filenode: u32, altered: &[&str], columns: &[(i16, &str)]) -> Storage {
        let columns = columns.iter();
        Storage {
            filenode,
            altered: altered.iter().map(|&xid| xid.to_owned()).collect(),
            columns: columns.map(|&(at, name)| (at, name.to_owned())).collect(),
            ..Storage::default()
        }
    }

    fn given(now: &Storage, before: &Storage, defaulted: &[i16]) -> Option<&'static str> {
        now.given_since(before, &defaulted.iter().copied().collect())
    }

    #[test]
    fn what_gives_old_rows_values_is_told_from_what_does_not() {
        let columns = [(1, "a"), (2, "b")];
        let before = || storage(10, &["700"], &columns);
        for (now, defaulted, wanted) in [
            (before(), [2].as_slice(), None),
            // VACUUM FULL, then SET STATISTICS.
            (storage(11, &["700"], &columns), &[], None),
            (storage(10, &["700", "701"], &columns), &[], None),
            (storage(11, &["701"], &columns), &[], Some("rewrote")),
            (storage(11, &["700"], &columns[..1]), &[], None),
            (storage(10, &["701"], &[(1, "a"), (3, "c")]), &[], None),
            (
                storage(10, &["701"], &[(1, "a"), (3, "c")]),
                &[3],
                Some("default"),
            ),
            (
                storage(10, &["701"], &[(1, "a"), (3, "b")]),
                &[],
                Some("again"),
            ),
            (
                storage(10, &["701"], &[(1, "b"), (2, "a")]),
                &[],
                Some("renamed"),
            ),
        ] {
            let found = given(&now, &before(), defaulted);
            let told = found.is_some_and(|why| wanted.is_some_and(|part| why.contains(part)));
            assert!(told || found == wanted, "{now:?}: {found:?}");
        }
    }

    #[test]
    fn names_in_values_and_generated_columns_are_followed() {
        let labelled = |labels: &[&str]| {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            let mut storage = storage(10, &["700"], &[(1, "a")]);
            let mood = ColumnType::Array(Box::new(ColumnType::Enum { labels }));
            let column = Column {
                name: "m".to_owned(),
                attnum: 2,
                column_type: mood,
                key_position: None,
            };
            storage.add(&column, "700".to_owned());
            storage
        };
        let before = labelled(&["sad", "glad"]);
        let is_given = |now: Storage| given(&now, &before, &[]).is_some();
        assert!(!is_given(labelled(&["sad", "so so", "glad"])));
        assert!(is_given(labelled(&["sad", "happy"])));
        let mut generated = storage(10, &["700"], &[(1, "a")]);
        generated.generated.insert(2);
        let ordinary = storage(10, &["701"], &[(1, "a"), (2, "g")]);
        assert!(given(&ordinary, &generated, &[]).is_some());
    }

    #[test]
    fn a_rewrite_by_alter_table_is_told_by_the_toast_table() {
        let stored = |filenode, toast| Storage {
            toast,
            ..storage(filenode, &["700"], &[(1, "a")])
        };
        for (before, now, wanted) in [
            ((10, 90), (10, 90), false),
            // VACUUM FULL, TRUNCATE.
            ((10, 90), (11, 90), false),
            ((10, 90), (11, 91), true),
            ((10, 0), (11, 0), true),
            ((10, 0), (10, 0), false),
            // A column was added whose values may be long; or the record is of an older version.
            ((10, 0), (10, 90), false),
            ((10, 0), (11, 90), true),
        ] {
            let (before, now) = (stored(before.0, before.1), stored(now.0, now.1));
            assert_eq!(now.may_have_been_unlogged(&before), wanted, "{now:?}");
        }
    }

    #[test]
    fn a_dropped_column_is_remembered() {
        let mut known = storage(10, &["700"], &[(1, "a"), (2, "b")]);
        let dropped = storage(10, &["700", "701"], &[(1, "a")]);
        assert!(!known.has(&dropped));
        known.follow(&dropped);
        assert!(known.has(&dropped));
        let again = storage(10, &["700", "702"], &[(1, "a"), (3, "b")]);
        assert!(given(&again, &known, &[]).is_some());
    }
}
