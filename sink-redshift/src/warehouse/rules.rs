//! What a dialect says of names, types and tables, as data and pure functions.

use tributary_runtime::Error;
use tributary_schemas::record::FieldType;

use crate::warehouse::name::{Qualified, Quoted, quoted_list};

/// What a dialect says of names, types and tables.
pub(crate) trait TableRules {
    /// The server, as messages name it.
    const SERVER: &'static str;
    /// The longest identifier, in bytes: the server cuts others short.
    const NAME_BYTES: usize;

    /// The type of the column for a field, as the server's catalog spells it.
    fn column_type(field: &FieldType, in_key: bool) -> String;

    /// Compares a column's type with the one that the records ask for, both as the catalog spells them.
    fn fit(have: &str, want: &str) -> Fit;

    /// The statement by which somebody can let the table take the records.
    fn cure(table: &Qualified, misfit: &Misfit<'_>) -> String;
}

/// How a column that exists stands to the type that the records ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It holds every value as it is.
    Holds,
    /// It does once it has this type; what it holds already stays as it is.
    Widen(String),
    /// Neither.
    Contradicts,
}

/// Why a table cannot safely be made to take records.
#[derive(Debug)]
pub(crate) enum Misfit<'a> {
    /// Its primary key is another one.
    Key {
        have: &'a [String],
        want: &'a [String],
    },
    /// It has none.
    NoKey { want: &'a [String] },
    /// A column's type cannot be widened to the one that the records need.
    Type {
        column: &'a str,
        have: &'a str,
        want: &'a str,
    },
    /// The records lack a column, and it takes no null.
    Required { column: &'a str },
}

impl Misfit<'_> {
    /// Says so, with the remedy.
    pub(crate) fn error<R: TableRules>(&self, table: &Qualified) -> Error {
        let cure = R::cure(table, self);
        match self {
            Self::Key { have, want } => Error::stop_msg(format_args!(
                "table {table} has the primary key ({}), the records have ({})",
                quoted_list(have.iter().map(String::as_str)),
                quoted_list(want.iter().map(String::as_str)),
            ))
            .remedy(format!(
                "have the topic hold one key only: stop the source, delete the topic, and start the source with on_gap = \
                 \"resnapshot\" (Debezium: take its snapshot again); then {cure}, and start the service once with on_unfit_target = \"rebuild\""
            )),
            Self::NoKey { .. } => Error::stop_msg(format_args!("table {table} has no primary key"))
                .remedy(cure),
            Self::Type { column, have, want } => Error::stop_msg(format_args!(
                "column {} of table {table} is {have}, the records need {want}, and nothing is converted that could \
                 lose something",
                Quoted(column)
            ))
            .remedy(cure),
            Self::Required { column } => Error::stop_msg(format_args!(
                "table {table} has the column {} that the records lack and that takes no null",
                Quoted(column)
            ))
            .remedy(cure),
        }
    }
}

/// Refuses an identifier that the server would cut short or cannot take at all.
pub(crate) fn identifier<R: TableRules>(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > R::NAME_BYTES || name.contains('\0') {
        return Err(Error::stop_msg(format_args!(
            "'{}' cannot be the name of a schema, table or column: {} takes 1 to {} bytes without NUL",
            name.escape_debug(),
            R::SERVER,
            R::NAME_BYTES
        ))
        .remedy("leave the topic out of `topics`, or rename the object at its source"));
    }
    Ok(())
}

/// A dialect for tests.
#[cfg(test)]
pub(crate) mod plain {
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::{Fit, Misfit, Qualified, TableRules};

    /// Knows whole numbers of two sizes, and texts.
    pub(crate) struct Plain;

    impl TableRules for Plain {
        const SERVER: &'static str = "Plain";
        const NAME_BYTES: usize = 20;

        fn column_type(field: &FieldType, in_key: bool) -> String {
            let name = match field {
                FieldType::Int32 => "small",
                FieldType::Int64 => "large",
                _ if in_key => "key text",
                _ => "text",
            };
            name.to_owned()
        }

        fn fit(have: &str, want: &str) -> Fit {
            match (have, want) {
                ("small", "large") => Fit::Widen("large".to_owned()),
                ("large", "small") => Fit::Holds,
                _ if have == want => Fit::Holds,
                _ => Fit::Contradicts,
            }
        }

        fn cure(table: &Qualified, misfit: &Misfit<'_>) -> String {
            format!("cure {table} of {misfit:?}")
        }
    }

    /// A record type; all its fields are nullable.
    pub(crate) fn record(fields: &[(&str, FieldType)]) -> RecordType {
        RecordType {
            full_name: "t.Value".to_owned(),
            fields: fields
                .iter()
                .map(|(name, field_type)| Field {
                    name: (*name).to_owned(),
                    field_type: field_type.clone(),
                    nullable: true,
                })
                .collect(),
        }
    }
}
