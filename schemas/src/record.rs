//! What a sink sees of a record: typed fields, borrowed from the record's own bytes.

/// A record type read from an Avro schema: a table's `Value`, or its `Key`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordType {
    /// The full Avro name, `<topic>.Value` or `<topic>.Key`, still escaped.
    pub full_name: String,
    /// The fields in schema order, which is the order of the data in a [`Row`].
    pub fields: Vec<Field>,
}

/// A geometric record of Debezium's, which means more than the sum of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometric {
    /// `io.debezium.data.geometry.Point` {x, y, wkb, srid}
    Point,
    /// `io.debezium.data.geometry.Geometry` or `.Geography` {wkb, srid}
    Ewkb,
}

impl RecordType {
    /// Which geometric record this is; `None` for any other, and for one with more fields than are known here.
    pub fn geometric(&self) -> Option<Geometric> {
        let kind = self.full_name.strip_prefix("io.debezium.data.geometry.")?;
        let has = |known: &[(&str, &FieldType)]| {
            let fields = self.fields.iter();
            fields
                .map(|field| (&*field.name, &field.field_type))
                .eq(known.iter().copied())
        };
        let (x, y) = (("x", &FieldType::Float64), ("y", &FieldType::Float64));
        let (wkb, srid) = (("wkb", &FieldType::Bytes), ("srid", &FieldType::Int32));
        match kind {
            "Point" if has(&[x, y, wkb, srid]) => Some(Geometric::Point),
            "Geometry" | "Geography" if has(&[wkb, srid]) => Some(Geometric::Ewkb),
            _ => None,
        }
    }
}

/// A field of a [`RecordType`].
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The column's original name (escapes undone).
    pub name: String,
    /// What the field holds.
    pub field_type: FieldType,
    /// Whether the field may hold [`Datum::Null`].
    pub nullable: bool,
}

/// What a field holds: an Avro type together with the Connect/Debezium name that gives it meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    /// `boolean`; [`Datum::Bool`]
    Bool,
    /// `int` (also of `connect.type` int8 and int16); [`Datum::Int`]
    Int32,
    /// `long`; [`Datum::Int`]
    Int64,
    /// `float`; [`Datum::Float`]
    Float32,
    /// `double`; [`Datum::Double`]
    Float64,
    /// `string` without a meaning that is listed below; [`Datum::Str`]
    String,
    /// `bytes` or `fixed` without a meaning that is listed below; [`Datum::Bytes`]
    Bytes,
    /// Connect's `Decimal` or Avro's `decimal`: [`Datum::Bytes`], big-endian two's complement, times 10^-scale
    Decimal {
        /// Digits in all, where the schema says so.
        precision: Option<u32>,
        /// Digits behind the point.
        scale: i32,
    },
    /// `io.debezium.data.VariableScaleDecimal`: [`Datum::VariableDecimal`]
    VariableDecimal,
    /// Days since 1970-01-01 (`io.debezium.time.Date`, Connect's and Avro's `date`); [`Datum::Int`]
    Date,
    /// Milliseconds since midnight; [`Datum::Int`]
    TimeMillis,
    /// Microseconds since midnight; [`Datum::Int`]
    TimeMicros,
    /// Nanoseconds since midnight; [`Datum::Int`]
    TimeNanos,
    /// Milliseconds since 1970-01-01 00:00:00, without a zone; [`Datum::Int`]
    TimestampMillis,
    /// Microseconds since 1970-01-01 00:00:00, without a zone; [`Datum::Int`]
    TimestampMicros,
    /// Nanoseconds since 1970-01-01 00:00:00, without a zone; [`Datum::Int`]
    TimestampNanos,
    /// `io.debezium.time.ZonedTimestamp`, ISO 8601; [`Datum::Str`]
    ZonedTimestamp,
    /// `io.debezium.time.ZonedTime`; [`Datum::Str`]
    ZonedTime,
    /// `io.debezium.time.Interval`, ISO 8601; [`Datum::Str`]
    Interval,
    /// `io.debezium.time.MicroDuration`, microseconds; [`Datum::Int`]
    MicroDuration,
    /// `io.debezium.data.Uuid`; [`Datum::Str`]
    Uuid,
    /// `io.debezium.data.Json`; [`Datum::Str`]
    Json,
    /// `io.debezium.data.Xml`; [`Datum::Str`]
    Xml,
    /// `io.debezium.data.Ltree`; [`Datum::Str`]
    Ltree,
    /// `io.debezium.data.Tsvector`; [`Datum::Str`]
    TsVector,
    /// `io.debezium.data.Enum` or an Avro enum; [`Datum::Str`]
    Enum,
    /// `io.debezium.data.Bits`, little-endian; [`Datum::Bytes`]
    Bits {
        /// Bits in all, where the schema says so; of a `bit varying` the most that a value may have.
        length: Option<u32>,
        /// Whether the number of bytes is the number of bits: a `bit varying` of ours, whose length is
        /// a part of the value.
        counted: bool,
    },
    /// [`Datum::Array`]
    Array(Box<Field>),
    /// An Avro map of strings to values, as a [`Datum::Array`] of two-field [`Datum::Struct`]s (key, value)
    Map(Box<Field>),
    /// Any other record (a composite, a point, a geometry); [`Datum::Struct`]
    Struct(RecordType),
}

/// One value, borrowed from the record's bytes where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum<'a> {
    /// No value.
    Null,
    /// The record does not carry the value: the row has the one that it had before. Only on topics of other producers; see
    /// [`unavailable`](crate::unavailable).
    Unavailable,
    /// The record does not carry the value, and the row that had it before is another one or gone: nobody has it.
    Lost,
    /// A boolean.
    Bool(bool),
    /// Any integer: `int` and `long` alike.
    Int(i64),
    /// A single-precision number.
    Float(f32),
    /// A double-precision number.
    Double(f64),
    /// Text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A decimal with a scale of its own.
    VariableDecimal {
        /// Digits behind the point.
        scale: i32,
        /// Big-endian two's complement.
        unscaled: &'a [u8],
    },
    /// The items of an array.
    Array(Vec<Datum<'a>>),
    /// The fields of a record.
    Struct(Vec<Datum<'a>>),
}

/// The data of one record, in the order of its [`RecordType::fields`].
pub type Row<'a> = Vec<Datum<'a>>;

/// What happened to a row (the envelope's `op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `r`: a row read by a snapshot
    Read,
    /// `c`: insert
    Create,
    /// `u`: update
    Update,
    /// `d`: delete
    Delete,
    /// `t`: truncate, or "the rows below are gone"
    Truncate,
    /// `m`: a logical message
    Message,
}

impl Op {
    /// The envelope's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Read => 'r',
            Self::Create => 'c',
            Self::Update => 'u',
            Self::Delete => 'd',
            Self::Truncate => 't',
            Self::Message => 'm',
        }
    }

    /// The operation of an envelope's `op`; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "r" => Self::Read,
            "c" => Self::Create,
            "u" => Self::Update,
            "d" => Self::Delete,
            "t" => Self::Truncate,
            "m" => Self::Message,
            _ => return None,
        })
    }
}

/// What a change event says beside its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What happened.
    pub op: Op,
    /// When it was committed, or read by a snapshot: microseconds since 1970; 0 where unknown.
    pub commit_time_us: i64,
    /// Whether it has a new row.
    pub has_row: bool,
}
