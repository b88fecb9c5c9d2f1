//! From text to Avro: whatever a column's text is, no panic; and what is encoded, apache-avro decodes.

use std::cell::RefCell;
use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use tributary_schemas::avro::{key_schema, value_schema};
use tributary_schemas::encode::{Change, EncodePlan, Snapshot, SourceIdentity};
use tributary_schemas::lsn::Lsn;
use tributary_schemas::record::Op;
use tributary_schemas::table::{Attribute, Cell, Column, ColumnType, Table};

use crate::rows::copy_text::CopyRow;

/// A type's name, as `format_type` prints it, and the type.
type Named = (&'static str, fn() -> ColumnType);

/// The types. An input's first byte is an index.
pub const TYPES: &[Named] = &[
    ("boolean", || ColumnType::Bool),
    ("smallint", || ColumnType::Int2),
    ("integer", || ColumnType::Int4),
    ("bigint", || ColumnType::Int8),
    ("oid", || ColumnType::Oid),
    ("real", || ColumnType::Float4),
    ("double precision", || ColumnType::Float8),
    ("text", || ColumnType::Text),
    ("numeric", || ColumnType::VariableNumeric),
    ("numeric(20,4)", || numeric(20, 4)),
    ("numeric(5,-2)", || numeric(5, -2)),
    ("numeric(2,4)", || numeric(2, 4)),
    ("money", || ColumnType::Money),
    ("date", || ColumnType::Date),
    ("time without time zone", || ColumnType::Time {
        precision: 6,
    }),
    ("time(3) without time zone", || ColumnType::Time {
        precision: 3,
    }),
    ("timestamp without time zone", || ColumnType::Timestamp {
        precision: 6,
    }),
    ("timestamp(3) without time zone", || ColumnType::Timestamp {
        precision: 3,
    }),
    ("timestamp with time zone", || ColumnType::TimestampTz),
    ("time with time zone", || ColumnType::TimeTz),
    ("interval", || ColumnType::Interval),
    ("interval as microseconds", || ColumnType::IntervalMicros),
    ("uuid", || ColumnType::Uuid),
    ("jsonb", || ColumnType::Json),
    ("hstore", || ColumnType::Hstore),
    ("ltree", || ColumnType::Ltree),
    ("tsvector", || ColumnType::TsVector),
    ("xml", || ColumnType::Xml),
    ("mood", || ColumnType::Enum {
        labels: ["sad", "ok"].map(str::to_owned).to_vec(),
    }),
    ("bytea", || ColumnType::Bytea),
    ("bit(1)", || ColumnType::Bit { length: 1 }),
    ("bit(11)", || ColumnType::Bit { length: 11 }),
    ("bit varying(12)", || ColumnType::VarBit {
        length: Some(12),
    }),
    ("bit varying", || ColumnType::VarBit { length: None }),
    ("inet", || ColumnType::TextForm {
        type_name: "inet".to_owned(),
    }),
    ("integer[]", || array(ColumnType::Int4)),
    ("text[]", || array(ColumnType::Text)),
    ("numeric(10,2)[]", || array(numeric(10, 2))),
    ("bytea[]", || array(ColumnType::Bytea)),
    ("timestamp with time zone[]", || {
        array(ColumnType::TimestampTz)
    }),
    ("box[]", || array(ColumnType::Box)),
    ("boolean[][]", || array(array(ColumnType::Bool))),
    ("point", || ColumnType::Point),
    ("geometry", || ColumnType::Geometry),
    ("geography[]", || array(ColumnType::Geography)),
    ("vector", || ColumnType::Vector),
    ("halfvec[]", || array(ColumnType::HalfVector)),
    ("pair", pair),
    ("pair[]", || array(pair())),
];

/// A composite in which another one is, and an array.
fn pair() -> ColumnType {
    let inner = composite("inner", [("n", numeric(4, 2)), ("p", ColumnType::Point)]);
    composite(
        "pair",
        [("inner", inner), ("texts", array(ColumnType::Text))],
    )
}

fn composite(name: &str, attributes: [(&str, ColumnType); 2]) -> ColumnType {
    let attributes = attributes.map(|(name, column_type)| Attribute {
        name: name.to_owned(),
        column_type,
    });
    ColumnType::Composite {
        type_name: name.to_owned(),
        attributes: attributes.into(),
    }
}

const fn numeric(precision: u16, scale: i16) -> ColumnType {
    ColumnType::Numeric { precision, scale }
}

fn array(item: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(item))
}

/// The plan of a table with one column of a type, and the schemas that must read what it writes.
struct Oracle {
    plan: EncodePlan,
    value: Schema,
    key: Option<Schema>,
}

thread_local! {
    static ORACLES: RefCell<HashMap<(usize, bool), Oracle>> = RefCell::default();
}

impl Oracle {
    fn new(index: usize, in_key: bool) -> Self {
        let table = Table {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: vec![Column {
                name: "c".to_owned(),
                attnum: 1,
                column_type: TYPES[index].1(),
                key_position: in_key.then_some(0),
            }],
        };
        let identity = SourceIdentity {
            version: "0".to_owned(),
            connector: "postgresql".to_owned(),
            name: "p".to_owned(),
            db: "d".to_owned(),
            region: None,
        };
        let parse = |text: &str| Schema::parse_str(text).expect("our schemas are legal");
        Self {
            plan: EncodePlan::compile(&table, &identity),
            value: parse(&value_schema("p.s.t", &table)),
            key: key_schema("p.s.t", &table).map(|text| parse(&text)),
        }
    }

    fn check(&self, text: &[u8]) {
        let row = [Cell::Text(text)];
        let mut bytes = Vec::new();
        let change = Change {
            op: Op::Create,
            before: None,
            after: Some(&row),
            commit_time_us: 0,
            snapshot: Snapshot::False,
            sequence: (None, Lsn(1)),
            tx_id: None,
            lsn: None,
            transaction: None,
            handled_at_ns: 0,
        };
        let encoded = self.plan.encode_envelope(&change, &mut bytes).is_ok();
        if encoded && std::str::from_utf8(text).is_ok() {
            decode(&self.value, &bytes);
        } else if !encoded {
            assert!(bytes.is_empty(), "a refused value leaves bytes behind");
        }
        if let Some(schema) = &self.key {
            let mut key = Vec::new();
            let with_key = self.plan.encode_key(&row, &mut key).is_ok();
            if with_key && std::str::from_utf8(text).is_ok() {
                decode(schema, &key);
            }
        }
    }
}

/// The whole of one datum.
fn decode(schema: &Schema, mut bytes: &[u8]) -> Value {
    let reader = GenericDatumReader::builder(schema)
        .build()
        .expect("a reader");
    let value = reader
        .read_value(&mut bytes)
        .expect("what is encoded decodes");
    assert!(bytes.is_empty(), "bytes are left");
    value
}

/// An index of [`TYPES`], and a text.
pub fn run(input: &[u8]) {
    let Some((index, text)) = input.split_first() else {
        return;
    };
    let index = usize::from(*index) % TYPES.len();
    ORACLES.with_borrow_mut(|oracles| {
        for in_key in [false, true] {
            let oracle = oracles
                .entry((index, in_key))
                .or_insert_with(|| Oracle::new(index, in_key));
            oracle.check(text);
        }
    });
    // A line of COPY has as many fields as tabs, and one more.
    let line: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\n').collect();
    let tabs = line.iter().filter(|byte| **byte == b'\t').count();
    let mut row = CopyRow::default();
    assert_eq!(row.parse(&line).len(), tabs + 1);
}
