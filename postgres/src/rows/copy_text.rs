//! Rows in the text format of `COPY … TO STDOUT`.

use std::ops::Range;

use tributary_schemas::table::Cell;

/// Parses one row after the other; the buffers are reused.
#[derive(Debug, Default)]
pub struct CopyRow {
    unescaped: Vec<u8>,
    fields: Vec<Option<Range<usize>>>,
}

impl CopyRow {
    /// The cells of a line: tabs between them, `\N` for null, backslash escapes within.
    pub fn parse<'a>(&'a mut self, line: &'a [u8]) -> Vec<Cell<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if memchr::memchr(b'\\', line).is_none() {
            return line.split(|byte| *byte == b'\t').map(Cell::Text).collect();
        }
        self.unescaped.clear();
        self.fields.clear();
        for field in line.split(|byte| *byte == b'\t') {
            let start = self.unescaped.len();
            if field == b"\\N" {
                self.fields.push(None);
                continue;
            }
            self.unescape(field);
            self.fields.push(Some(start..self.unescaped.len()));
        }
        let cell = |field: &Option<Range<usize>>| match field {
            Some(range) => Cell::Text(&self.unescaped[range.clone()]),
            None => Cell::Null,
        };
        self.fields.iter().map(cell).collect()
    }

    fn unescape(&mut self, field: &[u8]) {
        let mut rest = field;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            self.unescaped.extend_from_slice(&rest[..at]);
            let Some(&escaped) = rest.get(at + 1) else {
                rest = &[];
                break;
            };
            self.unescaped.push(match escaped {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => other,
            });
            rest = &rest[at + 2..];
        }
        self.unescaped.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, CopyRow};

    #[test]
    fn escapes_nulls_and_empty_fields() {
        let mut row = CopyRow::default();
        assert_eq!(
            row.parse(b"1\tabc\t\n"),
            [Cell::Text(b"1"), Cell::Text(b"abc"), Cell::Text(b"")]
        );
        assert_eq!(
            row.parse(b"\\N\ta\\tb\\\\N\\n\t\\\\N\n"),
            [Cell::Null, Cell::Text(b"a\tb\\N\n"), Cell::Text(b"\\N")]
        );
        assert_eq!(
            row.parse(b"\\b\\f\\r\\v\n"),
            [Cell::Text(b"\x08\x0c\r\x0b")]
        );
        assert_eq!(row.parse(b"\n"), [Cell::Text(b"")]);
    }
}
