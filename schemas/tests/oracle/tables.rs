//! Tables that cover every column type, as they were also created for Debezium.

use tributary_schemas::table::{Attribute, ColumnType, Table};

use super::{column, table};

pub fn mood() -> ColumnType {
    let labels = ["sad", "ok", "very, happy", "größe"];
    ColumnType::Enum {
        labels: labels.map(str::to_owned).to_vec(),
    }
}

pub fn numeric(precision: u16, scale: i16) -> ColumnType {
    ColumnType::Numeric { precision, scale }
}

pub fn time(precision: u8) -> ColumnType {
    ColumnType::Time { precision }
}

pub fn timestamp(precision: u8) -> ColumnType {
    ColumnType::Timestamp { precision }
}

pub fn other(type_name: &str) -> ColumnType {
    ColumnType::TextForm {
        type_name: type_name.to_owned(),
    }
}

pub fn array(item: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(item))
}

pub fn composite(type_name: &str, attributes: &[(&str, ColumnType)]) -> ColumnType {
    let attributes = attributes.iter().map(|(name, column_type)| Attribute {
        name: (*name).to_owned(),
        column_type: column_type.clone(),
    });
    ColumnType::Composite {
        type_name: type_name.to_owned(),
        attributes: attributes.collect(),
    }
}

pub fn address() -> ColumnType {
    composite(
        "address",
        &[
            ("street", ColumnType::Text),
            ("zip", ColumnType::Int4),
            ("at", ColumnType::Point),
        ],
    )
}

/// Types that are made of others, some of them more than once.
pub fn structured() -> Table {
    let nested = composite(
        "nested",
        &[
            ("the address", address()),
            ("moods", array(mood())),
            ("total", ColumnType::VariableNumeric),
        ],
    );
    let columns = [
        ("k_address", address()),
        ("k_nested", nested.clone()),
        ("home", address()),
        ("other homes", array(address())),
        ("nested", nested),
        ("matrix", array(array(ColumnType::Int4))),
        ("at", ColumnType::Point),
        ("last seen", ColumnType::Point),
        ("shape", ColumnType::Geometry),
        ("shapes", array(ColumnType::Geometry)),
        ("region", ColumnType::Geography),
        ("embedding", ColumnType::Vector),
        ("half", ColumnType::HalfVector),
    ];
    let columns = columns.map(|(name, column_type)| column(name, column_type));
    table("structured", columns.to_vec(), &["k_address", "k_nested"])
}

/// Every type as a column outside the key.
pub fn every() -> Table {
    let columns = [
        ("id", ColumnType::Int8),
        ("c_bool", ColumnType::Bool),
        ("c_int2", ColumnType::Int2),
        ("c_int4", ColumnType::Int4),
        ("c_int8", ColumnType::Int8),
        ("c_float4", ColumnType::Float4),
        ("c_float8", ColumnType::Float8),
        ("c_oid", ColumnType::Oid),
        ("c_text", ColumnType::Text),
        ("c_num_10_2", numeric(10, 2)),
        ("c_num_5_0", numeric(5, 0)),
        ("c_num_neg", numeric(5, -2)),
        ("c_num_over", numeric(3, 5)),
        ("c_num", ColumnType::VariableNumeric),
        ("c_date", ColumnType::Date),
        ("c_time", time(6)),
        ("c_time0", time(0)),
        ("c_time3", time(3)),
        ("c_ts", timestamp(6)),
        ("c_ts0", timestamp(0)),
        ("c_ts3", timestamp(3)),
        ("c_ts4", timestamp(4)),
        ("c_tstz", ColumnType::TimestampTz),
        ("c_timetz", ColumnType::TimeTz),
        ("c_interval", ColumnType::Interval),
        ("c_uuid", ColumnType::Uuid),
        ("c_json", ColumnType::Json),
        ("c_xml", ColumnType::Xml),
        ("c_mood", mood()),
        ("c_bytea", ColumnType::Bytea),
        ("c_inet", other("inet")),
    ];
    let columns = columns.map(|(name, column_type)| column(name, column_type));
    table("every", columns.to_vec(), &["id"])
}

/// The types whose Avro form needs annotations of its own.
pub fn annotated() -> Table {
    let columns = [
        ("k_bit", ColumnType::Bit { length: 3 }),
        ("k_flag", ColumnType::Bit { length: 1 }),
        ("k_varbit", ColumnType::VarBit { length: Some(9) }),
        ("k_money", ColumnType::Money),
        ("k_hstore", ColumnType::Hstore),
        ("k_ltree", ColumnType::Ltree),
        ("c_bit", ColumnType::Bit { length: 24 }),
        ("c_flag", ColumnType::Bit { length: 1 }),
        ("c_varbit", ColumnType::VarBit { length: Some(9) }),
        ("c_anybit", ColumnType::VarBit { length: None }),
        ("c_money", ColumnType::Money),
        ("c_hstore", ColumnType::Hstore),
        ("c_ltree", ColumnType::Ltree),
        ("c_tsvector", ColumnType::TsVector),
        ("c_micros", ColumnType::IntervalMicros),
        ("a_bit", array(ColumnType::Bit { length: 3 })),
        ("a_varbit", array(ColumnType::VarBit { length: None })),
        ("a_money", array(ColumnType::Money)),
        ("a_hstore", array(ColumnType::Hstore)),
    ];
    let key: Vec<_> = columns
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.starts_with("k_"))
        .collect();
    let columns = columns
        .clone()
        .map(|(name, column_type)| column(name, column_type));
    table("annotated", columns.to_vec(), &key)
}

/// Arrays of every type.
pub fn arrays() -> Table {
    let columns = [
        ("a_bool", ColumnType::Bool),
        ("a_int2", ColumnType::Int2),
        ("a_int4", ColumnType::Int4),
        ("a_int8", ColumnType::Int8),
        ("a_float4", ColumnType::Float4),
        ("a_float8", ColumnType::Float8),
        ("a_oid", ColumnType::Oid),
        ("a_text", ColumnType::Text),
        ("a_num_10_2", numeric(10, 2)),
        ("a_num", ColumnType::VariableNumeric),
        ("a_date", ColumnType::Date),
        ("a_time", time(6)),
        ("a_time3", time(3)),
        ("a_ts", timestamp(6)),
        ("a_ts3", timestamp(3)),
        ("a_tstz", ColumnType::TimestampTz),
        ("a_timetz", ColumnType::TimeTz),
        ("a_interval", ColumnType::Interval),
        ("a_uuid", ColumnType::Uuid),
        ("a_json", ColumnType::Json),
        ("a_xml", ColumnType::Xml),
        ("a_mood", mood()),
        ("a_bytea", ColumnType::Bytea),
        ("a_inet", other("inet")),
    ];
    let columns = columns.map(|(name, item)| column(name, array(item)));
    let mut all = vec![column("id", ColumnType::Int4)];
    all.extend(columns);
    table("arrays", all, &["id"])
}

/// Every type in the key.
pub fn keyed() -> Table {
    let columns = [
        ("k_text", ColumnType::Text),
        ("k_num", numeric(10, 2)),
        ("k_numv", ColumnType::VariableNumeric),
        ("k_date", ColumnType::Date),
        ("k_time", time(6)),
        ("k_ts", timestamp(3)),
        ("k_tstz", ColumnType::TimestampTz),
        ("k_timetz", ColumnType::TimeTz),
        ("k_interval", ColumnType::Interval),
        ("k_uuid", ColumnType::Uuid),
        ("k_mood", mood()),
        ("k_bool", ColumnType::Bool),
        ("k_int2", ColumnType::Int2),
        ("k_oid", ColumnType::Oid),
        ("k_bytea", ColumnType::Bytea),
        ("k_arr", array(ColumnType::Int4)),
        ("v", ColumnType::Text),
        ("vd", ColumnType::Int4),
        ("vc", ColumnType::Text),
    ];
    let key: Vec<_> = columns
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.starts_with("k_"))
        .collect();
    let columns = columns
        .clone()
        .map(|(name, column_type)| column(name, column_type));
    table("keyed", columns.to_vec(), &key)
}

/// Names that Avro, Kafka or both refuse.
pub fn weird() -> Table {
    let columns = [
        ("the id", ColumnType::Int4),
        ("1st", ColumnType::Text),
        ("a b", ColumnType::Text),
        ("a_u0020b", ColumnType::Text),
        ("ü", array(ColumnType::Int4)),
        ("plain", ColumnType::Text),
        ("😀", ColumnType::Text),
        ("x.y", numeric(4, 1)),
        ("a-b", mood()),
        ("any number", ColumnType::VariableNumeric),
        ("another \"number\"", ColumnType::VariableNumeric),
        ("num\\bers", array(ColumnType::VariableNumeric)),
    ];
    let columns = columns.map(|(name, column_type)| column(name, column_type));
    table("Weird Näme-$", columns.to_vec(), &["the id"])
}

/// A key of two columns, in another order than the table's.
pub fn order_line() -> Table {
    let columns = [
        ("line", ColumnType::Int2),
        ("order_id", ColumnType::Int8),
        ("price", numeric(12, 4)),
    ];
    let columns = columns.map(|(name, column_type)| column(name, column_type));
    table("order_line", columns.to_vec(), &["order_id", "line"])
}

pub fn keyless() -> Table {
    table(
        "nokey",
        vec![column("a", ColumnType::Int4), column("b", ColumnType::Text)],
        &[],
    )
}

/// The types of all columns of [`every`].
pub fn every_type() -> Vec<ColumnType> {
    every()
        .columns
        .into_iter()
        .map(|column| column.column_type)
        .collect()
}
