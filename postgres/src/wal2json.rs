//! What the output plug-in `wal2json` sends in its format version 2, one JSON object per change.
//!
//! Pure: bytes in, values out. [`Reader::read`] takes the payload of one `XLogData` message. Every value keeps
//! the characters that its type's output function has printed; numbers are never parsed. No input makes it
//! panic. The layout is that of `wal2json.c`, 2.3 and later, under the options of `options`.
//!
//! What the format leaves out (the table's OID, unchanged columns, `NaN`) is the business of `assembly`.

pub(crate) mod assembly;
pub(crate) mod facts;
mod modifier;
mod options;
mod problem;
mod record;
mod scan;
mod shape;
mod timestamp;

pub(crate) use options::options;
pub use record::{Action, Column, Columns, Datum, Record, RowChange};

use std::ops::Range;

use problem::Problem;
use record::{Field, Parts, Text};
use scan::Scanner;

/// Above this a buffer is given back when the next record is read.
const KEEP_BYTES: usize = 1 << 20;

/// The bytes are no record of wal2json's format version 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read a record of wal2json: {problem}, at byte {offset} of {length}")]
pub struct ReadError {
    problem: Problem,
    offset: usize,
    length: usize,
}

/// Reads one record after the other; the buffers are reused.
#[derive(Debug, Default)]
pub struct Reader {
    /// All strings and numbers of the record, without escapes.
    text: Vec<u8>,
    parts: Parts,
}

impl Reader {
    /// Reads the whole payload of one `XLogData`.
    ///
    /// # Errors
    /// The bytes are no JSON object, or one that lacks what its action needs.
    pub fn read(&mut self, payload: &[u8]) -> Result<Record<'_>, ReadError> {
        if self.text.capacity() > KEEP_BYTES {
            self.text = Vec::new();
        }
        self.text.clear();
        self.parts.clear();
        let mut scanner = Scanner::new(payload);
        let read = self.object(&mut scanner);
        let read = read.and_then(|()| self.parts.record(&self.text));
        read.map_err(|problem| ReadError {
            problem,
            offset: scanner.at(),
            length: payload.len(),
        })
    }

    /// The record that was read last, again.
    ///
    /// # Errors
    /// None was read, or it was malformed.
    pub(crate) fn again(&self) -> Result<Record<'_>, ReadError> {
        self.parts.record(&self.text).map_err(|problem| ReadError {
            problem,
            offset: 0,
            length: 0,
        })
    }

    fn object(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Problem> {
        let Self { text, parts } = self;
        scanner.expect(b'{')?;
        let mut first = true;
        while let Some(key) = scanner.key(&mut first)? {
            match key {
                b"action" => parts.action = Some(scanner.string(text)?),
                b"xid" if !scanner.null()? => parts.xid = Some(append(text, scanner.number()?)),
                b"timestamp" if !scanner.null()? => parts.timestamp = Some(scanner.string(text)?),
                b"xid" | b"timestamp" => {}
                b"lsn" => parts.lsn = Some(scanner.string(text)?),
                b"nextlsn" => parts.next_lsn = Some(scanner.string(text)?),
                b"schema" => parts.schema = Some(scanner.string(text)?),
                b"table" => parts.table = Some(scanner.string(text)?),
                b"prefix" => parts.prefix = Some(scanner.string(text)?),
                b"content" => parts.content = Some(scanner.string(text)?),
                b"transactional" => parts.transactional = Some(scanner.boolean()?),
                b"columns" => {
                    columns(scanner, text, &mut parts.columns)?;
                    parts.has_columns = true;
                }
                b"identity" => {
                    columns(scanner, text, &mut parts.identity)?;
                    parts.has_identity = true;
                }
                b"pk" => columns(scanner, text, &mut parts.key)?,
                _ => scanner.skip(text)?,
            }
        }
        scanner.end()
    }
}

fn append(text: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = text.len();
    text.extend_from_slice(bytes);
    start..text.len()
}

/// An array of `{"name", "type", "typeoid", "value"}`.
fn columns(
    scanner: &mut Scanner<'_>,
    text: &mut Vec<u8>,
    fields: &mut Vec<Field>,
) -> Result<(), Problem> {
    fields.clear();
    scanner.expect(b'[')?;
    let mut first = true;
    while scanner.item(&mut first)? {
        fields.push(column(scanner, text)?);
    }
    Ok(())
}

fn column(scanner: &mut Scanner<'_>, text: &mut Vec<u8>) -> Result<Field, Problem> {
    let (mut name, mut type_oid) = (None, None);
    let mut type_name = 0..0;
    let mut value = Text::Null;
    scanner.expect(b'{')?;
    let mut first = true;
    while let Some(key) = scanner.key(&mut first)? {
        match key {
            b"name" => name = Some(scanner.string(text)?),
            b"type" => type_name = scanner.type_name(text)?,
            b"typeoid" => type_oid = Some(oid(scanner.number()?)?),
            b"value" => value = scalar(scanner, text)?,
            _ => scanner.skip(text)?,
        }
    }
    Ok(Field {
        name: name.ok_or(Problem::Part("a column's name"))?,
        type_name,
        type_oid: type_oid.ok_or(Problem::Part("a column's type"))?,
        value,
    })
}

/// Printed with `%d`: OIDs from 2^31 on come out negative.
fn oid(digits: &[u8]) -> Result<u32, Problem> {
    let wrong = Problem::Part("a column's type");
    let text = std::str::from_utf8(digits).map_err(|_| wrong)?;
    let number: i64 = text.parse().map_err(|_| wrong)?;
    i32::try_from(number)
        .map(i32::cast_unsigned)
        .or_else(|_| u32::try_from(number))
        .map_err(|_| wrong)
}

fn scalar(scanner: &mut Scanner<'_>, text: &mut Vec<u8>) -> Result<Text, Problem> {
    match scanner.peek() {
        Some(b'"') => scanner.string(text).map(Text::Quoted),
        Some(b'n') => scanner.null().map(|_| Text::Null),
        Some(b't' | b'f') => {
            let printed: &[u8] = if scanner.boolean()? { b"t" } else { b"f" };
            Ok(Text::Bare(append(text, printed)))
        }
        _ => {
            let number = scanner.number()?;
            Ok(Text::Bare(append(text, number)))
        }
    }
}

#[cfg(test)]
mod tests;
