//! What one streamed transaction has in its file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use tributary_schemas::Lsn;

use super::directory::Directory;

/// Before every message: where it stands in the WAL (8 bytes) and its length (4 bytes), big-endian.
pub(super) const HEADER: usize = 8 + 4;
/// What is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// A transaction's file, as far as it counts.
#[derive(Debug, Default)]
pub(super) struct Segment {
    len: u64,
    has_file: bool,
    /// By subtransaction where its first message stands.
    first: BTreeMap<u32, Mark>,
    /// The last change or message is a logical message.
    behind_message: bool,
    changes: u64,
}

/// What is needed to undo a subtransaction.
#[derive(Debug, Clone, Copy)]
struct Mark {
    len: u64,
    changes: u64,
    /// A logical message stands right before it: part of it perhaps, for such messages carry the id of the
    /// top-level transaction.
    behind_message: bool,
}

impl Segment {
    /// Bytes in the file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Changes and logical messages in the file.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many subtransactions it remembers.
    pub(super) fn subtransactions(&self) -> usize {
        self.first.len()
    }

    /// Takes note of the subtransaction of the next message; whether it is a new one.
    pub(super) fn enter(&mut self, subxid: u32) -> bool {
        let mark = Mark {
            len: self.len,
            changes: self.changes,
            behind_message: self.behind_message,
        };
        let before = self.first.len();
        self.first.entry(subxid).or_insert(mark);
        self.first.len() > before
    }

    /// Cuts a subtransaction off; false where it is not certain what belongs to it.
    pub(super) fn leave(&mut self, subxid: u32) -> bool {
        match self.first.remove(&subxid) {
            // A child, whose messages went with its elder sibling's or its parent's.
            Some(mark) if mark.len > self.len => true,
            Some(mark) => {
                self.len = mark.len;
                self.changes = mark.changes;
                self.behind_message = mark.behind_message;
                !mark.behind_message
            }
            // None of its changes was published; its messages, if it had any, are the last ones.
            None => !self.behind_message,
        }
    }

    /// Adds a message; how many bytes that takes.
    pub(super) fn append(
        &mut self,
        block: &mut Block,
        directory: &Directory,
        place: Lsn,
        kind: u8,
        body: &[u8],
    ) -> io::Result<u64> {
        let length = u32::try_from(1 + body.len()).map_err(io::Error::other)?;
        let file = block.file(directory, !self.has_file)?;
        self.has_file = true;
        file.write_all(&place.0.to_be_bytes())?;
        file.write_all(&length.to_be_bytes())?;
        file.write_all(&[kind])?;
        file.write_all(body)?;
        let written = HEADER as u64 + u64::from(length);
        self.len += written;
        if let b'I' | b'U' | b'D' | b'T' | b'M' = kind {
            self.changes += 1;
            self.behind_message = kind == b'M';
        }
        Ok(written)
    }
}

/// The block that is coming in: what it adds to its transaction's file.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) xid: u32,
    /// Opened with the first message: most blocks of an unrelated transaction have none.
    file: Option<BufWriter<File>>,
}

impl Block {
    pub(super) const fn new(xid: u32) -> Self {
        Self { xid, file: None }
    }

    /// Hands what was gathered to the system.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.file {
            Some(mut file) => file.flush(),
            None => Ok(()),
        }
    }

    fn file(&mut self, directory: &Directory, first: bool) -> io::Result<&mut BufWriter<File>> {
        if self.file.is_none() {
            let file = directory.append(self.xid, first)?;
            self.file = Some(BufWriter::with_capacity(BUFFER, file));
        }
        self.file
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
