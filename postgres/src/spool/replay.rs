//! A committed transaction, read back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _};

use tributary_runtime::Error;
use tributary_schemas::Lsn;

use super::directory::Directory;
use super::relations::{Relations, relation_oid};
use super::segment::{HEADER, Segment};
use crate::pgoutput::{COMMIT_BYTES, Streamed};
use crate::replication::Frame;

/// What is read at once.
const BUFFER: usize = 256 << 10;
/// A buffer that grew past this for one big message shrinks behind it.
const RETAINED: usize = 1 << 20;

/// The frames of one transaction as they would have come without streaming: Begin, changes, Commit.
///
/// One without any change (all were rolled back, or of tables that are not published) has no Begin and no
/// Commit, as the server would send none; a keepalive says that the WAL up to its end holds nothing for us.
#[derive(Debug)]
pub(super) struct Replay {
    xid: u32,
    /// `None` where the transaction has no file.
    file: Option<BufReader<File>>,
    len: u64,
    left: u64,
    begin: Vec<u8>,
    commit: Vec<u8>,
    commit_lsn: Lsn,
    end_lsn: Lsn,
    empty: bool,
    stage: Stage,
    place: Lsn,
    message: Vec<u8>,
    /// By OID the number of the last announcement that was replayed.
    announced: HashMap<u32, u64>,
    /// Others are open, whose replay must not cover what this one announces.
    others: bool,
    /// Announcements that are newer than those of the transaction.
    newer: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Changes,
    Commit,
    Newer,
}

impl Replay {
    pub(super) fn new(
        directory: &Directory,
        xid: u32,
        segment: &Segment,
        commit: &[u8; COMMIT_BYTES],
        others: bool,
    ) -> io::Result<Self> {
        let file = match segment.len() {
            0 => None,
            _ => Some(BufReader::with_capacity(BUFFER, directory.read(xid)?)),
        };
        let lsn = |at: usize| {
            let bytes = commit[at..at + 8].first_chunk().copied();
            Lsn(u64::from_be_bytes(bytes.unwrap_or_default()))
        };
        let (begin, commit_message) = Streamed::unstreamed(xid, commit);
        Ok(Self {
            xid,
            file,
            len: segment.len(),
            left: segment.len(),
            begin,
            commit: commit_message,
            commit_lsn: lsn(1),
            end_lsn: lsn(9),
            empty: segment.changes() == 0,
            stage: Stage::Begin,
            place: Lsn::ZERO,
            message: Vec::new(),
            announced: HashMap::new(),
            others,
            newer: Vec::new(),
        })
    }

    pub(super) const fn xid(&self) -> u32 {
        self.xid
    }

    /// Bytes in its file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Goes to the next frame; false behind the last one.
    pub(super) fn advance(&mut self, relations: &mut Relations) -> Result<bool, Error> {
        if self.stage == Stage::Begin {
            self.stage = Stage::Changes;
            if !self.empty {
                self.show(self.commit_lsn, |replay| replay.begin.clone());
                return Ok(true);
            }
        }
        if self.stage == Stage::Changes {
            if self.left > 0 {
                self.read().map_err(|error| {
                    Error::retry(error).context("read a spooled transaction back")
                })?;
                self.note(relations);
                return Ok(true);
            }
            self.stage = Stage::Commit;
            self.newer = self.newer(relations);
            if !self.empty {
                self.show(self.end_lsn, |replay| replay.commit.clone());
            }
            return Ok(true);
        }
        self.stage = Stage::Newer;
        match self.newer.pop() {
            Some(message) => {
                self.place = Lsn::ZERO;
                self.message = message;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The frame that [`Self::advance`] went to.
    pub(super) fn frame(&self) -> Frame<'_> {
        if self.empty && self.stage == Stage::Commit {
            return Frame::Keepalive {
                wal_end: self.end_lsn,
                sent_at_us: 0,
                reply_requested: false,
            };
        }
        Frame::XLogData {
            wal_start: self.place,
            wal_end: self.place,
            sent_at_us: 0,
            payload: &self.message,
        }
    }

    fn show(&mut self, place: Lsn, message: impl FnOnce(&Self) -> Vec<u8>) {
        self.message = message(self);
        self.place = place;
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut place = [0; 8];
        let mut length = [0; HEADER - 8];
        file.read_exact(&mut place)?;
        file.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        self.place = Lsn(u64::from_be_bytes(place));
        self.message.clear();
        self.message.shrink_to(RETAINED);
        let read = file.take(length.into()).read_to_end(&mut self.message)?;
        if read != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(HEADER as u64 + u64::from(length));
        Ok(())
    }

    /// The place of an announcement is its number on the wire.
    fn note(&mut self, relations: &mut Relations) {
        if let Some(oid) = relation_oid(&self.message) {
            let number = self.place.0;
            self.place = Lsn::ZERO;
            self.announced.insert(oid, number);
            if self.others {
                relations.remember(number, &self.message);
            }
        }
    }

    fn newer(&self, relations: &Relations) -> Vec<Vec<u8>> {
        let announced = self.announced.iter();
        let newer = announced.filter_map(|(oid, number)| {
            let (newest, message) = relations.newest.get(oid)?;
            (newest > number).then(|| message.clone())
        });
        newer.collect()
    }
}
