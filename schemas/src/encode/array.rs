//! Arrays: Postgres' array text (`array_out`) to an Avro array of nullable items.

use std::borrow::Cow;

use super::binary;
use super::misfit::Misfit;
use crate::table::ColumnType;

const NO_ARRAY: Misfit = Misfit::text("it is not the text of an array");
const NO_VECTOR: Misfit = Misfit::text("it is not the text of a vector");
const LOWER_BOUND: Misfit = Misfit::value("the array's lower bound is not 1");
const DIMENSIONS: Misfit =
    Misfit::value("the array has another number of dimensions than the schema says");

/// One item as it stands in the text.
enum Item<'a> {
    Null,
    Plain(&'a [u8]),
    /// Between the quotes, backslashes still there.
    Quoted(&'a [u8]),
    /// An array inside the array, its braces included.
    Nested(&'a [u8]),
}

/// How the items of an array, or of one dimension of it, stand in its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    delimiter: u8,
    items: Items,
}

/// What an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Items {
    /// The next dimension: arrays in the same text, none of them null.
    Dimension,
    /// Values, each in a text of its own.
    Values,
}

impl Layout {
    /// The layout of an array of such items.
    pub(super) fn of(item: &ColumnType) -> Self {
        Self {
            delimiter: item.array_delimiter(),
            items: if matches!(item, ColumnType::Array(_)) {
                Items::Dimension
            } else {
                Items::Values
            },
        }
    }

    /// Appends the array as one block of items; `append_value` appends one that is not null.
    pub(super) fn append(
        self,
        text: &[u8],
        out: &mut Vec<u8>,
        append_value: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Misfit>,
    ) -> Result<(), Misfit> {
        // Avro wants the number of items before the first of them.
        let mut count = 0;
        for item in Walk::of(text, self.delimiter)? {
            item?;
            count += 1;
        }
        if count > 0 {
            binary::long(count, out);
            for item in Walk::of(text, self.delimiter)? {
                match self.value(&item?)? {
                    None => out.push(binary::NULL),
                    Some(text) => {
                        out.push(binary::VALUE);
                        append_value(&text, out)?;
                    }
                }
            }
        }
        out.push(0);
        Ok(())
    }

    /// The text of an item's value, if it has one.
    fn value<'a>(self, item: &Item<'a>) -> Result<Option<Cow<'a, [u8]>>, Misfit> {
        if matches!(item, Item::Nested(_)) != (self.items == Items::Dimension) {
            return Err(DIMENSIONS);
        }
        Ok(match *item {
            Item::Null => None,
            Item::Plain(text) | Item::Nested(text) => Some(Cow::Borrowed(text)),
            Item::Quoted(text) => Some(unescaped(text)),
        })
    }
}

/// Appends pgvector's `[1,2.5]`, whose items are never null; `append_value` appends one.
pub(super) fn vector(
    text: &[u8],
    out: &mut Vec<u8>,
    append_value: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let [b'[', body @ .., b']'] = text else {
        return Err(NO_VECTOR);
    };
    let count = memchr::memchr_iter(b',', body).count() + 1;
    binary::long(i64::try_from(count).map_err(|_| NO_VECTOR)?, out);
    for item in body.split(|byte| *byte == b',') {
        append_value(item, out)?;
    }
    out.push(0);
    Ok(())
}

/// A backslash makes the next byte itself.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend(rest.get(at + 1));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// The items of an array's text, from left to right; ends after an error.
struct Walk<'a> {
    /// What follows, an item first; `None` at the end.
    rest: Option<&'a [u8]>,
    delimiter: u8,
}

impl<'a> Walk<'a> {
    fn of(text: &'a [u8], delimiter: u8) -> Result<Self, Misfit> {
        match text {
            [b'[', ..] => Err(LOWER_BOUND),
            [b'{', body @ .., b'}'] => {
                let rest = (!body.is_empty()).then_some(body);
                Ok(Self { rest, delimiter })
            }
            _ => Err(NO_ARRAY),
        }
    }

    /// The item that `text` begins with, and its length in the text.
    fn first(&self, text: &'a [u8]) -> Result<(Item<'a>, usize), Misfit> {
        match text.first() {
            Some(b'"') => {
                let end = end_of_quotes(text)?;
                Ok((Item::Quoted(&text[1..end - 1]), end))
            }
            Some(b'{') => {
                let end = end_of_braces(text)?;
                Ok((Item::Nested(&text[..end]), end))
            }
            _ => {
                let end = memchr::memchr(self.delimiter, text).unwrap_or(text.len());
                match &text[..end] {
                    b"" => Err(NO_ARRAY),
                    b"NULL" => Ok((Item::Null, end)),
                    plain => Ok((Item::Plain(plain), end)),
                }
            }
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Item<'a>, Misfit>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        let (item, end) = match self.first(text) {
            Ok(found) => found,
            Err(misfit) => return Some(Err(misfit)),
        };
        match text.get(end) {
            None => {}
            Some(byte) if *byte == self.delimiter => self.rest = Some(&text[end + 1..]),
            Some(_) => return Some(Err(NO_ARRAY)),
        }
        Some(Ok(item))
    }
}

/// The place behind the closing quote of a text that begins with a quote.
fn end_of_quotes(text: &[u8]) -> Result<usize, Misfit> {
    let mut at = 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if text[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(NO_ARRAY)
}

/// The place behind the closing brace of a text that begins with a brace.
fn end_of_braces(text: &[u8]) -> Result<usize, Misfit> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    loop {
        match text.get(at) {
            None => return Err(NO_ARRAY),
            Some(b'"') => {
                at += end_of_quotes(&text[at..])?;
                continue;
            }
            Some(b'{') => depth += 1,
            Some(b'}') => depth -= 1,
            Some(_) => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
}
