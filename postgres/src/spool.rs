//! Streamed transactions on disk, until they are committed.
//!
//! With protocol version 2 the server sends a big transaction while it is open, in blocks, between other
//! transactions. A block's messages go into the transaction's file. What is rolled back is cut off: a
//! subtransaction's messages and those of its children are the end of the file, since its parent does nothing
//! while it is open. At the commit the file is read back as the frames that the server would have sent without
//! streaming, so that whatever reads frames (order, ordinals, `seq`, positions) knows no difference.
//!
//! The files hold what the server sends again to a new session: none of them outlives the session.

mod directory;
mod relations;
mod replay;
mod segment;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

use crate::pgoutput::{COMMIT_BYTES, Streamed, decode_streamed};
use crate::replication::Frame;
use directory::Directory;
use relations::Relations;
use replay::Replay;
use segment::{Block, Segment};

/// Subtransactions remembered at a time, in all transactions together: about 20 MB. A function that catches an
/// exception per row makes one per row.
const MAX_SUBTRANSACTIONS: usize = 500_000;

/// Where streamed transactions wait for their commit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// The folder; made if it is missing.
    pub dir: Option<PathBuf>,
    /// The most bytes that all of them together may take.
    pub max_bytes: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            dir: None,
            max_bytes: 10 << 30,
        }
    }
}

/// Whether transactions are streamed: given up for the rest of the process once a session has found that it
/// cannot go on with it.
#[derive(Debug, Clone)]
pub struct StreamingSwitch {
    wanted: Arc<AtomicBool>,
}

impl StreamingSwitch {
    /// On where it is wanted.
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted: Arc::new(AtomicBool::new(wanted)),
        }
    }

    /// Whether the next session streams.
    pub fn is_on(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Gives streaming up; the error ends the session, and the next one has the server spill instead.
    fn give_up(&self, why: &str) -> Error {
        self.wanted.store(false, Ordering::Relaxed);
        Error::retry_msg(format!(
            "{why}: from now on, until a restart, the server sends transactions at their commit"
        ))
    }
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is a message of version 1: the caller's.
    Ordinary,
    /// It belongs to a streamed transaction, and is kept or done with.
    Kept,
    /// A streamed transaction was committed: its frames come first, see [`Spool::next_replayed`].
    Committed,
}

/// The streamed transactions of a session.
pub struct Spool {
    directory: Directory,
    streaming: StreamingSwitch,
    max_bytes: u64,
    /// Bytes in all files.
    bytes: u64,
    subtransactions: usize,
    open: BTreeMap<u32, Segment>,
    /// The block that is coming in.
    block: Option<Block>,
    replay: Option<Replay>,
    relations: Relations,
}

impl Spool {
    /// The spool of a session, where the configuration wants one. Whoever calls this holds the slot.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn of_session(
        config: &SpoolConfig,
        slot: &str,
        system_id: &str,
        streaming: &StreamingSwitch,
    ) -> Result<Option<Self>, Error> {
        let Some(folder) = config.dir.as_ref().filter(|_| streaming.is_on()) else {
            return Ok(None);
        };
        // Of several servers that share a slot's name and this folder each has files of its own.
        let owner = format!("{slot}.{system_id}");
        Self::open(folder, &owner, config.max_bytes, streaming.clone()).map(Some)
    }

    /// Makes the folder and removes what an earlier session left in it.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    fn open(
        folder: &std::path::Path,
        owner: &str,
        max_bytes: u64,
        streaming: StreamingSwitch,
    ) -> Result<Self, Error> {
        Ok(Self {
            directory: Directory::open(folder, owner)?,
            streaming,
            max_bytes,
            bytes: 0,
            subtransactions: 0,
            open: BTreeMap::new(),
            block: None,
            replay: None,
            relations: Relations::default(),
        })
    }

    /// Takes what belongs to a streamed transaction. Not while a replay is under way.
    ///
    /// # Errors
    /// The stream contradicts itself (stop); the spool is full, or cannot tell which messages a rolled back
    /// subtransaction had (retry, without streaming); the disk fails.
    pub fn take(&mut self, wal_start: Lsn, payload: &[u8]) -> Result<Taken, Error> {
        match decode_streamed(payload, self.block.is_some()).map_err(Error::stop)? {
            Streamed::Ordinary => {
                if payload.first() == Some(&b'R') {
                    self.relations.announced(payload, !self.open.is_empty());
                }
                return Ok(Taken::Ordinary);
            }
            Streamed::Start { xid, first } => self.start(xid, first)?,
            Streamed::Stop => self.stop()?,
            Streamed::Within { xid, kind, body } => self.keep(wal_start, xid, kind, body)?,
            Streamed::Abort { xid, subxid } if xid == subxid => self.forget(xid)?,
            Streamed::Abort { xid, subxid } => self.cut(xid, subxid)?,
            Streamed::Commit { xid, body } => {
                self.commit(xid, &body)?;
                return Ok(Taken::Committed);
            }
        }
        Ok(Taken::Kept)
    }

    /// Whether frames of a committed transaction come before those of the connection.
    pub const fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// The next frame of the transaction that was committed; `None` behind the last one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_replayed(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let ended = match &mut self.replay {
            None => return Ok(None),
            Some(replay) => !replay.advance(&mut self.relations)?,
        };
        if ended {
            self.end_replay();
        }
        Ok(self.replay.as_ref().map(Replay::frame))
    }

    fn start(&mut self, xid: u32, first: bool) -> Result<(), Error> {
        if first == self.open.contains_key(&xid) {
            return Err(contradiction(&format!(
                "a block of transaction {xid} that is or is not its first one"
            )));
        }
        self.open.entry(xid).or_default();
        self.block = Some(Block::new(xid));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        match self.block.take() {
            Some(block) => block.finish().map_err(|e| self.failed(e)),
            None => Ok(()),
        }
    }

    fn keep(
        &mut self,
        wal_start: Lsn,
        subxid: Option<u32>,
        kind: u8,
        body: &[u8],
    ) -> Result<(), Error> {
        let Some(block) = &mut self.block else {
            return Err(contradiction("a streamed message outside of a block"));
        };
        let Some(segment) = self.open.get_mut(&block.xid) else {
            return Err(contradiction("a block of an unknown transaction"));
        };
        if let Some(subxid) = subxid
            && subxid != block.xid
            && segment.enter(subxid)
        {
            self.subtransactions += 1;
        }
        let place = if kind == b'R' {
            // Such a message has no place in the WAL; its number takes the field.
            Lsn(self.relations.announced(&[], false))
        } else {
            wal_start
        };
        let written = segment.append(block, &self.directory, place, kind, body);
        let full = self.bytes + written.as_ref().unwrap_or(&0) > self.max_bytes;
        match written {
            _ if full => Err(self.streaming.give_up(&format!(
                "the streamed transactions need more than spool.max_bytes ({})",
                self.max_bytes
            ))),
            _ if self.subtransactions > MAX_SUBTRANSACTIONS => {
                Err(self.streaming.give_up(&format!(
                    "the streamed transactions have more than {MAX_SUBTRANSACTIONS} open subtransactions"
                )))
            }
            Ok(written) => {
                self.bytes += written;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The whole transaction was rolled back.
    fn forget(&mut self, xid: u32) -> Result<(), Error> {
        if let Some(segment) = self.open.remove(&xid) {
            self.bytes -= segment.len();
            self.subtransactions -= segment.subtransactions();
            self.directory.remove(xid)?;
        }
        self.settle();
        Ok(())
    }

    /// A subtransaction was rolled back.
    fn cut(&mut self, xid: u32, subxid: u32) -> Result<(), Error> {
        let Some(segment) = self.open.get_mut(&xid) else {
            return Err(contradiction("a rollback in an unknown transaction"));
        };
        let (before, known) = (segment.len(), segment.subtransactions());
        if !segment.leave(subxid) {
            return Err(self.streaming.give_up(&format!(
                "transaction {xid} emitted a logical message at a savepoint that was rolled back, and the protocol does not say on which side of it"
            )));
        }
        let after = segment.len();
        self.subtransactions -= known - segment.subtransactions();
        self.bytes -= before - after;
        if after < before {
            self.directory
                .truncate(xid, after)
                .map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn commit(&mut self, xid: u32, commit: &[u8; COMMIT_BYTES]) -> Result<(), Error> {
        let Some(segment) = self.open.remove(&xid) else {
            return Err(contradiction("a commit of an unknown transaction"));
        };
        self.subtransactions -= segment.subtransactions();
        let alone = self.open.is_empty();
        let replay = Replay::new(&self.directory, xid, &segment, commit, !alone);
        self.replay = Some(replay.map_err(|e| self.failed(e))?);
        Ok(())
    }

    fn end_replay(&mut self) {
        if let Some(replay) = self.replay.take() {
            self.bytes -= replay.len();
            // It is in the log, or will be sent again: a file that cannot be removed is removed at the next start.
            if let Err(error) = self.directory.remove(replay.xid()) {
                tracing::warn!(%error, "a replayed transaction stays on disk");
            }
        }
        self.settle();
    }

    /// Without an open transaction nobody can announce anything late.
    fn settle(&mut self) {
        if self.open.is_empty() {
            self.relations.newest = HashMap::new();
        }
    }

    /// A disk that is full is a full spool; anything else passes or needs somebody.
    fn failed(&self, error: std::io::Error) -> Error {
        if matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ) {
            return self
                .streaming
                .give_up(&format!("no space is left in {}", self.directory));
        }
        self.directory.failed(error)
    }
}

fn contradiction(what: &str) -> Error {
    Error::stop_msg(format!("the replication stream contradicts itself: {what}"))
        .remedy("report it, with the server's version; set postgres.streaming = false meanwhile")
}

#[cfg(test)]
mod tests;
