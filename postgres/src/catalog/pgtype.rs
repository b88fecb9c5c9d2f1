//! From a type's OID and modifier to what the wire cares about.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tokio_postgres::{GenericClient, Row};
use tributary_schemas::table::{Attribute, ColumnType};

const TYPES: &str = "
    SELECT t.oid, t.typname, t.typtype::text, t.typbasetype, t.typtypmod, t.typelem, t.typcategory::text, n.nspname,
        CASE WHEN t.typtype = 'e' THEN
            (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
             WHERE e.enumtypid = t.oid)
        END,
        (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'),
        t.typndims, t.typdelim::text, t.typrelid
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.oid = ANY($1)";

const ATTRIBUTES: &str = "
    SELECT attrelid, attname, atttypid, atttypmod, attndims::int4
    FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY($1) AND attnum > 0 AND NOT attisdropped
    ORDER BY attrelid, attnum";

/// How deep composites, arrays and domains may nest before we take the text form: readers bound their depth too.
const MAX_DEPTH: usize = 16;
/// The most dimensions that a value has (`array.h`, `MAXDIM`); a declaration may say more.
const MAX_DIMENSIONS: usize = 6;

/// The types seen so far, by OID.
#[derive(Debug, Default)]
pub(super) struct TypeCatalog {
    types: HashMap<u32, PgType>,
    /// What the catalog had once: it counts for types that are gone.
    remembered: BTreeMap<u32, PgType>,
}

/// A type, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PgType {
    name: String,
    home: Home,
    /// What stands between the items of an array of it.
    delimiter: u8,
    kind: Kind,
}

/// What defines a type's name: not its schema, for an extension lives in any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Home {
    System,
    Extension(String),
    /// The application's own.
    Own,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Base,
    Domain {
        base: u32,
        typmod: i32,
        dimensions: usize,
    },
    Array {
        element: u32,
    },
    /// A composite type, or a table's row type; its attributes are those of this relation.
    Composite {
        relation: u32,
        attributes: Vec<PgAttribute>,
    },
    Enum {
        labels: Vec<String>,
    },
    /// A range or multirange.
    Range,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PgAttribute {
    name: String,
    oid: u32,
    typmod: i32,
    dimensions: usize,
}

impl Kind {
    /// What `ALTER TYPE` changes.
    const fn is_alterable(&self) -> bool {
        matches!(self, Self::Enum { .. } | Self::Composite { .. })
    }

    /// The types that it is made of.
    fn parts(&self) -> Vec<u32> {
        match self {
            Self::Domain { base, .. } => vec![*base],
            Self::Array { element } => vec![*element],
            Self::Composite { attributes, .. } => attributes.iter().map(|one| one.oid).collect(),
            Self::Base | Self::Enum { .. } | Self::Range => Vec::new(),
        }
    }
}

impl TypeCatalog {
    /// Takes types for those that the catalog does not have any more.
    pub(super) fn remember(&mut self, types: &BTreeMap<u32, PgType>) {
        self.remembered.extend(types.clone());
    }

    /// Of these types and those that they are made of: those that may be dropped.
    pub(super) fn droppable(&self, oids: &[u32]) -> BTreeMap<u32, PgType> {
        let mut found = BTreeMap::new();
        let mut wanted = oids.to_vec();
        while let Some(oid) = wanted.pop() {
            if let Some(pg_type) = self.types.get(&oid)
                && !matches!(pg_type.home, Home::System)
                && found.insert(oid, pg_type.clone()).is_none()
            {
                wanted.extend(pg_type.kind.parts());
            }
        }
        found
    }

    /// Of this type and those that it is made of, one of which nothing is known.
    pub(super) fn unknown(&self, oid: u32) -> Option<u32> {
        let droppable = self.droppable(&[oid]);
        let parts = droppable.values().flat_map(|one| one.kind.parts());
        std::iter::once(oid)
            .chain(parts)
            .find(|oid| !self.types.contains_key(oid))
    }

    /// Reads these types and those that they are made of. Labels and attributes of known types are read again: they
    /// change.
    pub(super) async fn load(
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
                    .is_none_or(|known| known.kind.is_alterable())
            });
            if wanted.is_empty() {
                break;
            }
            let rows = client.query(TYPES, &[&wanted]).await?;
            let asked = std::mem::take(&mut wanted);
            for row in &rows {
                let pg_type = PgType::read(row);
                // Of a composite the attributes are read apart.
                wanted.extend(pg_type.kind.parts());
                self.types.insert(row.get(0), pg_type);
            }
            for oid in asked {
                if let Some(gone) = self.remembered.get(&oid)
                    && !self.types.contains_key(&oid)
                {
                    wanted.extend(gone.kind.parts());
                    self.types.insert(oid, gone.clone());
                }
            }
            self.load_attributes(client, &rows, &mut wanted).await?;
        }
        Ok(())
    }

    /// Reads what composites are made of, and adds the types of that to what is wanted.
    async fn load_attributes(
        &mut self,
        client: &impl GenericClient,
        rows: &[Row],
        wanted: &mut Vec<u32>,
    ) -> Result<(), tokio_postgres::Error> {
        let relations: Vec<u32> = rows
            .iter()
            .map(|row| row.get(12))
            .filter(|relation| *relation != 0)
            .collect();
        if relations.is_empty() {
            return Ok(());
        }
        let mut by_relation: HashMap<u32, Vec<PgAttribute>> = HashMap::new();
        for row in client.query(ATTRIBUTES, &[&relations]).await? {
            let oid = row.get(2);
            wanted.push(oid);
            by_relation
                .entry(row.get(0))
                .or_default()
                .push(PgAttribute {
                    name: row.get(1),
                    oid,
                    typmod: row.get(3),
                    dimensions: dimensions(row.get(4)),
                });
        }
        for row in rows {
            if let Some(PgType {
                kind:
                    Kind::Composite {
                        relation,
                        attributes,
                    },
                ..
            }) = self.types.get_mut(&row.get(0))
            {
                *attributes = by_relation.remove(relation).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// What a column of this type holds. A type that was not loaded, or is gone, is taken as text.
    ///
    /// `dimensions` are those that an array was declared with. Postgres does not hold anybody to them, and knows none
    /// for a column made by `CREATE TABLE AS`: that is taken as one.
    pub(super) fn resolve(&self, oid: u32, typmod: i32, dimensions: usize) -> ColumnType {
        self.resolve_at(oid, typmod, dimensions, 0)
    }

    fn resolve_at(&self, oid: u32, typmod: i32, dimensions: usize, depth: usize) -> ColumnType {
        let Some(pg_type) = self.types.get(&oid).filter(|_| depth < MAX_DEPTH) else {
            return ColumnType::TextForm {
                type_name: format!("type {oid}"),
            };
        };
        match &pg_type.kind {
            Kind::Domain {
                base,
                typmod,
                dimensions,
            } => self.resolve_at(*base, *typmod, *dimensions, depth + 1),
            Kind::Array { element } => {
                let dimensions = dimensions.clamp(1, MAX_DIMENSIONS);
                let item = self.resolve_at(*element, typmod, 0, depth + dimensions);
                self.array(*element, item, dimensions)
            }
            Kind::Composite { attributes, .. } => ColumnType::Composite {
                type_name: pg_type.name.clone(),
                attributes: attributes
                    .iter()
                    .map(|attribute| Attribute {
                        name: attribute.name.clone(),
                        column_type: self.resolve_at(
                            attribute.oid,
                            attribute.typmod,
                            attribute.dimensions,
                            depth + 1,
                        ),
                    })
                    .collect(),
            },
            Kind::Enum { labels } => ColumnType::Enum {
                labels: labels.clone(),
            },
            Kind::Range => ColumnType::Text,
            Kind::Base => base_type(pg_type, typmod),
        }
    }

    /// An array of so many dimensions.
    fn array(&self, element: u32, item: ColumnType, dimensions: usize) -> ColumnType {
        // An array as an item: then the item's type is a domain, for Postgres has no arrays of arrays.
        let item = match item {
            ColumnType::Array(_) => ColumnType::ArrayDomain(Box::new(item)),
            item => item,
        };
        let pg_element = self.types.get(&element);
        if let Some(other) =
            pg_element.filter(|pg_element| pg_element.delimiter != item.array_delimiter())
        {
            // Somebody's own type with a separator of its own.
            return ColumnType::TextForm {
                type_name: format!("{}[]", other.name),
            };
        }
        (0..dimensions).fold(item, |item, _| ColumnType::Array(Box::new(item)))
    }
}

impl PgType {
    /// Reads a row of [`TYPES`]; the attributes of a composite are read apart.
    fn read(row: &Row) -> Self {
        let (name, schema): (String, &str) = (row.get(1), row.get(7));
        let (typtype, category): (&str, &str) = (row.get(2), row.get(6));
        let element: u32 = row.get(5);
        let kind = match typtype {
            "d" => Kind::Domain {
                base: row.get(3),
                typmod: row.get(4),
                dimensions: dimensions(row.get(10)),
            },
            "c" => Kind::Composite {
                relation: row.get(12),
                attributes: Vec::new(),
            },
            "r" | "m" => Kind::Range,
            "e" => Kind::Enum {
                labels: row.get::<_, Option<Vec<String>>>(8).unwrap_or_default(),
            },
            // The vectors of the catalog count as arrays, but do not print as such.
            _ if category == "A"
                && element != 0
                && !matches!(name.as_str(), "int2vector" | "oidvector") =>
            {
                Kind::Array { element }
            }
            _ => Kind::Base,
        };
        Self {
            home: match row.get::<_, Option<String>>(9) {
                Some(extension) => Home::Extension(extension),
                None if schema == "pg_catalog" => Home::System,
                None => Home::Own,
            },
            delimiter: row.get::<_, &str>(11).bytes().next().unwrap_or(b','),
            name,
            kind,
        }
    }
}

/// `attndims`, `typndims`
pub(super) fn dimensions(declared: i32) -> usize {
    usize::try_from(declared).unwrap_or_default()
}

/// The types whose text is their form: Debezium's, or none that is better.
const TEXT_TYPES: [&str; 34] = [
    "line",
    "lseg",
    "path",
    "polygon",
    "circle",
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
        ("postgis", "geometry") => ColumnType::Geometry,
        ("postgis", "geography") => ColumnType::Geography,
        ("vector", "vector") => ColumnType::Vector,
        ("vector", "halfvec") => ColumnType::HalfVector,
        // Debezium's form for it counts dimensions in 16 bits, which not every one has.
        ("vector", "sparsevec") => ColumnType::Text,
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
        "point" => ColumnType::Point,
        "box" => ColumnType::Box,
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
