//! The Avro type of a column.

use std::borrow::Cow;

use super::json::{object, quoted};
use super::named::{Names, Shared};
use crate::name::escape_avro;
use crate::table::{Attribute, Column, ColumnType, MONEY_PRECISION, MONEY_SCALE};

/// The parameter of the Connect schema that keeps a column's original name, where the escape
/// changed it (Debezium's own, from its `column.propagate.source.type`).
const COLUMN_NAME: &str = "__debezium.source.column.name";

/// The parameter of `io.debezium.data.Bits` that says that a value has as many bytes as bits. Debezium's form loses
/// the zeros in front of a `bit varying`; whoever reads these bytes as its `Bits` sees the same number.
const COUNTED_BITS: &str = "tributary.counted";

/// What Debezium gives as the length of a `bit varying` without one.
const ANY_LENGTH: u32 = i32::MAX.unsigned_abs();

/// Where a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// In the record `Key`.
    Key,
    /// In the record `Value`.
    Value,
}

/// An Avro type on its way into JSON.
struct AvroType {
    /// The Avro type: the text of `"type"`, already JSON.
    base: String,
    /// Members between `type` and the `connect.*` annotations: `items`, `scale`, `fields`.
    attributes: String,
    /// `connect.type`, for the integers that Avro does not have.
    connect_type: Option<&'static str>,
    /// `connect.name` and its version, 1.
    connect_name: Option<Cow<'static, str>>,
    /// `connect.doc`.
    connect_doc: Option<&'static str>,
    /// `connect.parameters`.
    parameters: Vec<(&'static str, String)>,
    /// Avro's own `logicalType`.
    logical_type: Option<&'static str>,
}

/// A column as a field of `Key` or `Value`.
pub(super) fn field<'t>(column: &'t Column, role: Role, names: &mut Names<'t>) -> String {
    let optional = role == Role::Value && column.key_position.is_none();
    names.inside(&column.name, |names| {
        let avro_type = AvroType::of(&column.column_type, role, names);
        avro_type.field(&column.name, &column.column_type, optional)
    })
}

impl AvroType {
    fn of<'t>(column_type: &'t ColumnType, role: Role, names: &mut Names<'t>) -> Self {
        if let Some(shared) = Shared::of(column_type) {
            return Self::shared(&shared, names);
        }
        match column_type {
            ColumnType::Bool => Self::plain("boolean"),
            ColumnType::Int2 => Self {
                connect_type: Some("int16"),
                ..Self::plain("int")
            },
            ColumnType::Int4 => Self::plain("int"),
            ColumnType::Int8 | ColumnType::Oid => Self::plain("long"),
            ColumnType::Float4 => Self::plain("float"),
            ColumnType::Float8 => Self::plain("double"),
            ColumnType::Text | ColumnType::Box | ColumnType::TextForm { .. } => {
                Self::plain("string")
            }
            ColumnType::Numeric { precision, scale } => {
                Self::decimal(i32::from(*precision), i32::from(*scale), role)
            }
            ColumnType::Money => Self::decimal(MONEY_PRECISION, MONEY_SCALE, role),
            ColumnType::Date => Self::meaning("int", "io.debezium.time.Date"),
            ColumnType::Time { precision: 0..=3 } => Self::meaning("int", "io.debezium.time.Time"),
            ColumnType::Time { .. } => Self::meaning("long", "io.debezium.time.MicroTime"),
            ColumnType::Timestamp { precision: 0..=3 } => {
                Self::meaning("long", "io.debezium.time.Timestamp")
            }
            ColumnType::Timestamp { .. } => {
                Self::meaning("long", "io.debezium.time.MicroTimestamp")
            }
            ColumnType::TimestampTz => Self::meaning("string", "io.debezium.time.ZonedTimestamp"),
            ColumnType::TimeTz => Self::meaning("string", "io.debezium.time.ZonedTime"),
            ColumnType::Interval => Self::meaning("string", "io.debezium.time.Interval"),
            ColumnType::IntervalMicros => Self::meaning("long", "io.debezium.time.MicroDuration"),
            ColumnType::Uuid => Self::meaning("string", "io.debezium.data.Uuid"),
            ColumnType::Json | ColumnType::Hstore => {
                Self::meaning("string", "io.debezium.data.Json")
            }
            ColumnType::Ltree => Self::meaning("string", "io.debezium.data.Ltree"),
            ColumnType::TsVector => Self::meaning("string", "io.debezium.data.Tsvector"),
            ColumnType::Xml => Self::meaning("string", "io.debezium.data.Xml"),
            ColumnType::Enum { labels } => Self {
                parameters: match role {
                    Role::Key => Vec::new(),
                    Role::Value => vec![("allowed", labels.join(","))],
                },
                ..Self::meaning("string", "io.debezium.data.Enum")
            },
            ColumnType::Bytea => Self::plain("bytes"),
            ColumnType::Bit { length: 1 } => Self::plain("boolean"),
            ColumnType::Bit { length } => Self::bits(*length, false, role),
            ColumnType::VarBit { length } => Self::bits(length.unwrap_or(ANY_LENGTH), true, role),
            ColumnType::Array(item) => Self {
                attributes: format!(
                    ",\"items\":[\"null\",{}]",
                    Self::of(item, role, names).json()
                ),
                ..Self::plain("array")
            },
            ColumnType::ArrayDomain(array) => Self::of(array, role, names),
            ColumnType::Vector => Self::vector("double", "io.debezium.data.DoubleVector"),
            ColumnType::HalfVector => Self::vector("float", "io.debezium.data.FloatVector"),
            ColumnType::Composite { attributes, .. } => Self::composite(attributes, role, names),
            // Returned above.
            ColumnType::VariableNumeric
            | ColumnType::Point
            | ColumnType::Geometry
            | ColumnType::Geography => Self::plain("record"),
        }
    }

    fn plain(base: &str) -> Self {
        Self {
            base: quoted(base),
            attributes: String::new(),
            connect_type: None,
            connect_name: None,
            connect_doc: None,
            parameters: Vec::new(),
            logical_type: None,
        }
    }

    fn meaning(base: &str, name: &'static str) -> Self {
        Self {
            connect_name: Some(name.into()),
            ..Self::plain(base)
        }
    }

    /// `numeric(precision, scale)`. Avro's `decimal` wants 0 ≤ scale ≤ precision, which Postgres
    /// does not: a negative scale is written as 0 with more digits, a scale above the precision
    /// raises the precision.
    fn decimal(precision: i32, scale: i32, role: Role) -> Self {
        let digits = if scale < 0 {
            precision - scale
        } else {
            precision.max(scale)
        };
        let scale = scale.max(0);
        let mut parameters = vec![("scale", scale.to_string())];
        let (mut attributes, mut logical_type) = (String::new(), None);
        if role == Role::Value {
            parameters.push(("connect.decimal.precision", digits.to_string()));
            attributes = format!(",\"scale\":{scale},\"precision\":{digits}");
            logical_type = Some("decimal");
        }
        Self {
            attributes,
            parameters,
            logical_type,
            ..Self::meaning("bytes", "org.apache.kafka.connect.data.Decimal")
        }
    }

    /// A key's schema has no lengths, so the bits of a key are counted by the value.
    fn bits(length: u32, varying: bool, role: Role) -> Self {
        let mut parameters = Vec::new();
        if role == Role::Value {
            parameters.push(("length", length.to_string()));
        }
        if varying || role == Role::Key {
            parameters.push((COUNTED_BITS, "true".to_owned()));
        }
        Self {
            parameters,
            ..Self::meaning("bytes", "io.debezium.data.Bits")
        }
    }

    /// A record of Debezium's, or a reference to its definition.
    fn shared(shared: &Shared, names: &mut Names<'_>) -> Self {
        if !names.defines(shared) {
            return Self::plain(shared.full_name);
        }
        Self {
            attributes: shared.definition.to_owned(),
            connect_doc: Some(shared.doc),
            ..Self::meaning("record", shared.full_name)
        }
    }

    /// pgvector's items are never null.
    fn vector(item: &str, name: &'static str) -> Self {
        Self {
            attributes: format!(",\"items\":{}", quoted(item)),
            ..Self::meaning("array", name)
        }
    }

    /// A record of its own in each place: the schema can tell then what each column holds, whatever becomes of
    /// another one of the same type.
    fn composite<'t>(attributes: &'t [Attribute], role: Role, names: &mut Names<'t>) -> Self {
        let name = names.composite();
        let fields: Vec<_> = attributes
            .iter()
            .map(|attribute| {
                names.inside(&attribute.name, |names| {
                    let avro_type = Self::of(&attribute.column_type, role, names);
                    avro_type.field(&attribute.name, &attribute.column_type, true)
                })
            })
            .collect();
        let namespace = names.namespace();
        Self {
            attributes: format!(
                ",\"name\":\"{name}\",\"namespace\":{},\"fields\":[{}]",
                quoted(namespace),
                fields.join(",")
            ),
            connect_name: Some(format!("{namespace}.{name}").into()),
            ..Self::plain("record")
        }
    }

    /// A field of this type.
    fn field(mut self, name: &str, column_type: &ColumnType, optional: bool) -> String {
        let escaped = escape_avro(name);
        let mut in_field = String::new();
        if escaped != name {
            let original = (COLUMN_NAME, name.to_owned());
            // All columns of a shared type have one definition, so it cannot hold the name of one.
            if Shared::of(column_type).is_some() {
                in_field = format!(",\"connect.parameters\":{}", object(&[original]));
            } else {
                self.parameters.push(original);
            }
        }
        let schema = self.json();
        if optional {
            format!(
                "{{\"name\":\"{escaped}\",\"type\":[\"null\",{schema}],\"default\":null{in_field}}}"
            )
        } else {
            format!("{{\"name\":\"{escaped}\",\"type\":{schema}{in_field}}}")
        }
    }

    /// The members in the order in which Connect's converters write them.
    fn json(&self) -> String {
        let mut members = format!("\"type\":{}{}", self.base, self.attributes);
        let mut push = |member: String| {
            members.push(',');
            members.push_str(&member);
        };
        if let Some(doc) = self.connect_doc {
            push(format!("\"connect.doc\":{}", quoted(doc)));
        }
        if self.connect_name.is_some() {
            push("\"connect.version\":1".to_owned());
        }
        if !self.parameters.is_empty() {
            push(format!(
                "\"connect.parameters\":{}",
                object(&self.parameters)
            ));
        }
        if let Some(connect_type) = self.connect_type {
            push(format!("\"connect.type\":{}", quoted(connect_type)));
        }
        if let Some(name) = &self.connect_name {
            push(format!("\"connect.name\":{}", quoted(name)));
        }
        if let Some(logical_type) = self.logical_type {
            push(format!("\"logicalType\":{}", quoted(logical_type)));
        }
        let bare = format!("\"type\":{}", self.base);
        if members == bare {
            self.base.clone()
        } else {
            format!("{{{members}}}")
        }
    }
}
