//! From bytes to messages.

use std::str;

use tributary_schemas::Lsn;

use super::message::{
    Begin, Commit, Delete, Insert, LogicalMessage, Message, OldRow, Origin, Relation,
    RelationColumn, ReplicaIdentity, Truncate, Type, Update,
};
use super::tuple::TupleData;
use super::tuple::split_cell;
use crate::replication::clock::unix_us;

/// The bytes are no message of pgoutput's protocol version 1 or 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode a message of pgoutput ({kind}): {problem}, at byte {offset} of {length}")]
pub struct DecodeError {
    kind: &'static str,
    problem: Flaw,
    offset: usize,
    length: usize,
}

/// What is wrong at the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it ends early: {0} is not complete")]
    Truncated(&'static str),
    #[error("{what} has the unknown code 0x{byte:02X}")]
    Code { what: &'static str, byte: u8 },
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("{0} is negative")]
    Negative(&'static str),
    #[error("bytes follow its end")]
    Trailing,
}

/// Decodes one message: the whole payload of one `XLogData`.
///
/// # Errors
/// The bytes are cut short, are followed by others, or hold a code that protocol version 1 does not
/// have. The error names the kind of message and the offset.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Cursor::new(bytes);
    let message = reader.message()?;
    reader.finish()?;
    Ok(message)
}

/// A checked cursor over one message.
pub(super) struct Cursor<'a> {
    /// What is being read, for errors.
    pub(super) kind: &'static str,
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            kind: "kind unknown",
            bytes,
            rest: bytes,
        }
    }

    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(Flaw::Trailing))
        }
    }

    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn message(&mut self) -> Result<Message<'a>, DecodeError> {
        let byte = self.u8("the message's kind")?;
        let (kind, read): (_, fn(&mut Self) -> _) = match byte {
            b'I' => ("Insert", Self::insert),
            b'U' => ("Update", Self::update),
            b'D' => ("Delete", Self::delete),
            b'B' => ("Begin", Self::begin),
            b'C' => ("Commit", Self::commit),
            b'R' => ("Relation", Self::relation),
            b'Y' => ("Type", Self::type_name),
            b'O' => ("Origin", Self::origin),
            b'T' => ("Truncate", Self::truncate),
            b'M' => ("Message", Self::logical),
            _ => return Err(self.wrong_code("the message's kind", byte)),
        };
        self.kind = kind;
        read(self)
    }

    fn begin(&mut self) -> Result<Message<'a>, DecodeError> {
        Ok(Message::Begin(Begin {
            final_lsn: self.lsn("the commit LSN")?,
            commit_time_us: self.time_us()?,
            xid: self.u32("the transaction id")?,
        }))
    }

    fn commit(&mut self) -> Result<Message<'a>, DecodeError> {
        Ok(Message::Commit(Commit {
            flags: self.u8("the flags")?,
            commit_lsn: self.lsn("the commit LSN")?,
            end_lsn: self.lsn("the end LSN")?,
            commit_time_us: self.time_us()?,
        }))
    }

    fn origin(&mut self) -> Result<Message<'a>, DecodeError> {
        Ok(Message::Origin(Origin {
            commit_lsn: self.lsn("the origin's LSN")?,
            name: self.name("the origin's name")?,
        }))
    }

    fn relation(&mut self) -> Result<Message<'a>, DecodeError> {
        let oid = self.u32("the relation's OID")?;
        let schema = self.schema()?;
        let name = self.name("the relation's name")?;
        let replica_identity = match self.u8("the replica identity")? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            byte => return Err(self.wrong_code("the replica identity", byte)),
        };
        let count = self.count("the number of columns")?;
        let mut columns = Vec::with_capacity(count.into());
        for _ in 0..count {
            columns.push(RelationColumn {
                key: self.u8("a column's flags")? & 1 != 0,
                name: self.name("a column's name")?,
                type_oid: self.u32("a column's type")?,
                type_modifier: self.i32("a column's type modifier")?,
            });
        }
        Ok(Message::Relation(Relation {
            oid,
            schema,
            name,
            replica_identity,
            columns,
        }))
    }

    fn type_name(&mut self) -> Result<Message<'a>, DecodeError> {
        Ok(Message::Type(Type {
            oid: self.u32("the type's OID")?,
            schema: self.schema()?,
            name: self.name("the type's name")?,
        }))
    }

    fn insert(&mut self) -> Result<Message<'a>, DecodeError> {
        let relation = self.u32("the relation's OID")?;
        match self.u8("the row's kind")? {
            b'N' => Ok(Message::Insert(Insert {
                relation,
                new: self.tuple()?,
            })),
            byte => Err(self.wrong_code("the row's kind", byte)),
        }
    }

    fn update(&mut self) -> Result<Message<'a>, DecodeError> {
        let relation = self.u32("the relation's OID")?;
        let mut kind = self.u8("the row's kind")?;
        let mut old = None;
        if let b'K' | b'O' = kind {
            old = Some(self.old_row(kind)?);
            kind = self.u8("the row's kind")?;
        }
        match kind {
            b'N' => Ok(Message::Update(Update {
                relation,
                old,
                new: self.tuple()?,
            })),
            byte => Err(self.wrong_code("the row's kind", byte)),
        }
    }

    fn delete(&mut self) -> Result<Message<'a>, DecodeError> {
        let relation = self.u32("the relation's OID")?;
        let kind = self.u8("the row's kind")?;
        Ok(Message::Delete(Delete {
            relation,
            old: self.old_row(kind)?,
        }))
    }

    fn truncate(&mut self) -> Result<Message<'a>, DecodeError> {
        let count = self.length("the number of relations")?;
        let options = self.u8("the options")?;
        let oids = self.take(count.saturating_mul(4), "the relations' OIDs")?;
        let (oids, _) = oids.as_chunks::<4>();
        Ok(Message::Truncate(Truncate {
            relations: oids.iter().map(|oid| u32::from_be_bytes(*oid)).collect(),
            cascade: options & 1 != 0,
            restart_identity: options & 2 != 0,
        }))
    }

    fn logical(&mut self) -> Result<Message<'a>, DecodeError> {
        let transactional = self.u8("the flags")? & 1 != 0;
        let lsn = self.lsn("the LSN")?;
        let prefix = self.name("the prefix")?;
        let length = self.length("the content's length")?;
        Ok(Message::Logical(LogicalMessage {
            transactional,
            lsn,
            prefix,
            content: self.take(length, "the content")?,
        }))
    }

    fn old_row(&mut self, kind: u8) -> Result<OldRow<'a>, DecodeError> {
        match kind {
            b'K' => Ok(OldRow::Key(self.tuple()?)),
            b'O' => Ok(OldRow::Full(self.tuple()?)),
            byte => Err(self.wrong_code("the row's kind", byte)),
        }
    }

    /// Walks the cells once, so that [`TupleData::cells`] need not check them again.
    #[inline]
    fn tuple(&mut self) -> Result<TupleData<'a>, DecodeError> {
        let count = self.count("the number of cells")?;
        let cells = self.rest;
        for _ in 0..count {
            match split_cell(self.rest) {
                Some((_, rest)) => self.rest = rest,
                None => return Err(self.bad_cell()),
            }
        }
        let used = cells.len() - self.rest.len();
        Ok(TupleData::new(count, &cells[..used]))
    }

    #[cold]
    fn bad_cell(&mut self) -> DecodeError {
        match self.rest.first() {
            Some(byte) if !b"nutb".contains(byte) => {
                let byte = *byte;
                self.rest = &self.rest[1..];
                self.wrong_code("a cell", byte)
            }
            _ => self.error(Flaw::Truncated("a cell")),
        }
    }

    fn schema(&mut self) -> Result<&'a str, DecodeError> {
        match self.name("the schema's name")? {
            "" => Ok("pg_catalog"),
            name => Ok(name),
        }
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.error(Flaw::Truncated(what)))?;
        let name =
            str::from_utf8(&self.rest[..end]).map_err(|_| self.error(Flaw::NotUtf8(what)))?;
        self.rest = &self.rest[end + 1..];
        Ok(name)
    }

    /// A number of columns or cells.
    #[inline]
    fn count(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        let count = i16::from_be_bytes(self.array(what)?);
        u16::try_from(count).map_err(|_| self.error(Flaw::Negative(what)))
    }

    fn length(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let length = self.i32(what)?;
        usize::try_from(length).map_err(|_| self.error(Flaw::Negative(what)))
    }

    fn time_us(&mut self) -> Result<i64, DecodeError> {
        Ok(unix_us(i64::from_be_bytes(self.array("the commit time")?)))
    }

    fn lsn(&mut self, what: &'static str) -> Result<Lsn, DecodeError> {
        Ok(Lsn(u64::from_be_bytes(self.array(what)?)))
    }

    #[inline]
    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    #[inline]
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    #[inline]
    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.error(Flaw::Truncated(what))),
        }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.error(Flaw::Truncated(what))),
        }
    }

    /// The code was the byte read last.
    #[cold]
    pub(super) fn wrong_code(&self, what: &'static str, byte: u8) -> DecodeError {
        DecodeError {
            offset: (self.bytes.len() - self.rest.len()).saturating_sub(1),
            ..self.error(Flaw::Code { what, byte })
        }
    }

    #[cold]
    fn error(&self, problem: Flaw) -> DecodeError {
        DecodeError {
            kind: self.kind,
            problem,
            offset: self.bytes.len() - self.rest.len(),
            length: self.bytes.len(),
        }
    }
}
