//! A row as the JSON document that the engine stores.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use tributary_schemas::record::{Datum, FieldType, RecordType};
use tributary_schemas::render::{self, RenderError};

use crate::mapping::{self, SEQ_FIELD};

/// The engines' JSON parser refuses a number literal with more digits, and with it the document.
const NUMBER_BYTES: usize = 1000;

/// What is worked out once per row type: the field names as bytes, and the mapping.
#[derive(Debug)]
pub(crate) struct DocumentPlan {
    row_type: RecordType,
    /// `"name":` of each column, quoted and escaped.
    names: Vec<Vec<u8>>,
    properties: Map<String, Value>,
    /// The generation of the index that was seen to have all of [`DocumentPlan::properties`].
    mapped: AtomicU64,
}

impl DocumentPlan {
    pub(crate) fn new(row_type: &RecordType) -> Self {
        let names = row_type.fields.iter().map(|field| {
            let mut name = Vec::new();
            render::json_string(&mapping::field_name(&field.name), &mut name);
            name.push(b':');
            name
        });
        Self {
            names: names.collect(),
            properties: mapping::properties(row_type),
            row_type: row_type.clone(),
            mapped: AtomicU64::new(0),
        }
    }

    pub(crate) const fn row_type(&self) -> &RecordType {
        &self.row_type
    }

    /// The mapping of the columns and of [`SEQ_FIELD`].
    pub(crate) const fn properties(&self) -> &Map<String, Value> {
        &self.properties
    }

    /// Whether the index was seen to have all of [`DocumentPlan::properties`], and has not become another one since.
    pub(crate) fn is_mapped(&self, generation: u64) -> bool {
        self.mapped.load(Ordering::Acquire) == generation
    }

    pub(crate) fn set_mapped(&self, generation: u64) {
        self.mapped.store(generation, Ordering::Release);
    }

    /// Appends the document: every column, nulls too, in column order, then [`SEQ_FIELD`].
    ///
    /// # Errors
    /// A column's value has no JSON form; says which column. `out` then ends in a part of the document.
    pub(crate) fn write(
        &self,
        row: &[Datum<'_>],
        seq: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        out.push(b'{');
        for ((name, field), datum) in self.names.iter().zip(&self.row_type.fields).zip(row) {
            out.extend_from_slice(name);
            write_value(&field.field_type, datum, out)
                .map_err(|error| format!("column \"{}\": {error}", field.name))?;
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(SEQ_FIELD.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.push(b'}');
        Ok(())
    }
}

fn write_value(
    field_type: &FieldType,
    datum: &Datum<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let start = out.len();
    render::json(field_type, datum, out)?;
    if out.len() - start > NUMBER_BYTES && may_hold_numbers(field_type) {
        let quoted = quote_long_numbers(out.get(start..).unwrap_or_default());
        out.truncate(start);
        out.extend_from_slice(&quoted);
    }
    Ok(())
}

const fn may_hold_numbers(field_type: &FieldType) -> bool {
    matches!(
        field_type,
        FieldType::Decimal { .. }
            | FieldType::VariableDecimal
            | FieldType::Array(_)
            | FieldType::Map(_)
            | FieldType::Struct(_)
    )
}

/// `json` with every number literal beyond [`NUMBER_BYTES`] as a string: it then stays in `_source` digit by
/// digit, and a field with `ignore_malformed` passes over it, as over any number beyond a double.
fn quote_long_numbers(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut rest = json;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' => number_length(rest),
            _ => 1,
        };
        let (token, after) = rest.split_at(length.min(rest.len()));
        if first != b'"' && token.len() > NUMBER_BYTES {
            out.push(b'"');
            out.extend_from_slice(token);
            out.push(b'"');
        } else {
            out.extend_from_slice(token);
        }
        rest = after;
    }
    out
}

fn number_length(json: &[u8]) -> usize {
    json.iter()
        .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
        .count()
}

fn string_length(json: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in json.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

    use super::{DocumentPlan, quote_long_numbers};

    fn plan(fields: Vec<(&str, FieldType)>) -> DocumentPlan {
        DocumentPlan::new(&RecordType {
            full_name: "t.Value".to_owned(),
            fields: fields
                .into_iter()
                .map(|(name, field_type)| Field {
                    name: name.to_owned(),
                    field_type,
                    nullable: true,
                })
                .collect(),
        })
    }

    #[test]
    fn a_document_has_all_columns_in_order_nulls_too() {
        let plan = plan(vec![
            ("id", FieldType::Int64),
            ("a \"b\"", FieldType::String),
            ("_id", FieldType::Bool),
            ("gone", FieldType::String),
        ]);
        let row = [
            Datum::Int(7),
            Datum::Str("x\n\"y\""),
            Datum::Bool(false),
            Datum::Null,
        ];
        let mut out = Vec::new();
        plan.write(&row, 42, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":7,"a \"b\"":"x\n\"y\"","_u005fid":false,"gone":null,"_tributary_seq":42}"#
        );
    }

    #[test]
    fn numbers_that_the_parser_refuses_become_strings() {
        let digits = "9".repeat(1001);
        let json = format!(r#"[-1.5,{digits},"a \" {digits}",[{{"x":-{digits}.5}}]]"#);
        let quoted: serde_json::Value =
            serde_json::from_slice(&quote_long_numbers(json.as_bytes())).unwrap();
        assert_eq!(
            quoted,
            json!([-1.5, digits, format!("a \" {digits}"), [{"x": format!("-{digits}.5")}]])
        );
        let short = format!("[{}]", "9".repeat(1000));
        assert_eq!(quote_long_numbers(short.as_bytes()), short.as_bytes());
    }
}
