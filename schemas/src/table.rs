//! A table as Postgres' catalog describes it: the input of every encode plan.

/// A table, its columns in the order in which the stream and the snapshot send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`: the identity that a rename does not change.
    pub oid: u32,
    /// The schema's name, as Postgres has it (unescaped).
    pub schema: String,
    /// The table's name, as Postgres has it (unescaped).
    pub name: String,
    /// All columns on the wire: generated ones are not among them.
    pub columns: Vec<Column>,
}

impl Table {
    /// The indexes into [`Table::columns`] of the key, in key order; empty for a table without one.
    pub fn key_columns(&self) -> Vec<usize> {
        let mut key: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(index, column)| Some((column.key_position?, index)))
            .collect();
        key.sort_unstable();
        key.into_iter().map(|(_, index)| index).collect()
    }

    /// The names of the key's columns, in key order.
    pub fn key(&self) -> Vec<String> {
        let key = self.key_columns().into_iter();
        key.map(|index| self.columns[index].name.clone()).collect()
    }

    /// Whether its rows cannot be told apart.
    pub fn is_keyless(&self) -> bool {
        self.columns
            .iter()
            .all(|column| column.key_position.is_none())
    }
}

/// Digits of the largest `money`, a 64-bit number of hundredths.
pub(crate) const MONEY_PRECISION: i32 = 19;
/// Digits behind the point of `money`.
pub(crate) const MONEY_SCALE: i32 = 2;

/// A column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name, as Postgres has it (unescaped).
    pub name: String,
    /// `pg_attribute.attnum`: the identity that a rename does not change.
    pub attnum: i16,
    /// What the column holds.
    pub column_type: ColumnType,
    /// The place in the primary key (or replica identity index), counted from 0; `None` outside it.
    pub key_position: Option<u16>,
}

/// What a column holds, as far as the wire cares. Domains are resolved to their base type.
///
/// The Avro form of each stands in the contract's table of types (docs/contract.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `oid`
    Oid,
    /// `text`, `varchar`, `char(n)`, `name`, `"char"`, `citext`; also every type whose text is its form
    /// (`inet`, ranges), and any column that was asked to travel as text
    Text,
    /// `numeric(precision, scale)`; a scale may be negative or above the precision since PG15.
    Numeric {
        /// Digits in all.
        precision: u16,
        /// Digits behind the point.
        scale: i16,
    },
    /// `numeric` without precision and scale
    VariableNumeric,
    /// `money`, as a session with lc_monetary=C prints it: two digits behind the point
    Money,
    /// `date`
    Date,
    /// `time(precision)`, 0 to 6
    Time {
        /// Digits of the second's fraction.
        precision: u8,
    },
    /// `timestamp(precision)`, 0 to 6
    Timestamp {
        /// Digits of the second's fraction.
        precision: u8,
    },
    /// `timestamptz`
    TimestampTz,
    /// `timetz`
    TimeTz,
    /// `interval`
    Interval,
    /// `interval` as a number of microseconds: lossy, by option
    IntervalMicros,
    /// `uuid`
    Uuid,
    /// `json`, `jsonb`
    Json,
    /// `hstore`, which travels as JSON
    Hstore,
    /// `ltree`
    Ltree,
    /// `tsvector`
    TsVector,
    /// `xml`
    Xml,
    /// An enum and its labels in their sort order.
    Enum {
        /// `pg_enum.enumlabel` in `enumsortorder`.
        labels: Vec<String>,
    },
    /// `bytea`
    Bytea,
    /// `bit(length)`; of length 1 it is a boolean
    Bit {
        /// How many bits each value has.
        length: u32,
    },
    /// `bit varying(length)`
    VarBit {
        /// How many bits a value may have; `None` for any number.
        length: Option<u32>,
    },
    /// One dimension of an array; the items of one with several dimensions are arrays.
    Array(Box<ColumnType>),
    /// A domain over an array, where it is the item of an array: a value of its own, not a further dimension.
    ArrayDomain(Box<ColumnType>),
    /// A composite type, or a table's row type.
    Composite {
        /// The type's name, for messages.
        type_name: String,
        /// Its attributes in their order, without the dropped ones.
        attributes: Vec<Attribute>,
    },
    /// `box`: its text, in whose arrays a semicolon stands between
    Box,
    /// `point`
    Point,
    /// PostGIS' `geometry`
    Geometry,
    /// PostGIS' `geography`
    Geography,
    /// pgvector's `vector`
    Vector,
    /// pgvector's `halfvec`
    HalfVector,
    /// Any other type, as the text that Postgres prints for it.
    TextForm {
        /// The type's name, for the warning that is given once per column.
        type_name: String,
    },
}

/// An attribute of a [`ColumnType::Composite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The name, as Postgres has it (unescaped).
    pub name: String,
    /// What it holds.
    pub column_type: ColumnType,
}

impl ColumnType {
    /// What stands between the items of an array of this type (`pg_type.typdelim`): a comma but for types
    /// whose own text is full of commas, or, with PostGIS, of whose arrays somebody thought so.
    pub fn array_delimiter(&self) -> u8 {
        match self {
            Self::Box => b';',
            Self::Geometry | Self::Geography => b':',
            Self::Array(item) | Self::ArrayDomain(item) => item.array_delimiter(),
            _ => b',',
        }
    }

    /// The types inside of it (itself, an item, an attribute) that have no form but their text.
    pub fn text_forms(&self) -> Vec<&str> {
        match self {
            Self::TextForm { type_name } => vec![type_name],
            Self::Array(item) | Self::ArrayDomain(item) => item.text_forms(),
            Self::Composite { attributes, .. } => attributes
                .iter()
                .flat_map(|attribute| attribute.column_type.text_forms())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Every `interval` in it becomes a number of microseconds.
    pub fn count_intervals(&mut self) {
        match self {
            Self::Interval => *self = Self::IntervalMicros,
            Self::Array(item) | Self::ArrayDomain(item) => item.count_intervals(),
            Self::Composite { attributes, .. } => {
                for attribute in attributes {
                    attribute.column_type.count_intervals();
                }
            }
            _ => {}
        }
    }

    /// How many dimensions an array of this type has; 0 for what is no array.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Array(item) => 1 + item.dimensions(),
            _ => 0,
        }
    }
}

/// One column's value as Postgres sent it: the text form of the type's output function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL null, or a column that the old row of a DEFAULT replica identity leaves out.
    Null,
    /// The text form, in UTF-8.
    Text(&'a [u8]),
}
