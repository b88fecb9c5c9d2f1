//! A checked cursor over one JSON text.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem};

use super::problem::Problem;

/// How deep a value that we skip may nest.
const MAX_DEPTH: u32 = 16;
/// What follows a column's type. A quote inside a type's name is doubled or escaped, so this cannot be part of it.
const BEHIND_TYPE: &[u8] = b",\"typeoid\":";

/// Reads tokens off the front; strings are unescaped into a buffer of the caller's.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the cursor stands, for errors.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Takes `byte` if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(Problem::Expected(char::from(byte)))
        }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Problem> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Problem::Trailing),
        }
    }

    /// The next key of an object, with its colon; `None` at the object's end. `first` is cleared by the call.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<&'a [u8]>, Problem> {
        if self.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let length = memchr(b'"', rest).ok_or(Problem::Truncated)?;
        self.at += length + 1;
        self.expect(b':')?;
        Ok(Some(&rest[..length]))
    }

    /// The next item of an array is there; `false` at the array's end. `first` is cleared by the call.
    pub(super) fn item(&mut self, first: &mut bool) -> Result<bool, Problem> {
        if self.take(b']') {
            return Ok(false);
        }
        if !std::mem::take(first) {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// A string, appended to `out` without its escapes.
    pub(super) fn string(&mut self, out: &mut Vec<u8>) -> Result<Range<usize>, Problem> {
        self.expect(b'"')?;
        let start = out.len();
        loop {
            let rest = &self.bytes[self.at..];
            let length = memchr2(b'"', b'\\', rest).ok_or(Problem::Truncated)?;
            out.extend_from_slice(&rest[..length]);
            self.at += length + 1;
            if rest[length] == b'"' {
                return Ok(start..out.len());
            }
            self.escape(out)?;
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Problem> {
        let code = *self.bytes.get(self.at).ok_or(Problem::Truncated)?;
        self.at += 1;
        out.push(match code {
            b'"' | b'\\' | b'/' => code,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.code_point()?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Problem::Escape),
        });
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Problem> {
        let mut code = self.hex4()?;
        if (0xD800..0xDC00).contains(&code) {
            if !self.bytes[self.at..].starts_with(b"\\u") {
                return Err(Problem::Escape);
            }
            self.at += 2;
            let low = self
                .hex4()?
                .checked_sub(0xDC00)
                .filter(|low| *low < 0x400)
                .ok_or(Problem::Escape)?;
            code = 0x1_0000 + ((code - 0xD800) << 10) + low;
        }
        char::from_u32(code).ok_or(Problem::Escape)
    }

    fn hex4(&mut self) -> Result<u32, Problem> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .ok_or(Problem::Truncated)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, byte| {
            let digit = char::from(*byte).to_digit(16).ok_or(Problem::Escape)?;
            Ok(code << 4 | digit)
        })
    }

    /// A column's type, appended to `out`.
    ///
    /// wal2json writes a type that is a quoted identifier as it stands, as in `"type":"My ""T"""`, where an
    /// escaped string would be: not always JSON, so the end is found by what follows.
    pub(super) fn type_name(&mut self, out: &mut Vec<u8>) -> Result<Range<usize>, Problem> {
        if self.peek() != Some(b'"') {
            return Err(Problem::Expected('"'));
        }
        let start = self.at;
        let written = out.len();
        let json = self.string(out);
        if let (Ok(range), Some(b',' | b'}')) = (json, self.peek()) {
            return Ok(range);
        }
        let length = memmem::find(&self.bytes[start..], BEHIND_TYPE).ok_or(Problem::Truncated)?;
        self.at = start + length;
        out.truncate(written);
        out.extend_from_slice(&self.bytes[start..start + length]);
        Ok(written..out.len())
    }

    /// A number's characters as they stand: they are what the type's output function has printed.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Problem> {
        self.peek();
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        if length == 0 {
            return Err(Problem::Value);
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Takes `null`, if it is next.
    pub(super) fn null(&mut self) -> Result<bool, Problem> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal(b"null").map(|()| true)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Problem> {
        match self.peek() {
            Some(b't') => self.literal(b"true").map(|()| true),
            Some(b'f') => self.literal(b"false").map(|()| false),
            _ => Err(Problem::Value),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Problem> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(Problem::Value);
        }
        self.at += literal.len();
        Ok(())
    }

    /// Passes over a value that is of no interest; `scratch` is left as it was.
    pub(super) fn skip(&mut self, scratch: &mut Vec<u8>) -> Result<(), Problem> {
        let mut depth = 0_u32;
        loop {
            match self.peek().ok_or(Problem::Truncated)? {
                b'"' => {
                    let range = self.string(scratch)?;
                    scratch.truncate(range.start);
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Problem::Value);
                    }
                    self.at += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b't' | b'f' => drop(self.boolean()?),
                b'n' => drop(self.null()?),
                _ => drop(self.number()?),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
