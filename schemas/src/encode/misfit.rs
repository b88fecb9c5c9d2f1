//! Values that their typed form cannot hold.

use crate::table::ColumnType;

/// A value that cannot be written, and what to do. It never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct ValueError {
    /// The column; empty when the row as a whole is wrong.
    pub column: String,
    /// The column, its type and the reason.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
    /// Whether it is a legal value of Postgres, for which the typed form has no place: as text it has one.
    pub legal: bool,
}

impl ValueError {
    #[cold]
    pub(super) fn width(row: usize, table: usize) -> Self {
        Self {
            column: String::new(),
            what: format!("a row has {row} values where its table has {table} columns"),
            remedy: "the table changed while it was read: read the row again".to_owned(),
            legal: false,
        }
    }
}

/// Why a value does not fit, before it is known whose value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misfit {
    reason: &'static str,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A legal value, but not for the typed form.
    Value,
    /// Not the text that the type has under our session settings.
    Text,
    /// A null where the schema has none.
    Null,
    /// The text of a type that has been altered.
    Altered,
}

impl Misfit {
    pub(super) const NULL_KEY: Self = Self {
        reason: "a key column is null",
        cause: Cause::Null,
    };

    /// A legal value of Postgres that the typed form has no place for.
    pub(super) const fn value(reason: &'static str) -> Self {
        Self {
            reason,
            cause: Cause::Value,
        }
    }

    /// Text that the type's output function does not print.
    pub(super) const fn text(reason: &'static str) -> Self {
        Self {
            reason,
            cause: Cause::Text,
        }
    }

    /// Text that the type printed before, or prints since, it was altered.
    pub(super) const fn altered(reason: &'static str) -> Self {
        Self {
            reason,
            cause: Cause::Altered,
        }
    }

    pub(super) fn of_column(self, column: &str, type_name: &str) -> ValueError {
        let remedy = match self.cause {
            Cause::Value => format!(
                "set `as = \"text\"` for column \"{column}\", or change the value in the table"
            ),
            Cause::Text => "check that the connection has DateStyle=ISO, IntervalStyle=postgres, \
                            TimeZone=UTC and bytea_output=hex, and that the column still has this \
                            type"
                .to_owned(),
            Cause::Altered => format!(
                "the type was altered; set `as = \"text\"` for column \"{column}\" if rows of both forms \
                 are still to be read"
            ),
            Cause::Null => "the key must be a primary key or the replica identity, whose columns \
                            are not null"
                .to_owned(),
        };
        ValueError {
            column: column.to_owned(),
            what: format!("column \"{column}\" ({type_name}): {}", self.reason),
            remedy,
            legal: self.cause == Cause::Value,
        }
    }
}

/// The type's name as SQL has it.
pub(super) fn describe(column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Bool => "boolean".to_owned(),
        ColumnType::Int2 => "smallint".to_owned(),
        ColumnType::Int4 => "integer".to_owned(),
        ColumnType::Int8 => "bigint".to_owned(),
        ColumnType::Float4 => "real".to_owned(),
        ColumnType::Float8 => "double precision".to_owned(),
        ColumnType::Oid => "oid".to_owned(),
        ColumnType::Text => "text".to_owned(),
        ColumnType::Numeric { precision, scale } => format!("numeric({precision},{scale})"),
        ColumnType::VariableNumeric => "numeric".to_owned(),
        ColumnType::Money => "money".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Time { precision } => format!("time({precision})"),
        ColumnType::Timestamp { precision } => format!("timestamp({precision})"),
        ColumnType::TimestampTz => "timestamptz".to_owned(),
        ColumnType::TimeTz => "timetz".to_owned(),
        ColumnType::Interval | ColumnType::IntervalMicros => "interval".to_owned(),
        ColumnType::Uuid => "uuid".to_owned(),
        ColumnType::Json => "json".to_owned(),
        ColumnType::Hstore => "hstore".to_owned(),
        ColumnType::Ltree => "ltree".to_owned(),
        ColumnType::TsVector => "tsvector".to_owned(),
        ColumnType::Xml => "xml".to_owned(),
        ColumnType::Enum { .. } => "enum".to_owned(),
        ColumnType::Bytea => "bytea".to_owned(),
        ColumnType::Bit { length } => format!("bit({length})"),
        ColumnType::VarBit { length: None } => "bit varying".to_owned(),
        ColumnType::VarBit {
            length: Some(length),
        } => format!("bit varying({length})"),
        ColumnType::Array(item) => format!("{}[]", describe(item)),
        ColumnType::ArrayDomain(array) => describe(array),
        ColumnType::TextForm { type_name } | ColumnType::Composite { type_name, .. } => {
            type_name.clone()
        }
        ColumnType::Box => "box".to_owned(),
        ColumnType::Point => "point".to_owned(),
        ColumnType::Geometry => "geometry".to_owned(),
        ColumnType::Geography => "geography".to_owned(),
        ColumnType::Vector => "vector".to_owned(),
        ColumnType::HalfVector => "halfvec".to_owned(),
    }
}
