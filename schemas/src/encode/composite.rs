//! Composite values: the text of `record_out` to an Avro record of nullable fields.

use std::borrow::Cow;

use super::binary;
use super::misfit::Misfit;

const NO_RECORD: Misfit = Misfit::text("it is not the text of a composite value");
const OTHER_ATTRIBUTES: Misfit =
    Misfit::altered("the composite value has another number of attributes than the schema says");

/// Appends the record; `append_value` appends the value of an attribute that is not null.
pub(super) fn append<A>(
    attributes: &[A],
    text: &[u8],
    out: &mut Vec<u8>,
    append_value: impl Fn(&A, &[u8], &mut Vec<u8>) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let [b'(', body @ .., b')'] = text else {
        return Err(NO_RECORD);
    };
    let mut rest = Some(body);
    for attribute in attributes {
        // The text of one attribute that is null is that of none at all.
        let (value, after) = first(rest.ok_or(OTHER_ATTRIBUTES)?)?;
        rest = after;
        match value {
            None => out.push(binary::NULL),
            Some(value) => {
                out.push(binary::VALUE);
                append_value(attribute, &value, out)?;
            }
        }
    }
    match rest {
        None => Ok(()),
        Some(b"") if attributes.is_empty() => Ok(()),
        Some(_) => Err(OTHER_ATTRIBUTES),
    }
}

/// The value that `text` begins with, and what follows behind its comma; nothing at all is null.
#[expect(
    clippy::type_complexity,
    reason = "the value and the rest, each of which may be missing"
)]
fn first(text: &[u8]) -> Result<(Option<Cow<'_, [u8]>>, Option<&[u8]>), Misfit> {
    let (value, end) = match text.first() {
        Some(b'"') => {
            let end = end_of_quotes(text)?;
            (Some(unquoted(&text[1..end - 1])), end)
        }
        _ => {
            let end = memchr::memchr(b',', text).unwrap_or(text.len());
            let plain = &text[..end];
            ((end > 0).then_some(Cow::Borrowed(plain)), end)
        }
    };
    match text.get(end) {
        None => Ok((value, None)),
        Some(b',') => Ok((value, Some(&text[end + 1..]))),
        Some(_) => Err(NO_RECORD),
    }
}

/// The place behind the closing quote of a text that begins with a quote: one that is not doubled.
fn end_of_quotes(text: &[u8]) -> Result<usize, Misfit> {
    let mut at = 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if text[at] == b'"' && text.get(at + 1) != Some(&b'"') {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(NO_RECORD)
}

/// A doubled quote, and whatever a backslash precedes, stand for themselves.
fn unquoted(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'"', b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend(rest.get(at + 1));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}
