//! The plan of a `-key` subject.

use super::cursor::{Cursor, Failure};
use super::error::{DecodeError, SchemaError};
use super::plan::{FieldPlan, Plan, Slot, check_row, read_row};
use super::schema;
use crate::record::{Field, FieldType, RecordType, Row};

/// The field of a key that is no record.
const PRIMITIVE: &str = "key";

/// How to read the keys of one writer's schema.
#[derive(Debug, Clone)]
pub struct KeyPlan {
    row_type: RecordType,
    form: KeyForm,
}

#[derive(Debug, Clone)]
enum KeyForm {
    Record(Box<[FieldPlan]>),
    Single(Box<Slot>),
}

impl KeyPlan {
    /// Compiles the Avro schema (JSON) of a key: a table's `Key`, our `TruncateKey`, or any other
    /// type, whose row then has the one field `key` (and [`RecordType::full_name`] is empty).
    ///
    /// # Errors
    ///
    /// What is no Avro, or more than a plan takes.
    pub fn compile(schema_json: &str) -> Result<Self, SchemaError> {
        let compiled = schema::compile(schema_json)?;
        Ok(match (compiled.field_type, compiled.slot) {
            (
                FieldType::Struct(row_type),
                Slot {
                    plan: Plan::Record(fields),
                    branches: 0,
                    ..
                },
            ) => Self {
                row_type,
                form: KeyForm::Record(fields),
            },
            (field_type, slot) => {
                let field = Field {
                    name: PRIMITIVE.to_owned(),
                    field_type,
                    nullable: compiled.nullable,
                };
                let row_type = RecordType {
                    full_name: String::new(),
                    fields: vec![field],
                };
                Self {
                    row_type,
                    form: KeyForm::Single(Box::new(slot)),
                }
            }
        })
    }

    /// The type of the keys.
    pub const fn row_type(&self) -> &RecordType {
        &self.row_type
    }

    /// Whether these are the keys of "rows below are gone" records: `TruncateKey {source, schema, table}`.
    pub fn is_truncate(&self) -> bool {
        let name = self.row_type.full_name.rsplit('.').next();
        let mut fields = self.row_type.fields.iter().map(|field| field.name.as_str());
        name == Some("TruncateKey")
            && ["source", "schema", "table"]
                .iter()
                .all(|&wanted| fields.next() == Some(wanted))
    }

    /// Decodes an Avro body (without the five bytes in front that name the schema).
    ///
    /// # Errors
    ///
    /// Any body that is not exactly one key of this schema.
    pub fn decode<'a>(&'a self, body: &'a [u8]) -> Result<Row<'a>, DecodeError> {
        self.read(&mut Cursor::new(body))
            .map_err(|failure| *failure)
    }

    fn read<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Row<'a>, Failure> {
        let row = match &self.form {
            KeyForm::Record(fields) if fields.is_empty() => Vec::new(),
            KeyForm::Record(fields) => read_row(fields, cursor)?,
            KeyForm::Single(slot) => vec![slot.read(cursor)?],
        };
        cursor.finish()?;
        Ok(row)
    }

    /// As [`decode`](Self::decode), and fails where it would; allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn check(&self, body: &[u8]) -> Result<(), DecodeError> {
        let cursor = &mut Cursor::new(body);
        let checked = match &self.form {
            KeyForm::Record(fields) if fields.is_empty() => Ok(()),
            KeyForm::Record(fields) => check_row(fields, cursor),
            KeyForm::Single(slot) => slot.check(cursor),
        };
        checked
            .and_then(|()| cursor.finish())
            .map_err(|failure| *failure)
    }
}
