//! Encode plans: from the text that Postgres sends straight into Avro bytes.
//!
//! A plan is compiled once per table and schema version. It writes what the schemas of
//! [`crate::avro`] describe: bodies only, the wire format's prefix is [`crate::wire::prefix`].
//! Rows hold one [`Cell`] per column of the [`Table`], in its order. The text is that of a
//! session with DateStyle=ISO, IntervalStyle=postgres, TimeZone=UTC, bytea_output=hex and
//! extra_float_digits=3. A value that its typed form cannot hold is a [`ValueError`], never
//! another value.

mod array;
mod binary;
mod bits;
mod calendar;
mod change;
mod composite;
mod decimal;
mod form;
mod geometry;
mod hstore;
mod interval;
mod metadata;
mod misfit;
mod number;
mod source;

use crate::record::Op;
use crate::table::{Cell, Column, Table};
pub use change::{Change, Snapshot, SourceIdentity, TransactionBlock, TransactionId};
use form::Form;
pub use metadata::MessagePlan;
pub use misfit::ValueError;
use misfit::{Misfit, describe};
use source::{SourceParts, append_source, append_transaction};

/// How the rows of one table, of one schema version, become Avro.
#[derive(Debug, Clone)]
pub struct EncodePlan {
    columns: Vec<ColumnPlan>,
    /// The key's columns in key order, and the form that each has in the key.
    key: Vec<(usize, Form)>,
    source: SourceParts,
    truncate_key: Vec<u8>,
}

#[derive(Debug, Clone)]
struct ColumnPlan {
    name: String,
    type_name: String,
    form: Form,
    /// Whether the field is `["null", T]`; a key column's is plain.
    optional: bool,
}

impl EncodePlan {
    /// Compiles the plan of a table.
    pub fn compile(table: &Table, source: &SourceIdentity) -> Self {
        let columns = table.columns.iter().map(ColumnPlan::compile).collect();
        let key = table
            .key_columns()
            .into_iter()
            .map(|index| {
                (
                    index,
                    Form::of(&table.columns[index].column_type).canonical(),
                )
            })
            .collect();
        let mut truncate_key = Vec::new();
        for text in [&source.name, &table.schema, &table.name] {
            binary::string(text.as_bytes(), &mut truncate_key);
        }
        Self {
            columns,
            key,
            source: SourceParts::compile(&table.schema, &table.name, source),
            truncate_key,
        }
    }

    /// Appends the key of a row, record `<topic>.Key`; nothing for a table without a key.
    ///
    /// Values that Postgres holds equal should have equal bytes, for the bytes are the identity: a
    /// `numeric` without a scale loses the zeros at its end (1.50 and 1.5 are one key), a float
    /// its negative zero.
    ///
    /// # Errors
    /// When a value does not fit, or is null. `out` is then as it was.
    pub fn encode_key(&self, row: &[Cell<'_>], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let start = out.len();
        let result = self.append_key(row, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Appends the key of a "gone below" record of this table, record `TruncateKey`.
    pub fn encode_truncate_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.truncate_key);
    }

    /// Appends a change, record `<topic>.Envelope`.
    ///
    /// # Errors
    /// When a value does not fit, or a key column is null. `out` is then as it was.
    pub fn encode_envelope(
        &self,
        change: &Change<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let start = out.len();
        let result = self.append_rows(change, out);
        if result.is_err() {
            out.truncate(start);
            return result;
        }
        append_source(&self.source, change, out);
        append_transaction(change.transaction, out);
        // A string of one letter.
        out.extend_from_slice(&[2, op_letter(change.op)]);
        binary::instant(change.handled_at_ns, out);
        Ok(())
    }

    fn append_key(&self, row: &[Cell<'_>], out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.check_width(row)?;
        for (index, form) in &self.key {
            let column = &self.columns[*index];
            match row[*index] {
                Cell::Null => return Err(column.error(Misfit::NULL_KEY)),
                Cell::Text(text) => form
                    .append(text, out)
                    .map_err(|misfit| column.error(misfit))?,
            }
        }
        Ok(())
    }

    fn append_rows(&self, change: &Change<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        for row in [change.before, change.after] {
            match row {
                None => out.push(binary::NULL),
                Some(row) => {
                    out.push(binary::VALUE);
                    self.append_row(row, out)?;
                }
            }
        }
        Ok(())
    }

    fn append_row(&self, row: &[Cell<'_>], out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.check_width(row)?;
        for (column, cell) in self.columns.iter().zip(row) {
            match *cell {
                Cell::Null if column.optional => out.push(binary::NULL),
                Cell::Null => return Err(column.error(Misfit::NULL_KEY)),
                Cell::Text(text) => {
                    if column.optional {
                        out.push(binary::VALUE);
                    }
                    column
                        .form
                        .append(text, out)
                        .map_err(|misfit| column.error(misfit))?;
                }
            }
        }
        Ok(())
    }

    /// A row of another width was read under another version of the table.
    fn check_width(&self, row: &[Cell<'_>]) -> Result<(), ValueError> {
        if row.len() == self.columns.len() {
            return Ok(());
        }
        Err(ValueError::width(row.len(), self.columns.len()))
    }
}

impl ColumnPlan {
    fn compile(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            type_name: describe(&column.column_type),
            form: Form::of(&column.column_type),
            optional: column.key_position.is_none(),
        }
    }

    #[cold]
    fn error(&self, misfit: Misfit) -> ValueError {
        misfit.of_column(&self.name, &self.type_name)
    }
}

const fn op_letter(op: Op) -> u8 {
    // All letters are ASCII.
    op.letter() as u8
}
