//! A row's cells.

/// One column's value in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Null.
    Null,
    /// A TOASTed value that the update did not touch: it is not in the log.
    Unchanged,
    /// The text form, as the type's output function writes it under this session's settings.
    Text(&'a [u8]),
    /// The binary form; sent only when the option `binary` was asked for.
    Binary(&'a [u8]),
}

/// A row: as many cells as its relation has columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupleData<'a> {
    count: u16,
    /// Invariant: exactly `count` well-formed cells, checked when the message was decoded.
    cells: &'a [u8],
}

impl<'a> TupleData<'a> {
    pub(super) const fn new(count: u16, cells: &'a [u8]) -> Self {
        Self { count, cells }
    }

    /// The number of cells.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// A table may have no column at all.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The cells in the order of the relation's columns.
    #[inline]
    pub const fn cells(&self) -> Cells<'a> {
        Cells {
            count: self.count,
            rest: self.cells,
        }
    }
}

impl<'a> IntoIterator for TupleData<'a> {
    type Item = Cell<'a>;
    type IntoIter = Cells<'a>;

    #[inline]
    fn into_iter(self) -> Cells<'a> {
        self.cells()
    }
}

/// Makes a [`TupleData`] of cells that came another way; the buffer is reused.
#[derive(Debug, Default)]
pub(crate) struct TupleWriter {
    count: usize,
    cells: Vec<u8>,
    too_long: bool,
}

impl TupleWriter {
    /// Begins a row.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.cells.clear();
        self.cells.shrink_to(1 << 20);
        self.too_long = false;
    }

    /// Adds [`Cell::Null`].
    pub(crate) fn null(&mut self) {
        self.cells.push(b'n');
        self.count += 1;
    }

    /// Adds [`Cell::Unchanged`].
    pub(crate) fn unchanged(&mut self) {
        self.cells.push(b'u');
        self.count += 1;
    }

    /// Adds [`Cell::Text`], in parts.
    pub(crate) fn text(&mut self, parts: &[&[u8]]) {
        let length = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>());
        self.too_long |= length.is_err();
        self.cells.push(b't');
        self.cells
            .extend_from_slice(&length.unwrap_or_default().to_be_bytes());
        for part in parts {
            self.cells.extend_from_slice(part);
        }
        self.count += 1;
    }

    /// The row; `None` if it has more columns, or longer ones, than a row can have.
    pub(crate) fn finish(&self) -> Option<TupleData<'_>> {
        let count = i16::try_from(self.count).ok()?.unsigned_abs();
        (!self.too_long).then(|| TupleData::new(count, &self.cells))
    }
}

/// The cells of a [`TupleData`], one after the other.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    count: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        let (cell, rest) = split_cell(self.rest)?;
        self.rest = rest;
        self.count = self.count.saturating_sub(1);
        Some(cell)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count.into(), Some(self.count.into()))
    }
}

impl ExactSizeIterator for Cells<'_> {}

/// The first cell and what follows it; `None` where the bytes hold no whole cell.
#[inline]
pub(super) fn split_cell(bytes: &[u8]) -> Option<(Cell<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    match kind {
        b'n' => Some((Cell::Null, rest)),
        b'u' => Some((Cell::Unchanged, rest)),
        b't' | b'b' => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let cell = if kind == b't' {
                Cell::Text(value)
            } else {
                Cell::Binary(value)
            };
            Some((cell, rest))
        }
        _ => None,
    }
}
