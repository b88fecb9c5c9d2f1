//! A row as the JSON document that the engine stores.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tributary_runtime::Result;
use tributary_schemas::record::{Datum, RecordType};
use tributary_schemas::render;

use crate::mapping::SEQ_FIELD;
use crate::shape::{Member, Shape};
use crate::value::Form;

/// A document's fields, each as the JSON that it is: numbers may be of any length.
pub(crate) type Document = HashMap<String, Box<RawValue>>;

/// What is worked out once per row type: what a document holds, and the mapping.
#[derive(Debug)]
pub(crate) struct DocumentPlan {
    row_type: RecordType,
    parts: Vec<Part>,
    properties: Map<String, Value>,
    /// The generation of the index that was seen to have all of [`DocumentPlan::properties`].
    mapped: AtomicU64,
}

/// A column in the document.
#[derive(Debug)]
struct Part {
    member: Member,
    /// `"field":`, quoted and escaped.
    name: Vec<u8>,
    form: Form,
}

impl DocumentPlan {
    /// For documents of an index that maps fields as `mapped` says. What it lacks it will get.
    ///
    /// # Errors
    /// Stop: two columns would be one field.
    pub(crate) fn new(
        row_type: &RecordType,
        shape: &Shape,
        mapped: &Map<String, Value>,
    ) -> Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            properties: shape.properties(row_type)?,
            row_type: row_type.clone(),
            mapped: AtomicU64::new(0),
        };
        for member in shape.members(row_type)? {
            let mut name = Vec::new();
            render::json_string(&member.field, &mut name);
            name.push(b':');
            let form = plan.form(&member, mapped);
            plan.parts.push(Part { member, name, form });
        }
        Ok(plan)
    }

    /// How a column's values are written for an index that maps fields so.
    fn form(&self, member: &Member, mapped: &Map<String, Value>) -> Form {
        let column = self.row_type.fields.get(member.column);
        let known = mapped.get(&member.field);
        let mapping = known.or_else(|| self.properties.get(&member.field));
        column
            .zip(mapping)
            .map_or(Form::Usual, |(column, mapping)| {
                Form::of(&column.field_type, mapping)
            })
    }

    /// Whether documents are written as an index wants them that maps fields so.
    pub(crate) fn suits(&self, mapped: &Map<String, Value>) -> bool {
        let mut parts = self.parts.iter();
        parts.all(|part| part.form == self.form(&part.member, mapped))
    }

    pub(crate) const fn row_type(&self) -> &RecordType {
        &self.row_type
    }

    /// The columns in the document, each with its field.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts.iter().filter_map(|part| {
            let column = self.row_type.fields.get(part.member.column)?;
            Some((column.name.as_str(), part.member.field.as_str()))
        })
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

    /// Appends the document: the columns that it holds, nulls too, in column order, then [`SEQ_FIELD`]. What the row lacks is `kept` as
    /// the document had it before; where it had nothing, it is null. Whether there is such a null.
    ///
    /// # Errors
    /// A column's value has no JSON form; says which column. `out` then ends in a part of the document.
    pub(crate) fn write(
        &self,
        row: &[Datum<'_>],
        kept: Option<&Document>,
        seq: u64,
        out: &mut Vec<u8>,
    ) -> std::result::Result<bool, String> {
        let mut has_lost = false;
        out.push(b'{');
        for part in &self.parts {
            let column = part.member.column;
            let (Some(field), Some(datum)) = (self.row_type.fields.get(column), row.get(column))
            else {
                return Err("the row has fewer columns than its type".to_owned());
            };
            out.extend_from_slice(&part.name);
            match datum {
                Datum::Unavailable | Datum::Lost => {
                    let kept = kept.filter(|_| *datum == Datum::Unavailable);
                    let value = kept.and_then(|kept| kept.get(&part.member.field));
                    let value = value.map_or("null", |value| value.get());
                    has_lost |= value == "null";
                    // A line of a request; between the parts of a value any space is as good.
                    out.extend(value.bytes().map(|byte| match byte {
                        b'\n' | b'\r' => b' ',
                        byte => byte,
                    }));
                }
                datum => part
                    .form
                    .write(&field.field_type, datum, out)
                    .map_err(|error| format!("column \"{}\": {error}", field.name))?,
            }
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(SEQ_FIELD.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.push(b'}');
        Ok(has_lost)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

    use super::DocumentPlan;
    use crate::shape::Shape;

    fn plan(fields: Vec<(&str, FieldType)>) -> DocumentPlan {
        let row_type = RecordType {
            full_name: "t.Value".to_owned(),
            fields: fields
                .into_iter()
                .map(|(name, field_type)| Field {
                    name: name.to_owned(),
                    field_type,
                    nullable: true,
                })
                .collect(),
        };
        DocumentPlan::new(&row_type, &Shape::default(), &Map::new()).unwrap()
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
        plan.write(&row, None, 42, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":7,"a \"b\"":"x\n\"y\"","_u005fid":false,"gone":null,"_tributary_seq":42}"#
        );
    }
}
