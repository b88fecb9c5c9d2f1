//! What Postgres says of names and types: what a field becomes in the target, and which changes of a column are safe.

use tributary_schemas::record::{FieldType, Geometric};

use crate::warehouse::name::{Qualified, Quoted, quoted_list};
use crate::warehouse::rules::{Fit, Misfit, TableRules};

/// PostgreSQL 14 or newer.
pub(crate) struct Postgres;

impl TableRules for Postgres {
    const SERVER: &'static str = "Postgres";
    /// `NAMEDATALEN - 1`.
    const NAME_BYTES: usize = 63;

    fn column_type(field: &FieldType, in_key: bool) -> String {
        sql_type(field, in_key)
    }

    fn fit(have: &str, want: &str) -> Fit {
        fit(have, want)
    }

    fn cure(table: &Qualified, misfit: &Misfit<'_>) -> String {
        match misfit {
            Misfit::NoKey { want } => {
                let columns = quoted_list(want.iter().map(String::as_str));
                format!("ALTER TABLE {table} ADD PRIMARY KEY ({columns})")
            }
            Misfit::Key { .. } => format!("DROP TABLE {table}"),
            Misfit::Type { column, want, .. } => {
                let column = Quoted(column);
                let alter = format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE");
                format!(
                    "{alter} {want} USING {column}::{want} where no records of the former type are still to be read; otherwise {alter} \
                     text, which takes both, and the former statement once they are read"
                )
            }
            Misfit::Required { column } => {
                let column = Quoted(column);
                format!(
                    "ALTER TABLE {table} ALTER COLUMN {column} DROP IDENTITY IF EXISTS, ALTER COLUMN {column} DROP NOT NULL"
                )
            }
        }
    }
}

/// The precision up to which Postgres takes `numeric(p, s)`.
const NUMERIC_PRECISION: u32 = 1000;

/// The type of the column for a field, in the spelling of Postgres' `format_type`.
///
/// `json` keeps a document's text as it is (the wire does not tell `json` from `jsonb`); a key needs an
/// equality, which only `jsonb` has.
fn sql_type(field: &FieldType, in_key: bool) -> String {
    match field {
        FieldType::Bool => "boolean".to_owned(),
        FieldType::Int32 => "integer".to_owned(),
        FieldType::Int64 => "bigint".to_owned(),
        FieldType::Float32 => "real".to_owned(),
        FieldType::Float64 => "double precision".to_owned(),
        FieldType::String
        | FieldType::Enum
        | FieldType::Xml
        | FieldType::Ltree
        | FieldType::TsVector => "text".to_owned(),
        FieldType::Bytes => "bytea".to_owned(),
        FieldType::Decimal { precision, scale } => numeric(*precision, *scale),
        FieldType::VariableDecimal => "numeric".to_owned(),
        FieldType::Date => "date".to_owned(),
        FieldType::TimeMillis | FieldType::TimeMicros | FieldType::TimeNanos => {
            "time without time zone".to_owned()
        }
        FieldType::TimestampMillis | FieldType::TimestampMicros | FieldType::TimestampNanos => {
            "timestamp without time zone".to_owned()
        }
        FieldType::ZonedTimestamp => "timestamp with time zone".to_owned(),
        FieldType::ZonedTime => "time with time zone".to_owned(),
        FieldType::Interval | FieldType::MicroDuration => "interval".to_owned(),
        FieldType::Uuid => "uuid".to_owned(),
        FieldType::Struct(record) => match record.geometric() {
            Some(Geometric::Point) => "point".to_owned(),
            // As PostGIS prints it, and reads it: the target may do without PostGIS.
            Some(Geometric::Ewkb) => "text".to_owned(),
            None => json(in_key),
        },
        FieldType::Json | FieldType::Map(_) => json(in_key),
        FieldType::Bits { .. } => "bit varying".to_owned(),
        FieldType::Array(item) => {
            let item = sql_type(&item.field_type, in_key);
            // Postgres has one array type for any number of dimensions.
            if item.ends_with("[]") {
                item
            } else {
                item + "[]"
            }
        }
    }
}

fn json(in_key: bool) -> String {
    if in_key { "jsonb" } else { "json" }.to_owned()
}

/// Scales outside 0..=precision are legal only since PG15: without bounds every server takes them.
fn numeric(precision: Option<u32>, scale: i32) -> String {
    match (precision, u32::try_from(scale)) {
        (Some(precision), Ok(scale))
            if (1..=NUMERIC_PRECISION).contains(&precision) && scale <= precision =>
        {
            format!("numeric({precision},{scale})")
        }
        _ => "numeric".to_owned(),
    }
}

/// Compares a column's type with the one that the records ask for, both as `format_type` spells them.
fn fit(have: &str, want: &str) -> Fit {
    if have == want {
        return Fit::Holds;
    }
    if let (Some(have), Some(want)) = (have.strip_suffix("[]"), want.strip_suffix("[]")) {
        return match fit(have, want) {
            Fit::Widen(item) => Fit::Widen(item + "[]"),
            other => other,
        };
    }
    let (have, want) = (Width::of(have), Width::of(want));
    match (have, want) {
        (Width::Numeric(Some(have)), Width::Numeric(Some(want))) => have.fit(want),
        (Width::Numeric(None), Width::Numeric(_) | Width::Whole(_)) => Fit::Holds,
        (Width::Numeric(Some(_)), Width::Numeric(None)) => Fit::Widen("numeric".to_owned()),
        (Width::Numeric(Some(have)), Width::Whole(digits)) => have.fit(Bounds::whole(digits)),
        (Width::Whole(digits), Width::Numeric(Some(want))) => match want.fit(Bounds::whole(digits))
        {
            Fit::Holds => Fit::Widen(want.sql()),
            _ => Fit::Widen("numeric".to_owned()),
        },
        (Width::Whole(_), Width::Numeric(None)) => Fit::Widen("numeric".to_owned()),
        (Width::Whole(have), Width::Whole(want)) if have > want => Fit::Holds,
        (Width::Whole(_), Width::Whole(digits)) => Fit::Widen(whole_name(digits).to_owned()),
        (Width::Other("double precision"), Width::Other("real")) => Fit::Holds,
        (Width::Other("real"), Width::Other("double precision")) => {
            Fit::Widen("double precision".to_owned())
        }
        (Width::Other("jsonb"), Width::Other("json")) => Fit::Holds,
        // What became text, by widening or by hand, holds what records of any type bring.
        (Width::Other("text"), _) => Fit::Holds,
        (Width::Other(have), Width::Other("text"))
            if have == "uuid" || have.starts_with("character varying") =>
        {
            Fit::Widen("text".to_owned())
        }
        (Width::Whole(_) | Width::Numeric(_), Width::Other("text")) => {
            Fit::Widen("text".to_owned())
        }
        _ => Fit::Contradicts,
    }
}

/// A type as far as its width can be compared.
#[derive(Debug, Clone, Copy)]
enum Width<'a> {
    /// An integer type, by the decimal digits that its values may have.
    Whole(u32),
    Numeric(Option<Bounds>),
    Other(&'a str),
}

const SMALLINT_DIGITS: u32 = 5;
const INTEGER_DIGITS: u32 = 10;
const BIGINT_DIGITS: u32 = 19;

const fn whole_name(digits: u32) -> &'static str {
    match digits {
        0..=SMALLINT_DIGITS => "smallint",
        6..=INTEGER_DIGITS => "integer",
        _ => "bigint",
    }
}

impl<'a> Width<'a> {
    fn of(name: &'a str) -> Self {
        match name {
            "smallint" => Self::Whole(SMALLINT_DIGITS),
            "integer" => Self::Whole(INTEGER_DIGITS),
            "bigint" => Self::Whole(BIGINT_DIGITS),
            "numeric" => Self::Numeric(None),
            _ => {
                Bounds::parse(name).map_or(Self::Other(name), |bounds| Self::Numeric(Some(bounds)))
            }
        }
    }
}

/// The bounds of `numeric(precision, scale)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    precision: i64,
    scale: i64,
}

impl Bounds {
    fn whole(digits: u32) -> Self {
        Self {
            precision: i64::from(digits),
            scale: 0,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (precision, scale) = name
            .strip_prefix("numeric(")?
            .strip_suffix(')')?
            .split_once(',')?;
        Some(Self {
            precision: precision.parse().ok()?,
            scale: scale.parse().ok()?,
        })
    }

    fn sql(self) -> String {
        format!("numeric({},{})", self.precision, self.scale)
    }

    const fn holds(self, other: Self) -> bool {
        self.scale >= other.scale && self.precision - self.scale >= other.precision - other.scale
    }

    fn fit(self, want: Self) -> Fit {
        if self.holds(want) {
            Fit::Holds
        } else if want.holds(self) {
            Fit::Widen(want.sql())
        } else {
            Fit::Widen("numeric".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::{Fit, Postgres, fit, sql_type};
    use crate::warehouse::name::Qualified;
    use crate::warehouse::rules::{Misfit, TableRules as _, identifier};

    #[test]
    fn a_misfit_has_its_cure() {
        let cure = |misfit| Postgres::cure(&Qualified::new("s", "t"), &misfit);
        let (have, want) = (&["a".to_owned()], &["b".to_owned()]);
        assert_eq!(cure(Misfit::Key { have, want }), r#"DROP TABLE "s"."t""#);
        assert_eq!(
            cure(Misfit::NoKey { want }),
            r#"ALTER TABLE "s"."t" ADD PRIMARY KEY ("b")"#
        );
        assert_eq!(
            cure(Misfit::Type {
                column: "id",
                have: "date",
                want: "bigint"
            }),
            "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"id\" TYPE bigint USING \"id\"::bigint where no records of the former type are \
             still to be read; otherwise ALTER TABLE \"s\".\"t\" ALTER COLUMN \"id\" TYPE text, which takes both, and the former \
             statement once they are read"
        );
        assert_eq!(
            cure(Misfit::Required { column: "x" }),
            r#"ALTER TABLE "s"."t" ALTER COLUMN "x" DROP IDENTITY IF EXISTS, ALTER COLUMN "x" DROP NOT NULL"#
        );
    }

    #[test]
    fn names_that_postgres_would_cut_are_refused() {
        assert!(identifier::<Postgres>(&"ä".repeat(31)).is_ok());
        for wrong in ["ä".repeat(32), String::new(), "a\0".to_owned()] {
            assert!(identifier::<Postgres>(&wrong).is_err(), "{wrong:?}");
        }
    }

    fn widen(to: &str) -> Fit {
        Fit::Widen(to.to_owned())
    }

    #[test]
    fn what_holds_is_left_alone() {
        for (have, want) in [
            ("text", "text"),
            ("bigint", "integer"),
            ("numeric", "bigint"),
            ("numeric", "numeric(10,2)"),
            ("numeric(12,4)", "numeric(10,2)"),
            ("numeric(10,0)", "integer"),
            ("double precision", "real"),
            ("jsonb", "json"),
            ("bigint[]", "integer[]"),
            ("text", "integer"),
            ("text", "numeric(10,2)"),
            ("text", "uuid"),
            ("text", "timestamp with time zone"),
            ("text", "integer[]"),
            ("text[]", "character varying(20)[]"),
        ] {
            assert_eq!(fit(have, want), Fit::Holds, "{have} {want}");
        }
    }

    #[test]
    fn what_grows_is_widened() {
        for (have, want, to) in [
            ("smallint", "integer", "integer"),
            ("integer", "bigint", "bigint"),
            ("integer[]", "bigint[]", "bigint[]"),
            ("integer", "numeric(10,0)", "numeric(10,0)"),
            ("bigint", "numeric(10,2)", "numeric"),
            ("real", "double precision", "double precision"),
            ("numeric(10,2)", "numeric(12,2)", "numeric(12,2)"),
            ("numeric(10,2)", "numeric(10,4)", "numeric"),
            ("numeric(10,2)", "numeric", "numeric"),
            ("numeric(5,0)", "bigint", "numeric(19,0)"),
            ("character varying(20)", "text", "text"),
            ("integer", "text", "text"),
        ] {
            assert_eq!(fit(have, want), widen(to), "{have} {want}");
        }
    }

    #[test]
    fn what_could_lose_something_is_refused() {
        for (have, want) in [
            ("bigint", "double precision"),
            ("timestamp without time zone", "timestamp with time zone"),
            ("date", "timestamp without time zone"),
            ("boolean", "integer"),
            ("integer", "integer[]"),
            ("text[]", "text"),
        ] {
            assert_eq!(fit(have, want), Fit::Contradicts, "{have} {want}");
        }
    }

    #[test]
    fn fields_become_columns() {
        let decimal = |precision, scale| sql_type(&FieldType::Decimal { precision, scale }, false);
        assert_eq!(decimal(Some(10), 2), "numeric(10,2)");
        assert_eq!(decimal(Some(2), -3), "numeric");
        assert_eq!(decimal(None, 2), "numeric");
        assert_eq!(sql_type(&FieldType::Json, false), "json");
        assert_eq!(sql_type(&FieldType::Json, true), "jsonb");
        let field = |name: &str, field_type| Field {
            name: name.to_owned(),
            field_type,
            nullable: true,
        };
        let array = |field_type| FieldType::Array(Box::new(field("", field_type)));
        assert_eq!(
            sql_type(&array(array(FieldType::Int32)), false),
            "integer[]"
        );
        let geometric = |name: &str, fields: Vec<Field>| {
            FieldType::Struct(RecordType {
                full_name: format!("io.debezium.data.geometry.{name}"),
                fields,
            })
        };
        let wkb = || {
            vec![
                field("wkb", FieldType::Bytes),
                field("srid", FieldType::Int32),
            ]
        };
        let xy = ["x", "y"].map(|name| field(name, FieldType::Float64));
        let point = geometric("Point", xy.into_iter().chain(wkb()).collect());
        assert_eq!(sql_type(&array(point), false), "point[]");
        assert_eq!(sql_type(&geometric("Geography", wkb()), false), "text");
        // A later version's, with more in it than the text can say.
        let mut more = wkb();
        more.push(field("extensions", FieldType::String));
        assert_eq!(sql_type(&geometric("Geometry", more), false), "json");
    }
}
