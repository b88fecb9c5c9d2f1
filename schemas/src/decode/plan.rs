//! The compiled form of a schema: what to read, in the order of the bytes.

use super::cursor::{Cursor, Failure};
use super::error::Problem;
use crate::record::{Datum, Row};

/// A place for a value: a plan, and whether it stands in a union with null.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The union's branches: 0 for no union, otherwise 1 or 2.
    pub(super) branches: u8,
    /// Null's index in the union; [`Slot::NO_NULL`] for none.
    pub(super) null_at: u8,
    pub(super) plan: Plan,
}

/// A field of a record.
#[derive(Debug, Clone)]
pub(super) struct FieldPlan {
    /// As the schema writes it (escaped).
    pub(super) name: Box<str>,
    pub(super) slot: Slot,
}

/// One Avro type.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Box<[String]>),
    Array(Box<Slot>),
    Map(Box<Slot>),
    Record(Box<[FieldPlan]>),
    /// `VariableScaleDecimal` with only its two fields, in either order.
    VariableDecimal {
        scale_first: bool,
    },
    /// A union of several types: a struct of which one field is set.
    Union {
        arms: Box<[Arm]>,
        fields: usize,
    },
}

/// A branch of a [`Plan::Union`].
#[derive(Debug, Clone)]
pub(super) struct Arm {
    /// The index of its field in the struct; `None` for null.
    pub(super) field: Option<usize>,
    pub(super) plan: Plan,
}

impl Slot {
    pub(super) const NO_NULL: u8 = u8::MAX;

    pub(super) const fn plain(plan: Plan) -> Self {
        Self {
            branches: 0,
            null_at: Self::NO_NULL,
            plan,
        }
    }

    /// Whether the value is null by its union's branch.
    #[inline]
    pub(super) fn is_null(&self, cursor: &mut Cursor<'_>) -> Result<bool, Failure> {
        if self.branches == 0 {
            return Ok(false);
        }
        Ok(cursor.branch(usize::from(self.branches))? == usize::from(self.null_at))
    }

    #[inline]
    pub(super) fn read<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Failure> {
        if self.is_null(cursor)? {
            Ok(Datum::Null)
        } else {
            self.plan.read(cursor)
        }
    }

    #[inline]
    pub(super) fn check(&self, cursor: &mut Cursor<'_>) -> Result<(), Failure> {
        if self.is_null(cursor)? {
            Ok(())
        } else {
            self.plan.check(cursor)
        }
    }
}

impl FieldPlan {
    /// Names the field in a failure that came out of it.
    #[cold]
    pub(super) fn name(&self, mut failure: Failure) -> Failure {
        failure.prepend(&self.name);
        failure
    }
}

/// Moves behind a record's fields, and makes sure that [`read_row`] can read them.
pub(super) fn check_row(fields: &[FieldPlan], cursor: &mut Cursor<'_>) -> Result<(), Failure> {
    if fields.is_empty() {
        cursor.empty()?;
    }
    for field in fields {
        let checked = field.slot.check(cursor);
        checked.map_err(|failure| field.name(failure))?;
    }
    Ok(())
}

/// Reads a record's fields.
pub(super) fn read_row<'a>(
    fields: &'a [FieldPlan],
    cursor: &mut Cursor<'a>,
) -> Result<Row<'a>, Failure> {
    if fields.is_empty() {
        cursor.empty()?;
    }
    let mut row = Vec::with_capacity(fields.len());
    for field in fields {
        row.push(
            field
                .slot
                .read(cursor)
                .map_err(|failure| field.name(failure))?,
        );
    }
    Ok(row)
}

impl Plan {
    pub(super) fn read<'a>(&'a self, cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Failure> {
        Ok(match self {
            Self::Null => {
                cursor.empty()?;
                Datum::Null
            }
            Self::Boolean => Datum::Bool(cursor.boolean()?),
            Self::Int => Datum::Int(cursor.int()?),
            Self::Long => Datum::Int(cursor.long()?),
            Self::Float => Datum::Float(f32::from_le_bytes(cursor.array()?)),
            Self::Double => Datum::Double(f64::from_le_bytes(cursor.array()?)),
            Self::Bytes => Datum::Bytes(cursor.bytes()?),
            Self::String => Datum::Str(cursor.string()?),
            Self::Fixed(size) => {
                if *size == 0 {
                    cursor.empty()?;
                }
                Datum::Bytes(cursor.take(*size)?)
            }
            Self::Enum(symbols) => Datum::Str(read_symbol(symbols, cursor)?),
            Self::Array(item) => Datum::Array(read_items(cursor, |cursor| item.read(cursor))?),
            Self::Map(value) => Datum::Array(read_items(cursor, |cursor| {
                let key = Datum::Str(cursor.string()?);
                Ok(Datum::Struct(vec![key, value.read(cursor)?]))
            })?),
            Self::Record(fields) => Datum::Struct(read_row(fields, cursor)?),
            Self::VariableDecimal { scale_first } => read_decimal(*scale_first, cursor)?,
            Self::Union { arms, fields } => read_union(arms, *fields, cursor)?,
        })
    }

    /// Moves behind the value, and makes sure that [`Plan::read`] can read it; allocates nothing.
    pub(super) fn check(&self, cursor: &mut Cursor<'_>) -> Result<(), Failure> {
        match self {
            Self::Null => cursor.empty(),
            Self::Boolean => cursor.boolean().map(drop),
            Self::Int => cursor.int().map(drop),
            Self::Long => cursor.long().map(drop),
            Self::Float => cursor.array::<4>().map(drop),
            Self::Double => cursor.array::<8>().map(drop),
            Self::Bytes => cursor.bytes().map(drop),
            Self::String => cursor.string().map(drop),
            Self::Fixed(0) => cursor.empty(),
            Self::Fixed(size) => cursor.take(*size).map(drop),
            Self::Enum(symbols) => read_symbol(symbols, cursor).map(drop),
            Self::Array(item) => each_item(cursor, |cursor| item.check(cursor)),
            Self::Map(value) => each_item(cursor, |cursor| {
                cursor.string()?;
                value.check(cursor)
            }),
            Self::Record(fields) => check_row(fields, cursor),
            Self::VariableDecimal { scale_first } => read_decimal(*scale_first, cursor).map(drop),
            Self::Union { arms, .. } => {
                let arm = &arms[cursor.branch(arms.len())?];
                match arm.field {
                    Some(_) => arm.plan.check(cursor),
                    None => Ok(()),
                }
            }
        }
    }
}

fn read_symbol<'a>(symbols: &'a [String], cursor: &mut Cursor<'_>) -> Result<&'a str, Failure> {
    let index = cursor.int()?;
    match usize::try_from(index)
        .ok()
        .and_then(|index| symbols.get(index))
    {
        Some(symbol) => Ok(symbol),
        None => Err(cursor.failure(Problem::NoSuchSymbol {
            symbols: symbols.len(),
        })),
    }
}

fn read_decimal<'a>(scale_first: bool, cursor: &mut Cursor<'a>) -> Result<Datum<'a>, Failure> {
    let (scale, unscaled) = if scale_first {
        (cursor.int()?, cursor.bytes()?)
    } else {
        let unscaled = cursor.bytes()?;
        (cursor.int()?, unscaled)
    };
    Ok(Datum::VariableDecimal {
        scale: scale as i32,
        unscaled,
    })
}

fn read_union<'a>(
    arms: &'a [Arm],
    fields: usize,
    cursor: &mut Cursor<'a>,
) -> Result<Datum<'a>, Failure> {
    let arm = &arms[cursor.branch(arms.len())?];
    let Some(field) = arm.field else {
        return Ok(Datum::Null);
    };
    let mut branches = vec![Datum::Null; fields];
    branches[field] = arm.plan.read(cursor)?;
    Ok(Datum::Struct(branches))
}

/// No room is made ahead: a corrupt count would allocate it.
fn read_items<'a>(
    cursor: &mut Cursor<'a>,
    mut read: impl FnMut(&mut Cursor<'a>) -> Result<Datum<'a>, Failure>,
) -> Result<Vec<Datum<'a>>, Failure> {
    let mut items = Vec::new();
    each_item(cursor, |cursor| {
        let item = read(cursor)?;
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

/// Goes through the blocks of an array or map. A block with a negative count has its size in bytes
/// in front, which has to be right.
fn each_item<'a>(
    cursor: &mut Cursor<'a>,
    mut item: impl FnMut(&mut Cursor<'a>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut index = 0;
    loop {
        let count = cursor.long()?;
        if count == 0 {
            return Ok(());
        }
        let end = if count < 0 {
            let size = cursor.length()?;
            Some(cursor.at().saturating_add(size))
        } else {
            None
        };
        cursor.check_items(count.unsigned_abs())?;
        for _ in 0..count.unsigned_abs() {
            item(cursor).map_err(|mut failure| {
                failure.prepend(&format!("[{index}]"));
                failure
            })?;
            index += 1;
        }
        if end.is_some_and(|end| end != cursor.at()) {
            return Err(cursor.failure(Problem::BlockSize));
        }
    }
}
