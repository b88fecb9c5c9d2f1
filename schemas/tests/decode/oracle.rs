//! apache-avro as the oracle: random schemas, random values, and every legal form of the bytes.

use std::collections::HashMap;
use std::fmt::Write as _;

use apache_avro::Schema;
use apache_avro::error::Details;
use apache_avro::types::Value;
use proptest::prelude::*;
use tributary_schemas::decode::KeyPlan;
use tributary_schemas::record::Datum;

use super::avro::{decode, encode};

/// A type without its names: those are given when the schema is written.
#[derive(Debug, Clone)]
enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(usize),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Record(Vec<Shape>),
    /// A record of one named type twice, the second time by its name.
    Twice(Vec<Shape>),
    Union(Vec<Shape>),
}

fn leaf() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Null),
        Just(Shape::Boolean),
        Just(Shape::Int),
        Just(Shape::Long),
        Just(Shape::Float),
        Just(Shape::Double),
        Just(Shape::Bytes),
        Just(Shape::String),
        (0..5_usize).prop_map(Shape::Fixed),
        (1..4_usize).prop_map(Shape::Enum),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    leaf().prop_recursive(4, 24, 5, |inner| {
        let fields = || prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            inner.clone().prop_map(|item| Shape::Array(item.into())),
            inner.clone().prop_map(|item| Shape::Map(item.into())),
            fields().prop_map(Shape::Record),
            fields().prop_map(Shape::Twice),
            (inner.clone(), any::<bool>())
                .prop_filter_map("a union or null", |(inner, first)| optional(inner, first)),
            prop::collection::vec(inner, 1..5).prop_map(union),
        ]
    })
}

fn optional(inner: Shape, null_first: bool) -> Option<Shape> {
    if matches!(inner, Shape::Union(_) | Shape::Null) {
        return None;
    }
    let branches = if null_first {
        vec![Shape::Null, inner]
    } else {
        vec![inner, Shape::Null]
    };
    Some(Shape::Union(branches))
}

/// A legal union: no union inside, no type without a name twice.
fn union(branches: Vec<Shape>) -> Shape {
    let mut kept: Vec<Shape> = Vec::new();
    for branch in branches {
        let named = matches!(
            branch,
            Shape::Record(_) | Shape::Twice(_) | Shape::Enum(_) | Shape::Fixed(_)
        );
        let kind = std::mem::discriminant(&branch);
        let taken = kept
            .iter()
            .any(|other| std::mem::discriminant(other) == kind);
        if !matches!(branch, Shape::Union(_)) && (named || !taken) {
            kept.push(branch);
        }
    }
    if kept.is_empty() {
        Shape::Int
    } else {
        Shape::Union(kept)
    }
}

/// Writes schemas, with a new name for each type and a namespace for some.
#[derive(Default)]
struct Names(usize);

impl Names {
    fn next(&mut self) -> (String, String) {
        self.0 += 1;
        let name = format!("T{}", self.0);
        match self.0 % 3 {
            0 => (
                format!(r#""name":"{name}","namespace":"space{}""#, self.0),
                format!("space{}.{name}", self.0),
            ),
            1 => (
                format!(r#""name":"dotted.space.{name}""#),
                format!("dotted.space.{name}"),
            ),
            _ => (format!(r#""name":"{name}""#), name),
        }
    }

    fn fields(&mut self, fields: &[Shape]) -> String {
        let mut json = String::new();
        for (index, field) in fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(
                json,
                r#"{comma}{{"name":"f{index}","type":{}}}"#,
                self.json(field)
            )
            .unwrap();
        }
        json
    }

    fn json(&mut self, shape: &Shape) -> String {
        match shape {
            Shape::Null => r#""null""#.to_owned(),
            Shape::Boolean => r#""boolean""#.to_owned(),
            Shape::Int => r#"{"type":"int","connect.type":"int16"}"#.to_owned(),
            Shape::Long => r#""long""#.to_owned(),
            Shape::Float => r#""float""#.to_owned(),
            Shape::Double => r#"{"type":"double"}"#.to_owned(),
            Shape::Bytes => r#""bytes""#.to_owned(),
            Shape::String => {
                r#"{"type":"string","connect.name":"io.debezium.data.Json"}"#.to_owned()
            }
            Shape::Fixed(size) => format!(r#"{{"type":"fixed",{},"size":{size}}}"#, self.next().0),
            Shape::Enum(symbols) => {
                let list: Vec<_> = (0..*symbols)
                    .map(|symbol| format!(r#""S{symbol}""#))
                    .collect();
                format!(
                    r#"{{"type":"enum",{},"symbols":[{}]}}"#,
                    self.next().0,
                    list.join(",")
                )
            }
            Shape::Array(item) => format!(r#"{{"type":"array","items":{}}}"#, self.json(item)),
            Shape::Map(value) => format!(r#"{{"type":"map","values":{}}}"#, self.json(value)),
            Shape::Record(fields) => {
                let name = self.next().0;
                format!(
                    r#"{{"type":"record",{name},"fields":[{}]}}"#,
                    self.fields(fields)
                )
            }
            Shape::Twice(fields) => {
                let (outer, _) = self.next();
                let (inner, full_name) = self.next_with_namespace();
                let fields = self.fields(fields);
                format!(
                    r#"{{"type":"record",{outer},"fields":[{{"name":"f0","type":{{"type":"record",{inner},"fields":[{fields}]}}}},
                    {{"name":"f1","type":"{full_name}"}}]}}"#
                )
            }
            Shape::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|branch| self.json(branch)).collect();
                format!("[{}]", branches.join(","))
            }
        }
    }

    fn next_with_namespace(&mut self) -> (String, String) {
        while !(self.0 + 1).is_multiple_of(3) {
            self.0 += 1;
        }
        self.next()
    }
}

fn value(shape: &Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Null => Just(Value::Null).boxed(),
        Shape::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Shape::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Shape::Long => prop_oneof![any::<i64>(), -300..300_i64]
            .prop_map(Value::Long)
            .boxed(),
        Shape::Float => any::<f32>().prop_map(Value::Float).boxed(),
        Shape::Double => any::<f64>().prop_map(Value::Double).boxed(),
        Shape::Bytes => prop::collection::vec(any::<u8>(), 0..80)
            .prop_map(Value::Bytes)
            .boxed(),
        Shape::String => any::<String>().prop_map(Value::String).boxed(),
        Shape::Fixed(size) => {
            let size = *size;
            prop::collection::vec(any::<u8>(), size)
                .prop_map(move |bytes| Value::Fixed(size, bytes))
                .boxed()
        }
        Shape::Enum(symbols) => (0..*symbols as u32)
            .prop_map(|symbol| Value::Enum(symbol, format!("S{symbol}")))
            .boxed(),
        Shape::Array(item) => prop::collection::vec(value(item), 0..5)
            .prop_map(Value::Array)
            .boxed(),
        Shape::Map(item) => prop::collection::hash_map(any::<String>(), value(item), 0..4)
            .prop_map(Value::Map)
            .boxed(),
        Shape::Record(fields) => record(fields),
        Shape::Twice(fields) => (record(fields), record(fields))
            .prop_map(|(first, second)| {
                Value::Record(vec![("f0".to_owned(), first), ("f1".to_owned(), second)])
            })
            .boxed(),
        Shape::Union(branches) => {
            let branches: Vec<_> = branches
                .iter()
                .enumerate()
                .map(|(index, branch)| {
                    value(branch).prop_map(move |value| Value::Union(index as u32, value.into()))
                })
                .collect();
            prop::strategy::Union::new(branches).boxed()
        }
    }
}

fn record(fields: &[Shape]) -> BoxedStrategy<Value> {
    let names = (0..fields.len())
        .map(|index| format!("f{index}"))
        .collect::<Vec<_>>();
    fields
        .iter()
        .map(value)
        .collect::<Vec<_>>()
        .prop_map(move |values| Value::Record(names.iter().cloned().zip(values).collect()))
        .boxed()
}

/// A schema's text, its shape and a value of it: always a record, so that keys are read whole.
fn case() -> impl Strategy<Value = (String, Shape, Value)> {
    prop::collection::vec(shape(), 0..5)
        .prop_map(Shape::Record)
        .prop_flat_map(|shape| {
            let schema = Names::default().json(&shape);
            let values = value(&shape);
            (Just(schema), Just(shape), values)
        })
}

/// Whether our datum is apache-avro's value. Floats by their bits: NaN equals itself.
fn same(shape: &Shape, expected: &Value, datum: &Datum<'_>) -> bool {
    match (shape, expected, datum) {
        (Shape::Union(branches), Value::Union(index, value), datum) => {
            same_branch(branches, *index as usize, value, datum)
        }
        (_, Value::Null, Datum::Null) => true,
        (_, Value::Boolean(a), Datum::Bool(b)) => a == b,
        (_, Value::Int(a), Datum::Int(b)) => i64::from(*a) == *b,
        (_, Value::Long(a), Datum::Int(b)) => a == b,
        (_, Value::Float(a), Datum::Float(b)) => a.to_bits() == b.to_bits(),
        (_, Value::Double(a), Datum::Double(b)) => a.to_bits() == b.to_bits(),
        (_, Value::Bytes(a) | Value::Fixed(_, a), Datum::Bytes(b)) => a == b,
        (_, Value::String(a) | Value::Enum(_, a), Datum::Str(b)) => a == b,
        (Shape::Array(item), Value::Array(a), Datum::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(item, a, b))
        }
        (Shape::Map(item), Value::Map(a), Datum::Array(b)) => same_map(item, a, b),
        (Shape::Record(fields), Value::Record(a), Datum::Struct(b)) => {
            a.len() == b.len()
                && fields
                    .iter()
                    .zip(a)
                    .zip(b)
                    .all(|((shape, (_, a)), b)| same(shape, a, b))
        }
        (Shape::Twice(fields), Value::Record(a), Datum::Struct(b)) => {
            let shape = Shape::Record(fields.clone());
            b.len() == 2 && a.iter().zip(b).all(|((_, a), b)| same(&shape, a, b))
        }
        _ => false,
    }
}

fn same_branch(branches: &[Shape], index: usize, value: &Value, datum: &Datum<'_>) -> bool {
    let is_null = |shape: &&Shape| matches!(shape, Shape::Null);
    let shape = &branches[index];
    if branches.iter().filter(|shape| !is_null(shape)).count() < 2 || is_null(&shape) {
        return same(shape, value, datum);
    }
    let field = branches[..index]
        .iter()
        .filter(|shape| !is_null(shape))
        .count();
    let Datum::Struct(fields) = datum else {
        return false;
    };
    fields.iter().enumerate().all(|(at, datum)| {
        if at == field {
            same(shape, value, datum)
        } else {
            *datum == Datum::Null
        }
    })
}

/// A key that comes twice in the bytes is once in apache-avro's map, with its last value.
fn same_map(item: &Shape, expected: &HashMap<String, Value>, entries: &[Datum<'_>]) -> bool {
    let mut last = HashMap::new();
    for entry in entries {
        let Datum::Struct(entry) = entry else {
            return false;
        };
        let [Datum::Str(key), value] = entry.as_slice() else {
            return false;
        };
        last.insert(*key, value);
    }
    last.len() == expected.len()
        && last.iter().all(|(key, value)| {
            expected
                .get(*key)
                .is_some_and(|expected| same(item, expected, value))
        })
}

/// Writes the bytes by hand, arrays and maps in blocks of two, with their size in front if `sized`.
fn by_hand(value: &Value, sized: bool, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Boolean(value) => out.push(u8::from(*value)),
        Value::Int(value) => long(i64::from(*value), out),
        Value::Long(value) => long(*value, out),
        Value::Float(value) => out.extend(value.to_le_bytes()),
        Value::Double(value) => out.extend(value.to_le_bytes()),
        Value::Bytes(bytes) => counted(bytes, out),
        Value::String(text) => counted(text.as_bytes(), out),
        Value::Fixed(_, bytes) => out.extend(bytes),
        Value::Enum(index, _) => long(i64::from(*index), out),
        Value::Union(index, value) => {
            long(i64::from(*index), out);
            by_hand(value, sized, out);
        }
        Value::Array(items) => {
            let write = |item: &Value| {
                let mut bytes = Vec::new();
                by_hand(item, sized, &mut bytes);
                bytes
            };
            blocks(&items.iter().map(write).collect::<Vec<_>>(), sized, out);
        }
        Value::Map(entries) => {
            let write = |(key, value): (&String, &Value)| {
                let mut bytes = Vec::new();
                counted(key.as_bytes(), &mut bytes);
                by_hand(value, sized, &mut bytes);
                bytes
            };
            blocks(&entries.iter().map(write).collect::<Vec<_>>(), sized, out);
        }
        Value::Record(fields) => fields
            .iter()
            .for_each(|(_, value)| by_hand(value, sized, out)),
        other => panic!("not generated: {other:?}"),
    }
}

fn blocks(items: &[Vec<u8>], sized: bool, out: &mut Vec<u8>) {
    for block in items.chunks(2) {
        let bytes = block.concat();
        if sized {
            long(-(block.len() as i64), out);
            long(bytes.len() as i64, out);
        } else {
            long(block.len() as i64, out);
        }
        out.extend(bytes);
    }
    out.push(0);
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend(bytes);
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_apache_avro_writes_is_read((schema, shape, value) in case()) {
        let plan = KeyPlan::compile(&schema).unwrap();
        let body = encode(&Schema::parse_str(&schema).unwrap(), value.clone());
        let row = plan.decode(&body).unwrap();
        prop_assert!(same(&shape, &value, &Datum::Struct(row)), "{}", schema);
        for end in 0..body.len() {
            prop_assert_eq!(plan.check(&body[..end]).err(), plan.decode(&body[..end]).err());
            prop_assert!(plan.decode(&body[..end]).is_err(), "cut at {} of {}", end, body.len());
        }
    }

    #[test]
    fn blocks_in_every_form_are_read((schema, shape, value) in case(), sized in any::<bool>()) {
        let plan = KeyPlan::compile(&schema).unwrap();
        let mut body = Vec::new();
        by_hand(&value, sized, &mut body);
        let oracle = decode(&Schema::parse_str(&schema).unwrap(), &body);
        let (expected, left) = oracle.expect("apache-avro reads it too");
        prop_assert_eq!(left, 0);
        let row = plan.decode(&body).unwrap();
        prop_assert!(same(&shape, &expected, &Datum::Struct(row)), "{}", schema);
    }

    /// Where an altered body still decodes, it decodes to the same value; and what apache-avro
    /// refuses is never accepted.
    #[test]
    fn altered_bytes_are_read_alike(
        (schema, shape, value) in case(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        apache_avro::util::max_allocation_bytes(1 << 16);
        let plan = KeyPlan::compile(&schema).unwrap();
        let avro = Schema::parse_str(&schema).unwrap();
        let mut body = encode(&avro, value);
        prop_assume!(!body.is_empty());
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        prop_assert_eq!(plan.check(&body).err(), plan.decode(&body).err());
        if let Ok(row) = plan.decode(&body) {
            match decode(&avro, &body) {
                Ok((expected, 0)) => {
                    prop_assert!(same(&shape, &expected, &Datum::Struct(row)), "{}", schema);
                }
                // Thousands of nulls are no bytes, and it reserves memory for each.
                Err(error) if matches!(error.details(), Details::MemoryAllocation { .. }) => {}
                _ => {
                    return Err(TestCaseError::fail(format!("accepted what apache-avro refuses: {body:?} as {schema}")));
                }
            }
        }
    }
}
