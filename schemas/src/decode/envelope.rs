//! The plan of a `-value` subject: a change event.

use super::compiled::Compiled;
use super::cursor::{Cursor, Failure};
use super::error::{DecodeError, Problem, SchemaError};
use super::plan::{FieldPlan, Plan, read_row};
use super::schema;
use crate::record::{Datum, FieldType, Head, Op, RecordType, Row};

/// How to read the change events of one writer's schema.
#[derive(Debug, Clone)]
pub struct ValuePlan {
    row_type: RecordType,
    fields: Box<[FieldPlan]>,
    /// What the field of the same index is for.
    roles: Box<[FieldRole]>,
    /// What each field of `source` tells.
    times: Box<[Option<TimeUnit>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldRole {
    Before,
    After,
    Source,
    Op,
    Unneeded,
}

/// The unit of a commit's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeUnit {
    Millis,
    Micros,
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
        let times = match find(FieldRole::Source).map(|source| &fields[source].slot.plan) {
            Some(Plan::Record(fields)) => fields.iter().map(time_unit).collect(),
            Some(_) => return Err(not_an_envelope("its field 'source' is no record")),
            None => Box::default(),
        };
        Ok(Self {
            row_type: row_type.clone(),
            fields,
            roles,
            times,
        })
    }

    /// The type of the rows in `before` and `after`.
    pub const fn row_type(&self) -> &RecordType {
        &self.row_type
    }

    /// Checks an Avro body (without the five bytes in front that name the schema), rows and all; allocates nothing.
    ///
    /// Every read, create and update has a row.
    ///
    /// # Errors
    ///
    /// Any body that is not exactly one envelope of this schema.
    pub fn check(&self, body: &[u8]) -> Result<Head, DecodeError> {
        self.read(&mut Cursor::new(body))
            .map_err(|failure| *failure)
    }

    /// Decodes the new row of a body that [`check`](Self::check) has passed: what stands behind it is not looked at.
    ///
    /// # Errors
    ///
    /// It was not passed.
    pub fn row<'a>(&'a self, body: &'a [u8]) -> Result<Option<Row<'a>>, DecodeError> {
        self.read_row(&mut Cursor::new(body))
            .map_err(|failure| *failure)
    }

    fn read<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Head, Failure> {
        let (mut op, mut has_row, mut commit_time_us) = (None, false, 0);
        for (field, role) in self.fields.iter().zip(&self.roles) {
            match role {
                FieldRole::After => {
                    check_optional(field, cursor).map(|is_there| has_row = is_there)
                }
                FieldRole::Source => self
                    .read_time(field, cursor)
                    .map(|time| commit_time_us = time),
                FieldRole::Op => read_op(field, cursor).map(|read| op = Some(read)),
                FieldRole::Before | FieldRole::Unneeded => field.slot.check(cursor),
            }
            .map_err(|failure| field.name(failure))?;
        }
        cursor.finish()?;
        let op = op.ok_or_else(|| cursor.failure(Problem::UnknownOp))?;
        if !has_row && matches!(op, Op::Read | Op::Create | Op::Update) {
            return Err(cursor.failure(Problem::NoRow));
        }
        Ok(Head {
            op,
            commit_time_us,
            has_row,
        })
    }

    fn read_row<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Option<Row<'a>>, Failure> {
        for (field, role) in self.fields.iter().zip(&self.roles) {
            let named = |failure| field.name(failure);
            if *role != FieldRole::After {
                field.slot.check(cursor).map_err(named)?;
            } else if let Plan::Record(fields) = &field.slot.plan
                && !field.slot.is_null(cursor).map_err(named)?
            {
                return read_row(fields, cursor).map(Some).map_err(named);
            } else {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// When the change was committed, by its `source`: microseconds since 1970; 0 where it does not say that.
    fn read_time<'a>(
        &'a self,
        source: &'a FieldPlan,
        cursor: &mut Cursor<'a>,
    ) -> Result<i64, Failure> {
        let Plan::Record(fields) = &source.slot.plan else {
            return Ok(0);
        };
        if source.slot.is_null(cursor)? {
            return Ok(0);
        }
        let (mut millis, mut micros) = (None, None);
        for (field, unit) in fields.iter().zip(&self.times) {
            let named = |failure| field.name(failure);
            let Some(unit) = unit else {
                field.slot.check(cursor).map_err(named)?;
                continue;
            };
            if let Datum::Int(time) = field.slot.read(cursor).map_err(named)? {
                match unit {
                    TimeUnit::Millis => millis = Some(time),
                    TimeUnit::Micros => micros = Some(time),
                }
            }
        }
        let time = micros.or_else(|| millis.and_then(|millis| millis.checked_mul(1000)));
        Ok(time.unwrap_or(0))
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

fn time_unit(field: &FieldPlan) -> Option<TimeUnit> {
    match (&*field.name, &field.slot.plan) {
        ("ts_ms", Plan::Long) => Some(TimeUnit::Millis),
        ("ts_us", Plan::Long) => Some(TimeUnit::Micros),
        _ => None,
    }
}

/// Whether the row is there.
fn check_optional(field: &FieldPlan, cursor: &mut Cursor<'_>) -> Result<bool, Failure> {
    if field.slot.is_null(cursor)? {
        return Ok(false);
    }
    field.slot.plan.check(cursor)?;
    Ok(matches!(field.slot.plan, Plan::Record(_)))
}

fn read_op<'a>(field: &'a FieldPlan, cursor: &mut Cursor<'a>) -> Result<Op, Failure> {
    let at = cursor.at();
    let op = match field.slot.read(cursor)? {
        Datum::Str(text) => Op::from_text(text),
        _ => None,
    };
    op.ok_or_else(|| Box::new(DecodeError::new(at, Problem::UnknownOp)))
}
