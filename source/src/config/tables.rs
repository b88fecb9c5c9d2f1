//! `[[tables]]`, and what `run` is told of single tables: what one table has otherwise than `[postgres]` says it of all.

use serde::Deserialize;
use tributary_postgres::catalog::{CatalogTable, TablePattern};
use tributary_runtime::Problem;

/// The flag of `run` that stands before the entries of `[[tables]]`.
pub(crate) const ON_TYPE_CHANGE: &str = "on-type-change";

/// What happens to a topic when the registry refuses a table's new schema, since it cannot read what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTypeChange {
    /// The source stops.
    #[default]
    Stop,
    /// The schema is registered all the same, and all rows are read again.
    Resnapshot,
}

/// One entry of `[[tables]]`. Of several that match a table, the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// As in `postgres.tables`: `schema.table` or `schema.*`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Instead of `postgres.on_type_change`.
    pub on_type_change: OnTypeChange,
}

impl TableConfig {
    /// The entry that `--on-type-change SCHEMA.TABLE=VALUE` stands for.
    ///
    /// # Errors
    /// It is not of that form: what to write.
    pub(crate) fn of_flag(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(pattern, value)| {
            let on_type_change = match value {
                "stop" => OnTypeChange::Stop,
                "resnapshot" => OnTypeChange::Resnapshot,
                _ => return None,
            };
            TablePattern::parse(pattern)?;
            Some(Self {
                pattern: pattern.to_owned(),
                on_type_change,
            })
        });
        parsed.ok_or_else(|| {
            "write schema.table=resnapshot, or =stop; schema.* for all tables of a schema"
                .to_owned()
        })
    }

    fn matches(&self, schema: &str, table: &str) -> bool {
        TablePattern::parse(&self.pattern).is_some_and(|pattern| pattern.matches(schema, table))
    }
}

/// What the first entry that matches a table says.
pub(super) fn on_type_change(
    entries: &[TableConfig],
    schema: &str,
    table: &str,
) -> Option<OnTypeChange> {
    let mut entries = entries.iter();
    let entry = entries.find(|entry| entry.matches(schema, table));
    entry.map(|entry| entry.on_type_change)
}

/// What is wrong with the patterns.
pub(super) fn problems(entries: &[TableConfig]) -> impl Iterator<Item = Problem> {
    let wrong = entries
        .iter()
        .filter(|entry| TablePattern::parse(&entry.pattern).is_none());
    wrong.map(|entry| {
        Problem::new(format!("`tables` has match = '{}'", entry.pattern))
            .remedy("write schema.table or schema.*")
    })
}

/// The patterns that none of these tables has.
pub(super) fn unused<'a>(
    entries: &'a [TableConfig],
    tables: &'a [CatalogTable],
) -> impl Iterator<Item = &'a str> {
    let is_unused = |entry: &&TableConfig| {
        let mut tables = tables.iter();
        !tables.any(|one| entry.matches(&one.table.schema, &one.table.name))
    };
    entries
        .iter()
        .filter(is_unused)
        .map(|entry| entry.pattern.as_str())
}

/// The flag that lets this table's rows be read again, as a shell takes it.
pub(crate) fn resnapshot_flag(schema: &str, table: &str) -> String {
    let value = format!("{}=resnapshot", TablePattern::exact(schema, table));
    format!("--{ON_TYPE_CHANGE} '{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{OnTypeChange, TableConfig, on_type_change, problems, resnapshot_flag};

    #[test]
    fn the_first_entry_that_matches_counts() {
        let entries =
            ["s.t=stop", "s.*=resnapshot"].map(|text| TableConfig::of_flag(text).unwrap());
        for (schema, table, wanted) in [
            ("s", "t", Some(OnTypeChange::Stop)),
            ("s", "u", Some(OnTypeChange::Resnapshot)),
            ("z", "t", None),
        ] {
            assert_eq!(on_type_change(&entries, schema, table), wanted, "{table}");
        }
        assert_eq!(problems(&entries).count(), 0);
        for wrong in ["", "s.t", "s.t=", "s.t=yes", "t=stop", "=stop"] {
            assert!(TableConfig::of_flag(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_flag_of_a_table_is_for_that_table() {
        assert_eq!(
            resnapshot_flag("s", "t"),
            "--on-type-change 's.t=resnapshot'"
        );
        for (schema, table) in [("s", "t"), ("a.b", "c=\"d\" *"), ("s", "*")] {
            let flag = resnapshot_flag(schema, table);
            let value = flag.split_once('\'').unwrap().1.strip_suffix('\'').unwrap();
            let entry = TableConfig::of_flag(value).unwrap();
            assert!(entry.matches(schema, table), "{flag}");
            assert!(!entry.matches(schema, "other"), "{flag}");
        }
        let quoted = resnapshot_flag("s", "it's");
        assert_eq!(quoted, r"--on-type-change 's.it'\''s=resnapshot'");
    }
}
