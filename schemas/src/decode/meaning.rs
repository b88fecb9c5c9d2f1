//! What the annotations of an Avro type make of it.
//!
//! `connect.name` comes first (Debezium's and Kafka Connect's semantic types), then Avro's
//! `logicalType`. A name that does not belong to the Avro type it stands on is ignored, as the
//! Avro specification says of logical types.

use serde_json::{Map, Value};

use crate::record::FieldType;

/// The parameter in which Debezium (and Tributary) keep a column's original name.
const COLUMN_NAME: &str = "__debezium.source.column.name";

/// The parameter of our `Bits` that says that a value has as many bytes as bits.
const COUNTED_BITS: &str = "tributary.counted";

/// What Connect's Avro converters write as `precision` where the schema knows none.
const UNKNOWN_PRECISION: u32 = 64;

/// The annotations of one schema object; empty for a bare type name.
#[derive(Clone, Copy)]
pub(super) struct Annotations<'j>(Option<&'j Map<String, Value>>);

impl<'j> Annotations<'j> {
    pub(super) const NONE: Self = Self(None);

    pub(super) const fn of(object: &'j Map<String, Value>) -> Self {
        Self(Some(object))
    }

    fn text(self, key: &str) -> Option<&'j str> {
        self.0?.get(key)?.as_str()
    }

    fn number<N: TryFrom<i64> + std::str::FromStr>(self, key: &str) -> Option<N> {
        number(self.0?.get(key)?)
    }

    /// A parameter of the Connect schema.
    fn parameter(self, key: &str) -> Option<&'j Value> {
        self.0?.get("connect.parameters")?.as_object()?.get(key)
    }

    pub(super) fn connect_name(self) -> Option<&'j str> {
        self.text("connect.name")
    }

    /// The column's original name, where the schema tells it.
    pub(super) fn column_name(self) -> Option<&'j str> {
        self.parameter(COLUMN_NAME)?.as_str()
    }

    /// The meaning of an `int`.
    pub(super) fn of_int(self) -> FieldType {
        match self.connect_name() {
            Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => {
                return FieldType::Date;
            }
            Some("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => {
                return FieldType::TimeMillis;
            }
            _ => {}
        }
        match self.text("logicalType") {
            Some("date") => FieldType::Date,
            Some("time-millis") => FieldType::TimeMillis,
            _ => FieldType::Int32,
        }
    }

    /// The meaning of a `long`.
    pub(super) fn of_long(self) -> FieldType {
        let connect = match self.connect_name() {
            Some("io.debezium.time.MicroTime") => Some(FieldType::TimeMicros),
            Some("io.debezium.time.NanoTime") => Some(FieldType::TimeNanos),
            Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => {
                Some(FieldType::TimestampMillis)
            }
            Some("io.debezium.time.MicroTimestamp") => Some(FieldType::TimestampMicros),
            Some("io.debezium.time.NanoTimestamp") => Some(FieldType::TimestampNanos),
            Some("io.debezium.time.MicroDuration") => Some(FieldType::MicroDuration),
            _ => None,
        };
        connect.unwrap_or_else(|| match self.text("logicalType") {
            Some("time-micros") => FieldType::TimeMicros,
            Some("timestamp-millis" | "local-timestamp-millis") => FieldType::TimestampMillis,
            Some("timestamp-micros" | "local-timestamp-micros") => FieldType::TimestampMicros,
            Some("timestamp-nanos" | "local-timestamp-nanos") => FieldType::TimestampNanos,
            _ => FieldType::Int64,
        })
    }

    /// The meaning of a `string`.
    pub(super) fn of_string(self) -> FieldType {
        match self.connect_name() {
            Some("io.debezium.time.ZonedTimestamp") => FieldType::ZonedTimestamp,
            Some("io.debezium.time.ZonedTime") => FieldType::ZonedTime,
            Some("io.debezium.time.Interval") => FieldType::Interval,
            Some("io.debezium.data.Uuid") => FieldType::Uuid,
            Some("io.debezium.data.Json") => FieldType::Json,
            Some("io.debezium.data.Xml") => FieldType::Xml,
            Some("io.debezium.data.Ltree") => FieldType::Ltree,
            Some("io.debezium.data.Tsvector") => FieldType::TsVector,
            Some("io.debezium.data.Enum") => FieldType::Enum,
            _ if self.text("logicalType") == Some("uuid") => FieldType::Uuid,
            _ => FieldType::String,
        }
    }

    /// The meaning of `bytes`, or what is wrong with a decimal.
    pub(super) fn of_bytes(self) -> Result<FieldType, String> {
        match self.connect_name() {
            Some("io.debezium.data.Bits") => {
                let length = self.parameter("length").and_then(number);
                let counted = self.parameter(COUNTED_BITS).and_then(Value::as_str) == Some("true");
                Ok(FieldType::Bits { length, counted })
            }
            Some("org.apache.kafka.connect.data.Decimal") => self.connect_decimal(),
            _ => Ok(self.of_fixed()),
        }
    }

    /// The meaning of a `fixed`, and of `bytes` without a Connect name.
    pub(super) fn of_fixed(self) -> FieldType {
        if self.text("logicalType") != Some("decimal") {
            return FieldType::Bytes;
        }
        // Avro: precision is required, scale defaults to 0; a wrong logical type is to be ignored.
        let scale = if self.0.is_some_and(|object| object.contains_key("scale")) {
            self.number("scale").filter(|scale: &i32| *scale >= 0)
        } else {
            Some(0)
        };
        match (self.number("precision"), scale) {
            (Some(precision), Some(scale)) => FieldType::Decimal {
                precision: Some(precision),
                scale,
            },
            _ => FieldType::Bytes,
        }
    }

    fn connect_decimal(self) -> Result<FieldType, String> {
        let scale = self
            .parameter("scale")
            .and_then(number)
            .or_else(|| self.number("scale"));
        let scale = scale.ok_or("a Decimal needs its scale in connect.parameters")?;
        let precision = match self.parameter("connect.decimal.precision") {
            Some(precision) => number(precision),
            None => self
                .number("precision")
                .filter(|precision| *precision != UNKNOWN_PRECISION),
        };
        Ok(FieldType::Decimal { precision, scale })
    }
}

/// A JSON number, or one in a string, as Connect writes its parameters.
fn number<N: TryFrom<i64> + std::str::FromStr>(value: &Value) -> Option<N> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => N::try_from(value.as_i64()?).ok(),
    }
}
