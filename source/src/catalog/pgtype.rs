//! From a type's OID and modifier to what the wire cares about.

use std::collections::HashMap;

use tokio_postgres::GenericClient;
use tributary_schemas::table::ColumnType;

const TYPES: &str = "
    SELECT t.oid, t.typname, t.typtype::text, t.typbasetype, t.typtypmod, t.typelem, t.typcategory::text, n.nspname,
        CASE WHEN t.typtype = 'e' THEN
            (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
             WHERE e.enumtypid = t.oid)
        END,
        (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e')
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid = ANY($1)";

/// How deep domains over domains over arrays may nest before we take the text form.
const MAX_DEPTH: usize = 16;

/// The types seen so far, by OID.
#[derive(Debug, Default)]
pub(crate) struct TypeCatalog {
    types: HashMap<u32, PgType>,
}

#[derive(Debug)]
struct PgType {
    name: String,
    home: Home,
    kind: Kind,
}

/// What defines a type's name: not its schema, for an extension lives in any.
#[derive(Debug)]
enum Home {
    System,
    Extension(String),
    /// The application's own.
    Own,
}

#[derive(Debug)]
enum Kind {
    Base,
    Domain {
        base: u32,
        typmod: i32,
    },
    Array {
        element: u32,
    },
    Enum {
        labels: Vec<String>,
    },
    /// A range or multirange.
    Range,
}

impl TypeCatalog {
    /// Reads these types and those that they are made of. Labels of a known enum are read again: they grow.
    pub(crate) async fn load(
        &mut self,
        client: &impl GenericClient,
        oids: &[u32],
    ) -> Result<(), tokio_postgres::Error> {
        let mut wanted: Vec<u32> = oids.to_vec();
        for _ in 0..MAX_DEPTH {
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|oid| {
                self.types
                    .get(oid)
                    .is_none_or(|known| matches!(known.kind, Kind::Enum { .. }))
            });
            if wanted.is_empty() {
                break;
            }
            let rows = client.query(TYPES, &[&wanted]).await?;
            wanted.clear();
            for row in &rows {
                let (typtype, category): (&str, &str) = (row.get(2), row.get(6));
                let element: u32 = row.get(5);
                let kind = match typtype {
                    "d" => Kind::Domain {
                        base: row.get(3),
                        typmod: row.get(4),
                    },
                    "r" | "m" => Kind::Range,
                    "e" => Kind::Enum {
                        labels: row.get::<_, Option<Vec<String>>>(8).unwrap_or_default(),
                    },
                    // The vectors of the catalog count as arrays, but do not print as such.
                    _ if category == "A"
                        && element != 0
                        && !matches!(row.get(1), "int2vector" | "oidvector") =>
                    {
                        Kind::Array { element }
                    }
                    _ => Kind::Base,
                };
                match kind {
                    Kind::Domain { base, .. } => wanted.push(base),
                    Kind::Array { element } => wanted.push(element),
                    Kind::Base | Kind::Enum { .. } | Kind::Range => {}
                }
                let (name, schema): (String, &str) = (row.get(1), row.get(7));
                self.types.insert(
                    row.get(0),
                    PgType {
                        name,
                        home: match row.get::<_, Option<String>>(9) {
                            Some(extension) => Home::Extension(extension),
                            None if schema == "pg_catalog" => Home::System,
                            None => Home::Own,
                        },
                        kind,
                    },
                );
            }
        }
        Ok(())
    }

    /// What a column of this type holds. A type that was not loaded, or is gone, is taken as text.
    pub(crate) fn resolve(&self, oid: u32, typmod: i32) -> ColumnType {
        self.resolve_at(oid, typmod, 0)
    }

    fn resolve_at(&self, oid: u32, typmod: i32, depth: usize) -> ColumnType {
        let Some(pg_type) = self.types.get(&oid).filter(|_| depth < MAX_DEPTH) else {
            return ColumnType::TextForm {
                type_name: format!("type {oid}"),
            };
        };
        match &pg_type.kind {
            Kind::Domain { base, typmod } => self.resolve_at(*base, *typmod, depth + 1),
            Kind::Array { element } => {
                ColumnType::Array(Box::new(self.resolve_at(*element, typmod, depth + 1)))
            }
            Kind::Enum { labels } => ColumnType::Enum {
                labels: labels.clone(),
            },
            Kind::Range => ColumnType::Text,
            Kind::Base => base_type(pg_type, typmod),
        }
    }
}

/// The types whose text is their form: Debezium's, or none that is better.
const TEXT_TYPES: [&str; 29] = [
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "tsquery",
    "jsonpath",
    "pg_lsn",
    "pg_snapshot",
    "txid_snapshot",
    "xid",
    "xid8",
    "cid",
    "tid",
    "refcursor",
    "aclitem",
    "int2vector",
    "oidvector",
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "regdatabase",
];

/// The types of extensions that have a form of their own.
fn extension_type(extension: &str, name: &str) -> Option<ColumnType> {
    Some(match (extension, name) {
        // Text by another comparison.
        ("citext", "citext") => ColumnType::Text,
        ("hstore", "hstore") => ColumnType::Hstore,
        ("ltree", "ltree") => ColumnType::Ltree,
        ("ltree", "lquery" | "ltxtquery") => ColumnType::Text,
        _ => return None,
    })
}

fn base_type(pg_type: &PgType, typmod: i32) -> ColumnType {
    let other = || ColumnType::TextForm {
        type_name: pg_type.name.clone(),
    };
    match &pg_type.home {
        Home::System => {}
        Home::Extension(extension) => {
            return extension_type(extension, &pg_type.name).unwrap_or_else(other);
        }
        Home::Own => return other(),
    }
    match pg_type.name.as_str() {
        "bool" => ColumnType::Bool,
        "int2" => ColumnType::Int2,
        "int4" => ColumnType::Int4,
        "int8" => ColumnType::Int8,
        "float4" => ColumnType::Float4,
        "float8" => ColumnType::Float8,
        "oid" => ColumnType::Oid,
        "text" | "varchar" | "bpchar" | "name" | "char" => ColumnType::Text,
        "numeric" => numeric(typmod),
        "money" => ColumnType::Money,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time {
            precision: fraction_digits(typmod),
        },
        "timestamp" => ColumnType::Timestamp {
            precision: fraction_digits(typmod),
        },
        "timestamptz" => ColumnType::TimestampTz,
        "timetz" => ColumnType::TimeTz,
        "interval" => ColumnType::Interval,
        "uuid" => ColumnType::Uuid,
        "json" | "jsonb" => ColumnType::Json,
        "xml" => ColumnType::Xml,
        "bytea" => ColumnType::Bytea,
        "bit" | "varbit" => bits(&pg_type.name, typmod),
        "tsvector" => ColumnType::TsVector,
        name if TEXT_TYPES.contains(&name) => ColumnType::Text,
        _ => other(),
    }
}

/// A column made by `CREATE TABLE AS` from a bit string has the type `bit` without a length, and holds any.
fn bits(name: &str, typmod: i32) -> ColumnType {
    match u32::try_from(typmod) {
        Ok(length) if name == "bit" => ColumnType::Bit { length },
        length => ColumnType::VarBit {
            length: length.ok(),
        },
    }
}

/// `numeric`'s modifier: precision in the upper half, an 11-bit signed scale below, 4 added (numeric.c).
fn numeric(typmod: i32) -> ColumnType {
    if typmod < 4 {
        return ColumnType::VariableNumeric;
    }
    let packed = typmod - 4;
    let precision = u16::try_from((packed >> 16) & 0xFFFF).unwrap_or(u16::MAX);
    let scale = i16::try_from(((packed & 0x7FF) ^ 1024) - 1024).unwrap_or_default();
    ColumnType::Numeric { precision, scale }
}

fn fraction_digits(typmod: i32) -> u8 {
    u8::try_from(typmod)
        .ok()
        .filter(|digits| *digits <= 6)
        .unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::{ColumnType, bits, fraction_digits, numeric};

    #[test]
    fn modifiers_are_unpacked_as_postgres_packs_them() {
        let packed = |precision: i32, scale: i32| (precision << 16 | (scale & 0x7FF)) + 4;
        assert_eq!(numeric(-1), ColumnType::VariableNumeric);
        assert_eq!(
            numeric(packed(10, 2)),
            ColumnType::Numeric {
                precision: 10,
                scale: 2
            }
        );
        assert_eq!(
            numeric(packed(3, -2)),
            ColumnType::Numeric {
                precision: 3,
                scale: -2
            }
        );
        assert_eq!(
            numeric(packed(1000, 1000)),
            ColumnType::Numeric {
                precision: 1000,
                scale: 1000
            }
        );
        assert_eq!(bits("bit", 3), ColumnType::Bit { length: 3 });
        assert_eq!(bits("bit", -1), ColumnType::VarBit { length: None });
        assert_eq!(bits("varbit", 3), ColumnType::VarBit { length: Some(3) });
        assert_eq!(
            (fraction_digits(-1), fraction_digits(0), fraction_digits(3)),
            (6, 0, 3)
        );
    }
}
