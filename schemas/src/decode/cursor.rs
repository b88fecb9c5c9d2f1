//! A position in a body. Every read is checked against the end.

use super::error::{DecodeError, Problem};

/// Boxed, so that the result of a read stays small on the path that succeeds.
pub(super) type Failure = Box<DecodeError>;

/// How many items that take no byte at all (null, an empty record) one body may hold: without a
/// bound, a few corrupt bytes could announce 2^60 of them.
const EMPTY_ITEMS: usize = 1 << 16;

pub(super) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
    empty_left: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            at: 0,
            empty_left: EMPTY_ITEMS,
        }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    #[cold]
    pub(super) fn failure(&self, problem: Problem) -> Failure {
        Box::new(DecodeError::new(self.at, problem))
    }

    /// An error unless the whole body was read.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        match self.body.len() - self.at {
            0 => Ok(()),
            count => Err(self.failure(Problem::TrailingBytes { count })),
        }
    }

    /// Counts a value that takes no byte.
    pub(super) fn empty(&mut self) -> Result<(), Failure> {
        match self.empty_left.checked_sub(1) {
            Some(left) => {
                self.empty_left = left;
                Ok(())
            }
            None => Err(self.failure(Problem::TooManyItems)),
        }
    }

    /// The bound of every announced count: each item takes a byte, or counts as empty.
    pub(super) fn check_items(&self, count: u64) -> Result<(), Failure> {
        let most = self.body.len() - self.at + self.empty_left;
        if usize::try_from(count).is_ok_and(|count| count <= most) {
            return Ok(());
        }
        Err(self.failure(Problem::TooManyItems))
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Failure> {
        let rest = &self.body[self.at..];
        match rest.get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(self.failure(Problem::EndOfBody {
                missing: length - rest.len(),
            })),
        }
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        match self.body[self.at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => {
                let missing = N - (self.body.len() - self.at);
                Err(self.failure(Problem::EndOfBody { missing }))
            }
        }
    }

    /// A zigzag variable-length integer.
    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Failure> {
        let Some(&first) = self.body.get(self.at) else {
            return Err(self.failure(Problem::EndOfBody { missing: 1 }));
        };
        let raw = if first < 0x80 {
            self.at += 1;
            u64::from(first)
        } else {
            self.long_rest(first)?
        };
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn long_rest(&mut self, first: u8) -> Result<u64, Failure> {
        let mut raw = u64::from(first & 0x7F);
        for (index, &byte) in self.body[self.at..].iter().enumerate().skip(1) {
            if index == 9 && byte > 1 {
                return Err(self.failure(Problem::LongTooLong));
            }
            raw |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(raw);
            }
        }
        Err(self.failure(Problem::EndOfBody { missing: 1 }))
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i64, Failure> {
        let value = self.long()?;
        if i32::try_from(value).is_err() {
            return Err(self.failure(Problem::IntTooLong));
        }
        Ok(value)
    }

    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Failure> {
        let length = self.long()?;
        usize::try_from(length).map_err(|_| self.failure(Problem::NegativeLength))
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Failure> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Failure> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.failure(Problem::NotUtf8))
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Failure> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(self.failure(Problem::NotABoolean)),
        }
    }

    /// The index of a union's branch.
    #[inline]
    pub(super) fn branch(&mut self, branches: usize) -> Result<usize, Failure> {
        match usize::try_from(self.long()?) {
            Ok(index) if index < branches => Ok(index),
            _ => Err(self.failure(Problem::NoSuchBranch { branches })),
        }
    }
}
