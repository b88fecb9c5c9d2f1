//! The plan of a `-value` subject: a change event.

use super::compiled::Compiled;
use super::cursor::{Cursor, Failure};
use super::error::{DecodeError, Problem, SchemaError};
use super::plan::{FieldPlan, Plan, read_row};
use super::schema;
use crate::record::{Datum, Envelope, FieldType, Op, Origin, RecordType, Row};

/// How to read the change events of one writer's schema.
#[derive(Debug, Clone)]
pub struct ValuePlan {
    row_type: RecordType,
    fields: Box<[FieldPlan]>,
    /// What the field of the same index is for.
    roles: Box<[FieldRole]>,
    /// What each field of `source` is for.
    origin: Box<[OriginRole]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldRole {
    Before,
    After,
    Source,
    Op,
    Unneeded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OriginRole {
    Name,
    Database,
    Schema,
    Table,
    TimeMillis,
    TimeMicros,
    Unneeded,
}

impl ValuePlan {
    /// Compiles the Avro schema (JSON) that a `-value` subject holds.
    ///
    /// # Errors
    ///
    /// [`SchemaError::NotAnEnvelope`] for a schema of another kind, such as the flattened row of
    /// `ExtractNewRecordState`; the others for what is no Avro, or more than a plan takes.
    pub fn compile(schema_json: &str) -> Result<Self, SchemaError> {
        let compiled = schema::compile(schema_json)?;
        let (envelope_type, fields) = record_of(compiled)?;
        let not_an_envelope = |problem: &str| SchemaError::NotAnEnvelope {
            name: envelope_type.full_name.clone(),
            problem: problem.to_owned(),
        };
        let roles: Box<[FieldRole]> = fields.iter().map(role).collect();
        let find = |role: FieldRole| roles.iter().position(|&candidate| candidate == role);
        let (Some(after), Some(op)) = (find(FieldRole::After), find(FieldRole::Op)) else {
            return Err(not_an_envelope("it has no fields 'op' and 'after'"));
        };
        let FieldType::Struct(row_type) = &envelope_type.fields[after].field_type else {
            return Err(not_an_envelope("its field 'after' is no record"));
        };
        if !matches!(fields[op].slot.plan, Plan::String | Plan::Enum(_)) {
            return Err(not_an_envelope("its field 'op' is no string"));
        }
        if let Some(before) = find(FieldRole::Before)
            && envelope_type.fields[before].field_type != envelope_type.fields[after].field_type
        {
            return Err(not_an_envelope(
                "its fields 'before' and 'after' have different types",
            ));
        }
        let origin = match find(FieldRole::Source).map(|source| &fields[source].slot.plan) {
            Some(Plan::Record(fields)) => fields.iter().map(origin_role).collect(),
            Some(_) => return Err(not_an_envelope("its field 'source' is no record")),
            None => Box::default(),
        };
        Ok(Self {
            row_type: row_type.clone(),
            fields,
            roles,
            origin,
        })
    }

    /// The type of the rows in `before` and `after`.
    pub const fn row_type(&self) -> &RecordType {
        &self.row_type
    }

    /// Decodes an Avro body (without the five bytes in front that name the schema).
    ///
    /// `after` is there for every read, create and update.
    ///
    /// # Errors
    ///
    /// Any body that is not exactly one envelope of this schema.
    pub fn decode<'a>(&'a self, body: &'a [u8]) -> Result<Envelope<'a>, DecodeError> {
        self.read(&mut Cursor::new(body))
            .map_err(|failure| *failure)
    }

    fn read<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Envelope<'a>, Failure> {
        let (mut op, mut before, mut after, mut source) = (None, None, None, Origin::default());
        for (field, role) in self.fields.iter().zip(&self.roles) {
            match role {
                FieldRole::Before => read_optional(field, cursor).map(|row| before = row),
                FieldRole::After => read_optional(field, cursor).map(|row| after = row),
                FieldRole::Source => self
                    .read_origin(field, cursor)
                    .map(|origin| source = origin),
                FieldRole::Op => read_op(field, cursor).map(|read| op = Some(read)),
                FieldRole::Unneeded => field.slot.skip(cursor),
            }
            .map_err(|failure| field.name(failure))?;
        }
        cursor.finish()?;
        let op = op.ok_or_else(|| cursor.failure(Problem::UnknownOp))?;
        if after.is_none() && matches!(op, Op::Read | Op::Create | Op::Update) {
            return Err(cursor.failure(Problem::NoRow));
        }
        Ok(Envelope {
            op,
            before,
            after,
            source,
        })
    }

    fn read_origin<'a>(
        &'a self,
        source: &'a FieldPlan,
        cursor: &mut Cursor<'a>,
    ) -> Result<Origin<'a>, Failure> {
        let mut origin = Origin::default();
        let Plan::Record(fields) = &source.slot.plan else {
            return Ok(origin);
        };
        if source.slot.is_null(cursor)? {
            return Ok(origin);
        }
        let (mut millis, mut micros) = (None, None);
        for (field, role) in fields.iter().zip(&self.origin) {
            if *role == OriginRole::Unneeded {
                field
                    .slot
                    .skip(cursor)
                    .map_err(|failure| field.name(failure))?;
                continue;
            }
            match (
                role,
                field
                    .slot
                    .read(cursor)
                    .map_err(|failure| field.name(failure))?,
            ) {
                (OriginRole::Name, Datum::Str(text)) => origin.name = text,
                (OriginRole::Database, Datum::Str(text)) => origin.database = text,
                (OriginRole::Schema, Datum::Str(text)) => origin.schema = text,
                (OriginRole::Table, Datum::Str(text)) => origin.table = text,
                (OriginRole::TimeMillis, Datum::Int(time)) => millis = Some(time),
                (OriginRole::TimeMicros, Datum::Int(time)) => micros = Some(time),
                _ => {}
            }
        }
        let commit_time_us = micros.or_else(|| millis.and_then(|millis| millis.checked_mul(1000)));
        origin.commit_time_us = commit_time_us.unwrap_or(0);
        Ok(origin)
    }
}

/// The type and the fields of a schema that has to be a record.
pub(super) fn record_of(compiled: Compiled) -> Result<(RecordType, Box<[FieldPlan]>), SchemaError> {
    match (
        compiled.field_type,
        compiled.slot.plan,
        compiled.slot.branches,
    ) {
        (FieldType::Struct(record_type), Plan::Record(fields), 0) => Ok((record_type, fields)),
        _ => Err(SchemaError::NotAnEnvelope {
            name: "the schema".to_owned(),
            problem: "it is no record".to_owned(),
        }),
    }
}

fn role(field: &FieldPlan) -> FieldRole {
    match &*field.name {
        "before" => FieldRole::Before,
        "after" => FieldRole::After,
        "source" => FieldRole::Source,
        "op" => FieldRole::Op,
        _ => FieldRole::Unneeded,
    }
}

fn origin_role(field: &FieldPlan) -> OriginRole {
    match (&*field.name, &field.slot.plan) {
        ("name", Plan::String) => OriginRole::Name,
        ("db", Plan::String) => OriginRole::Database,
        ("schema", Plan::String) => OriginRole::Schema,
        ("table", Plan::String) => OriginRole::Table,
        ("ts_ms", Plan::Long) => OriginRole::TimeMillis,
        ("ts_us", Plan::Long) => OriginRole::TimeMicros,
        _ => OriginRole::Unneeded,
    }
}

fn read_optional<'a>(
    field: &'a FieldPlan,
    cursor: &mut Cursor<'a>,
) -> Result<Option<Row<'a>>, Failure> {
    let Plan::Record(fields) = &field.slot.plan else {
        return field.slot.skip(cursor).map(|()| None);
    };
    if field.slot.is_null(cursor)? {
        Ok(None)
    } else {
        read_row(fields, cursor).map(Some)
    }
}

fn read_op<'a>(field: &'a FieldPlan, cursor: &mut Cursor<'a>) -> Result<Op, Failure> {
    let at = cursor.at();
    let op = match field.slot.read(cursor)? {
        Datum::Str(text) => Op::from_text(text),
        _ => None,
    };
    op.ok_or_else(|| Box::new(DecodeError::new(at, Problem::UnknownOp)))
}
