//! `[[columns]]` and `[types]`: the form in which columns travel, where it is not their type's own.

use serde::Deserialize;
use tributary_runtime::Problem;
use tributary_schemas::table::{ColumnType, Table};

/// One entry of `[[columns]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// `schema.table.column`, each part a name (in double quotes, as in SQL, where it has a dot in it) or `*`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// How the columns travel.
    #[serde(rename = "as")]
    pub form: ColumnForm,
}

/// A form that a column of any type can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnForm {
    /// The text that Postgres prints, whatever it is.
    Text,
}

/// `[types]`: the forms of types that have several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypesConfig {
    /// Of `interval`.
    pub interval: IntervalForm,
}

/// How an `interval` travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntervalForm {
    /// ISO 8601, all parts kept.
    #[default]
    String,
    /// Microseconds, a month being 30.4375 days and a day 24 hours: lossy.
    Micros,
}

/// What is wrong with the patterns.
pub(super) fn problems(columns: &[ColumnConfig]) -> impl Iterator<Item = Problem> {
    columns
        .iter()
        .filter(|column| ColumnPattern::parse(&column.pattern).is_none())
        .map(|column| {
            Problem::new(format!("`columns` has match = '{}'", column.pattern)).remedy(
                "write schema.table.column, a name with a dot in double quotes, or * for any",
            )
        })
}

/// Gives the table's columns the forms that the configuration asks for.
pub(super) fn apply(columns: &[ColumnConfig], types: TypesConfig, table: &mut Table) {
    for column in &mut table.columns {
        let wanted = columns.iter().find(|wanted| {
            ColumnPattern::parse(&wanted.pattern)
                .is_some_and(|pattern| pattern.matches(&table.schema, &table.name, &column.name))
        });
        match wanted.map(|wanted| wanted.form) {
            Some(ColumnForm::Text) => column.column_type = ColumnType::Text,
            None if types.interval == IntervalForm::Micros => column.column_type.count_intervals(),
            None => {}
        }
    }
}

/// The patterns that no column of these tables has.
pub(super) fn unused<'a>(
    columns: &'a [ColumnConfig],
    tables: impl Iterator<Item = &'a Table> + Clone,
) -> impl Iterator<Item = &'a str> {
    let matches_one = move |wanted: &ColumnConfig| {
        let Some(pattern) = ColumnPattern::parse(&wanted.pattern) else {
            return true;
        };
        let mut columns = tables.clone().flat_map(|table| {
            let columns = table.columns.iter();
            columns.map(move |column| (&table.schema, &table.name, &column.name))
        });
        columns.any(|(schema, table, column)| pattern.matches(schema, table, column))
    };
    columns
        .iter()
        .filter(move |wanted| !matches_one(wanted))
        .map(|wanted| wanted.pattern.as_str())
}

/// A parsed pattern; `None` in a place is any name.
#[derive(Debug, PartialEq, Eq)]
struct ColumnPattern([Option<String>; 3]);

impl ColumnPattern {
    fn parse(text: &str) -> Option<Self> {
        let (schema, rest) = part(text)?;
        let (table, rest) = part(rest.strip_prefix('.')?)?;
        let (column, rest) = part(rest.strip_prefix('.')?)?;
        rest.is_empty().then_some(Self([schema, table, column]))
    }

    fn matches(&self, schema: &str, table: &str, column: &str) -> bool {
        self.0
            .iter()
            .zip([schema, table, column])
            .all(|(own, name)| own.as_ref().is_none_or(|own| own == name))
    }
}

/// The part that `text` begins with, and what follows.
fn part(text: &str) -> Option<(Option<String>, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        if name.is_empty() || name.contains('"') {
            return None;
        }
        return Some(((name != "*").then(|| name.to_owned()), rest));
    };
    let mut name = String::new();
    loop {
        let (plain, behind) = rest.split_once('"')?;
        name.push_str(plain);
        match behind.strip_prefix('"') {
            // A doubled quote is one.
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return (!name.is_empty()).then_some((Some(name), behind)),
        }
    }
}

/// The pattern of one column.
pub(crate) fn pattern_of(schema: &str, table: &str, column: &str) -> String {
    [schema, table, column]
        .map(|name| {
            if name == "*" || name.contains(['.', '"']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.to_owned()
            }
        })
        .join(".")
}

#[cfg(test)]
mod tests {
    use super::{
        ColumnConfig, ColumnForm, ColumnPattern, IntervalForm, TypesConfig, apply, pattern_of,
        problems, unused,
    };
    use tributary_schemas::table::{Column, ColumnType, Table};

    fn table() -> Table {
        let column = |name: &str, column_type| Column {
            name: name.to_owned(),
            attnum: 1,
            column_type,
            key_position: None,
        };
        Table {
            oid: 1,
            schema: "sales".to_owned(),
            name: "order".to_owned(),
            columns: vec![
                column("at", ColumnType::Date),
                column("a.b", ColumnType::Int4),
                column("every", ColumnType::Array(Box::new(ColumnType::Interval))),
            ],
        }
    }

    fn text(pattern: &str) -> ColumnConfig {
        ColumnConfig {
            pattern: pattern.to_owned(),
            form: ColumnForm::Text,
        }
    }

    #[test]
    fn patterns_name_columns_as_sql_does() {
        for [schema, table, column] in [
            ["sales", "order", "at"],
            ["a.b", "c \"d\"", "e"],
            ["*", "\"", "..\""],
        ] {
            let pattern = ColumnPattern::parse(&pattern_of(schema, table, column)).unwrap();
            assert!(pattern.matches(schema, table, column));
            assert!(!pattern.matches(schema, table, "other"));
        }
        assert!(
            ColumnPattern::parse("*.*.at")
                .unwrap()
                .matches("x", "y", "at")
        );
        for wrong in [
            "",
            "a",
            "a.b",
            "a.b.",
            ".b.c",
            "a.b.c.d",
            "a.\"b.c",
            "\"\".b.c",
            "a.b\"c\".d",
        ] {
            assert_eq!(ColumnPattern::parse(wrong), None, "{wrong}");
            assert_eq!(problems(&[text(wrong)]).count(), 1, "{wrong}");
        }
    }

    #[test]
    fn columns_take_the_form_that_is_asked_for() {
        let mut found = table();
        let wanted = [text("sales.order.\"a.b\""), text("sales.*.at")];
        let types = TypesConfig {
            interval: IntervalForm::Micros,
        };
        apply(&wanted, types, &mut found);
        let forms: Vec<_> = found.columns.iter().map(|c| &c.column_type).collect();
        assert_eq!(
            forms,
            [
                &ColumnType::Text,
                &ColumnType::Text,
                &ColumnType::Array(Box::new(ColumnType::IntervalMicros))
            ]
        );
        let mut untouched = table();
        apply(&[text("x.*.*")], TypesConfig::default(), &mut untouched);
        assert_eq!(untouched, table());
        let patterns = [text("sales.order.at"), text("sales.order.gone")];
        assert_eq!(
            unused(&patterns, std::iter::once(&table())).collect::<Vec<_>>(),
            ["sales.order.gone"]
        );
    }
}
