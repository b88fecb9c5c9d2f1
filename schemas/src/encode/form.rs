//! What becomes of a column's text.

use super::misfit::Misfit;
use super::{
    array, binary, bits, calendar, composite, decimal, geometry, hstore, interval, number,
};
use crate::table::ColumnType;

/// How a column's text becomes Avro.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Bool,
    /// `smallint`, `integer`, `bigint` and `oid`, each with the range that it has.
    Integer {
        min: i64,
        max: i64,
    },
    Float4 {
        canonical: bool,
    },
    Float8 {
        canonical: bool,
    },
    Text,
    Decimal(decimal::Fixed),
    VariableDecimal {
        canonical: bool,
    },
    Money,
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    ZonedTimestamp,
    ZonedTime,
    Interval,
    IntervalMicros,
    Hstore,
    Bytes,
    /// `bit(1)`
    Bit,
    /// `bit(length)`
    Bits {
        length: usize,
    },
    /// As many bytes as bits.
    CountedBits,
    Array {
        item: Box<Form>,
        layout: array::Layout,
    },
    /// A composite, by its attributes.
    Composite(Box<[Form]>),
    Point,
    /// `geometry` and `geography`.
    Ewkb,
    Vector {
        item: Box<Form>,
    },
}

impl Form {
    pub(super) fn of(column_type: &ColumnType) -> Self {
        let integer = |min, max| Self::Integer { min, max };
        match column_type {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
            ColumnType::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
            ColumnType::Int8 => integer(i64::MIN, i64::MAX),
            ColumnType::Oid => integer(0, u32::MAX.into()),
            ColumnType::Float4 => Self::Float4 { canonical: false },
            ColumnType::Float8 => Self::Float8 { canonical: false },
            ColumnType::Numeric { precision, scale } => {
                Self::Decimal(decimal::Fixed::new(*precision, *scale))
            }
            ColumnType::VariableNumeric => Self::VariableDecimal { canonical: false },
            ColumnType::Money => Self::Money,
            ColumnType::Date => Self::Date,
            ColumnType::Time { precision: 0..=3 } => Self::TimeMillis,
            ColumnType::Time { .. } => Self::TimeMicros,
            ColumnType::Timestamp { precision: 0..=3 } => Self::TimestampMillis,
            ColumnType::Timestamp { .. } => Self::TimestampMicros,
            ColumnType::TimestampTz => Self::ZonedTimestamp,
            ColumnType::TimeTz => Self::ZonedTime,
            ColumnType::Interval => Self::Interval,
            ColumnType::IntervalMicros => Self::IntervalMicros,
            ColumnType::Hstore => Self::Hstore,
            ColumnType::Bytea => Self::Bytes,
            ColumnType::Bit { length: 1 } => Self::Bit,
            ColumnType::Bit { length } => Self::Bits {
                length: *length as usize,
            },
            ColumnType::VarBit { .. } => Self::CountedBits,
            ColumnType::Text
            | ColumnType::Uuid
            | ColumnType::Json
            | ColumnType::Xml
            | ColumnType::Ltree
            | ColumnType::TsVector
            | ColumnType::Box
            | ColumnType::Enum { .. }
            | ColumnType::TextForm { .. } => Self::Text,
            ColumnType::Array(item) => Self::Array {
                item: Box::new(Self::of(item)),
                layout: array::Layout::of(item),
            },
            ColumnType::ArrayDomain(array) => Self::of(array),
            ColumnType::Composite { attributes, .. } => {
                let attributes = attributes.iter();
                Self::Composite(
                    attributes
                        .map(|attribute| Self::of(&attribute.column_type))
                        .collect(),
                )
            }
            ColumnType::Point => Self::Point,
            ColumnType::Geometry | ColumnType::Geography => Self::Ewkb,
            ColumnType::Vector => Self::Vector {
                item: Box::new(Self::Float8 { canonical: false }),
            },
            ColumnType::HalfVector => Self::Vector {
                item: Box::new(Self::Float4 { canonical: false }),
            },
        }
    }

    /// The form that gives equal values equal bytes.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Float4 { .. } => Self::Float4 { canonical: true },
            Self::Float8 { .. } => Self::Float8 { canonical: true },
            Self::VariableDecimal { .. } => Self::VariableDecimal { canonical: true },
            Self::Bits { .. } => Self::CountedBits,
            Self::Array { item, layout } => Self::Array {
                item: Box::new(item.canonical()),
                layout,
            },
            Self::Composite(attributes) => {
                Self::Composite(attributes.into_iter().map(Self::canonical).collect())
            }
            Self::Vector { item } => Self::Vector {
                item: Box::new(item.canonical()),
            },
            other => other,
        }
    }

    /// Appends the value; on an error, `out` is left with whatever was written so far.
    #[inline]
    pub(super) fn append(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        match self {
            Self::Bool => match text {
                b"t" => out.push(1),
                b"f" => out.push(0),
                _ => return Err(Misfit::text("it is neither t nor f")),
            },
            Self::Integer { min, max } => {
                let value = number::integer(text)?;
                if !(*min..=*max).contains(&value) {
                    return Err(Misfit::text("it is out of the type's range"));
                }
                binary::long(value, out);
            }
            Self::Float4 { canonical } => {
                let value: f32 = number::float(text)?;
                let value = if *canonical { value + 0.0 } else { value };
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Float8 { canonical } => {
                let value: f64 = number::float(text)?;
                let value = if *canonical { value + 0.0 } else { value };
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Text => {
                if std::str::from_utf8(text).is_err() {
                    return Err(Misfit::value("it is not valid UTF-8"));
                }
                binary::string(text, out);
            }
            Self::Decimal(fixed) => fixed.append(text, out)?,
            Self::VariableDecimal { canonical } => decimal::variable(text, *canonical, out)?,
            Self::Money => decimal::money(text, out)?,
            Self::Date => binary::long(calendar::date(text)?.into(), out),
            Self::TimeMillis => binary::long(calendar::time_millis(text)?, out),
            Self::TimeMicros => binary::long(calendar::time_micros(text)?, out),
            Self::TimestampMillis => binary::long(calendar::timestamp_millis(text)?, out),
            Self::TimestampMicros => binary::long(calendar::timestamp_micros(text)?, out),
            Self::ZonedTimestamp => binary::sized(out, |out| calendar::zoned_timestamp(text, out))?,
            Self::ZonedTime => binary::sized(out, |out| calendar::zoned_time(text, out))?,
            Self::Interval => binary::sized(out, |out| interval::iso(text, out))?,
            Self::IntervalMicros => binary::long(interval::micros(text)?, out),
            Self::Hstore => binary::sized(out, |out| hstore::json(text, out))?,
            Self::Bytes => number::bytea(text, out)?,
            Self::Bit => out.push(bits::single(text)?),
            Self::Bits { length } => bits::fixed(text, *length, out)?,
            Self::CountedBits => bits::counted(text, out)?,
            Self::Array { item, layout } => {
                layout.append(text, out, |text, out| item.append(text, out))?;
            }
            Self::Composite(attributes) => composite::append(attributes, text, out, Self::append)?,
            Self::Point => geometry::point(text, out)?,
            Self::Ewkb => geometry::ewkb(text, out)?,
            Self::Vector { item } => {
                array::vector(text, out, |text, out| item.append(text, out))?;
            }
        }
        Ok(())
    }
}
