//! A slot's stream: frames in, statuses out.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use tokio::time::{self, Instant};
use tributary_schemas::Lsn;

use super::buffer::Envelope;
use super::channel::{Channel, unexpected};
use super::clock::{postgres_now_us, unix_us};
use super::error::{Failure, ReplicationError};
use super::pacing::Pacing;

/// How long [`ReplicationStream::close`] waits for the server to stop sending.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A slot's stream of changes.
///
/// The loop of a reader: take what is buffered, then fill.
///
/// After an error the stream is of no use any more: drop it, which frees the slot.
#[derive(Debug)]
pub struct ReplicationStream {
    channel: Channel,
    slot: String,
    pacing: Pacing,
    waited: Duration,
}

/// One message of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// What the plug-in wrote.
    XLogData {
        /// Where it stands in the log: several messages may share it, and pgoutput's Relation and Type
        /// messages have zero.
        wal_start: Lsn,
        /// For a logical slot the same as `wal_start`, not the end of the server's log.
        wal_end: Lsn,
        /// When the server sent it: microseconds since 1970.
        sent_at_us: i64,
        /// The plug-in's bytes.
        payload: &'a [u8],
    },
    /// The server is there.
    Keepalive {
        /// How far it has decoded and sent the log.
        wal_end: Lsn,
        /// When it sent this: microseconds since 1970.
        sent_at_us: i64,
        /// It wants a status at once, or it will give the connection up.
        reply_requested: bool,
    },
}

impl ReplicationStream {
    pub(super) fn new(channel: Channel, slot: &str) -> Self {
        Self {
            channel,
            slot: slot.to_owned(),
            pacing: Pacing::new(Instant::now()),
            waited: Duration::ZERO,
        }
    }

    /// The next frame that is in the buffer already, or `None` when it is time to [`Self::fill`]. No IO.
    ///
    /// # Errors
    /// An error of the server or of its plug-in; the end of the stream ([`Failure::Ended`]); bytes that are
    /// no frame.
    #[inline]
    pub fn next_buffered(&mut self) -> Result<Option<Frame<'_>>, ReplicationError> {
        match self.next_copy_data() {
            Ok(None) => Ok(None),
            Ok(Some(data)) => match read_frame(self.channel.received.body(data.body)) {
                Ok(frame) => Ok(Some(frame)),
                Err(failure) => Err(read_failed(&self.slot, failure)),
            },
            Err(failure) => Err(read_failed(&self.slot, failure)),
        }
    }

    /// Waits for more bytes.
    ///
    /// While much is coming it lets about a millisecond pass before it reads, so that the server's small
    /// messages gather; when little comes it returns at once with whatever there is. A return does not mean
    /// that a whole frame is there.
    ///
    /// Cancel safe: may be dropped in `tokio::select!` at any point, nothing is lost.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn fill(&mut self) -> Result<(), ReplicationError> {
        match self.paced_fill().await {
            Ok(()) => Ok(()),
            Err(failure) => Err(read_failed(&self.slot, failure)),
        }
    }

    /// Reports to the server how far we are. `flushed` is what moves the slot: the server never sends
    /// again what lies before it, and may remove its log. With `reply_requested` it answers with a keepalive.
    ///
    /// Cancel safe in that the stream stays sound: a status that was cut off half-way is completed by the
    /// next `send_status` or `fill`. Whether a cancelled one is sent at all is not certain.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send_status(
        &mut self,
        written: Lsn,
        flushed: Lsn,
        applied: Lsn,
        reply_requested: bool,
    ) -> Result<(), ReplicationError> {
        // What a cancelled call left goes first, so that such calls do not pile up.
        let sent = match self.channel.flush().await {
            Ok(()) => {
                let status = [written, flushed, applied];
                write_status(&mut self.channel.outgoing, status, reply_requested);
                self.channel.flush().await
            }
            failed => failed,
        };
        sent.map_err(|failure| failure.during(format!("send a status for slot '{}'", self.slot)))
    }

    /// What the server said before it closed the connection, if it did: a status that cannot be sent any more does not
    /// tell.
    pub async fn last_words(&mut self) -> Option<ReplicationError> {
        let error = async {
            loop {
                let next = self.channel.next().await.ok()?;
                if next.tag == b'E' {
                    return Some(self.channel.read_error(&next));
                }
            }
        };
        let failure = time::timeout(CLOSE_TIMEOUT, error).await.ok().flatten()?;
        Some(read_failed(&self.slot, failure))
    }

    /// How long we have waited for the server since it last said something. Time in which nobody waited, as
    /// while the reader was busy, does not count.
    ///
    /// The server answers a status with `reply_requested`; one that stays silent for long after it is gone,
    /// which TCP alone may not tell for hours.
    pub const fn silence(&self) -> Duration {
        self.waited
    }

    /// Ends the stream in good order, so that the slot is free at once. What the server still sends is
    /// thrown away.
    ///
    /// # Errors
    /// The connection is lost, or the server is in the middle of a transaction for more than 3 seconds; the
    /// connection is closed then too, and the slot is free as soon as the server notices.
    pub async fn close(mut self) -> Result<(), ReplicationError> {
        let end = async {
            frontend::copy_done(&mut self.channel.outgoing);
            self.channel.flush().await?;
            loop {
                let next = self.channel.next().await?;
                match next.tag {
                    b'Z' => break,
                    b'E' => return Err(self.channel.read_error(&next)),
                    _ => {}
                }
            }
            frontend::terminate(&mut self.channel.outgoing);
            self.channel.flush().await
        };
        time::timeout(CLOSE_TIMEOUT, end)
            .await
            .unwrap_or(Err(Failure::TimedOut(CLOSE_TIMEOUT)))
            .map_err(|failure| failure.during(format!("end the stream of slot '{}'", self.slot)))
    }

    #[inline]
    fn next_copy_data(&mut self) -> Result<Option<Envelope>, Failure> {
        loop {
            let Some(next) = self.channel.received.next()? else {
                return Ok(None);
            };
            match next.tag {
                b'd' => return Ok(Some(next)),
                b'N' | b'S' | b'A' => {}
                b'E' => return Err(self.channel.read_error(&next)),
                b'c' | b'C' => return Err(Failure::Ended),
                tag => return Err(unexpected("in the stream", tag)),
            }
        }
    }

    async fn paced_fill(&mut self) -> Result<(), Failure> {
        if !self.channel.outgoing.is_empty() {
            self.channel.flush().await?;
        }
        if let Some(due) = self.pacing.resume_at() {
            time::sleep_until(due).await;
        }
        let waiting = Waiting {
            waited: &mut self.waited,
            since: Instant::now(),
        };
        let bytes = self.channel.fill().await?;
        drop(waiting);
        self.waited = Duration::ZERO;
        self.pacing.after_read(bytes, Instant::now());
        if self.pacing.resume_at().is_some() {
            self.channel.unwatch()?;
        }
        Ok(())
    }
}

/// Counts the time until it is dropped, also when the future around it is.
struct Waiting<'a> {
    waited: &'a mut Duration,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.waited += self.since.elapsed();
    }
}

/// Reads the body of a `CopyData` message.
#[inline]
fn read_frame(body: &[u8]) -> Result<Frame<'_>, Failure> {
    match body {
        [b'w', rest @ ..] => {
            if let Some(([start, end, sent], payload)) = read_u64s(rest) {
                return Ok(Frame::XLogData {
                    wal_start: Lsn(start),
                    wal_end: Lsn(end),
                    sent_at_us: unix_us(sent.cast_signed()),
                    payload,
                });
            }
        }
        [b'k', rest @ ..] => {
            if let Some(([end, sent], [reply])) = read_u64s(rest) {
                return Ok(Frame::Keepalive {
                    wal_end: Lsn(end),
                    sent_at_us: unix_us(sent.cast_signed()),
                    reply_requested: *reply != 0,
                });
            }
        }
        _ => {}
    }
    let (kind, length) = (body.first().copied().unwrap_or_default(), body.len());
    Err(Failure::Protocol(format!(
        "0x{kind:02X} with {length} bytes is no frame of a replication stream"
    )))
}

/// Big-endian integers from the front, and what follows them.
#[inline]
fn read_u64s<const N: usize>(mut bytes: &[u8]) -> Option<([u64; N], &[u8])> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (chunk, rest) = bytes.split_first_chunk::<8>()?;
        *number = u64::from_be_bytes(*chunk);
        bytes = rest;
    }
    Some((numbers, bytes))
}

/// A standby status update in a `CopyData` message.
fn write_status(outgoing: &mut BytesMut, positions: [Lsn; 3], reply_requested: bool) {
    const LENGTH: u32 = 4 + 1 + 4 * 8 + 1;
    outgoing.put_u8(b'd');
    outgoing.put_u32(LENGTH);
    outgoing.put_u8(b'r');
    for position in positions {
        outgoing.put_u64(position.0);
    }
    outgoing.put_i64(postgres_now_us());
    outgoing.put_u8(u8::from(reply_requested));
}

#[cold]
fn read_failed(slot: &str, failure: Failure) -> ReplicationError {
    failure.during(format!("read the stream of slot '{slot}'"))
}
