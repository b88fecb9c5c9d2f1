//! The bytes that came in, cut into the server's messages.

use std::ops::Range;

use super::error::Failure;

/// What the buffer holds while messages are small.
const CAPACITY: usize = 256 << 10;
/// A buffer that grew past this for one big message shrinks when that is gone.
const RETAINED: usize = 1 << 20;
/// The server builds a message in one allocation of less than 1 GiB (`MaxAllocSize`).
const MAX_MESSAGE_BYTES: usize = 1 << 30;
/// The kind and the length.
const HEADER: usize = 5;

/// One whole message: its kind, and where its body is in the buffer.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) tag: u8,
    pub(super) body: Range<usize>,
}

/// Received bytes. Positions: `start <= end <= bytes.len()`; `start..end` is not consumed yet.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY],
            start: 0,
            end: 0,
        }
    }

    /// Consumes the next whole message. Its body stays readable until [`Self::room`] is called.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Envelope>, Failure> {
        let Some((tag, total)) = self.header()? else {
            return Ok(None);
        };
        if self.end - self.start < total {
            return Ok(None);
        }
        let body = self.start + HEADER..self.start + total;
        self.start += total;
        Ok(Some(Envelope { tag, body }))
    }

    /// The body of a message.
    #[inline]
    pub(super) fn body(&self, body: Range<usize>) -> &[u8] {
        &self.bytes[body]
    }

    /// Room for the next bytes; empty only while a whole message waits to be consumed.
    pub(super) fn room(&mut self) -> Result<&mut [u8], Failure> {
        let need = self.header()?.map_or(HEADER, |(_, total)| total);
        let held = self.end - self.start;
        if self.bytes.len() > RETAINED && need <= CAPACITY && held <= CAPACITY {
            let mut small = vec![0; CAPACITY];
            small[..held].copy_from_slice(&self.bytes[self.start..self.end]);
            self.bytes = small;
        } else {
            self.bytes.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, held);
        // By doubling, not at once: the length is only a claim until the bytes come.
        if held == self.bytes.len() && need > held {
            let grown = need.min(2 * held);
            self.bytes.resize(grown, 0);
        }
        Ok(&mut self.bytes[held..])
    }

    /// Takes note of bytes written into [`Self::room`].
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// The kind and the whole length of the next message, once its header is there.
    #[inline]
    fn header(&self) -> Result<Option<(u8, usize)>, Failure> {
        let Some(header) = self.bytes[self.start..self.end].first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
            return Err(Failure::Protocol(format!(
                "message 0x{tag:02X} says it has {length} bytes"
            )));
        }
        Ok(Some((tag, 1 + length)))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, RETAINED, ReceiveBuffer};

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], &length.to_be_bytes()[..], body].concat()
    }

    /// Feeds `bytes` in pieces of at most `step` bytes and returns the bodies that come out.
    fn feed(buffer: &mut ReceiveBuffer, mut bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let room = buffer.room().unwrap();
            let length = room.len().min(step).min(bytes.len());
            assert!(length > 0, "no room although nothing whole waits");
            room[..length].copy_from_slice(&bytes[..length]);
            buffer.filled(length);
            bytes = &bytes[length..];
            while let Some(next) = buffer.next().unwrap() {
                messages.push((next.tag, buffer.body(next.body).to_vec()));
            }
        }
        messages
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let bodies = [0, 1, 4, 5, 300, 70_000].map(|length| vec![b'x'; length]);
        let wire = bodies
            .iter()
            .map(|body| message(b'd', body))
            .collect::<Vec<_>>();
        let expected = bodies.map(|body| (b'd', body));
        for step in [1, 2, 3, 7, 4096, usize::MAX] {
            let got = feed(&mut ReceiveBuffer::new(), &wire.concat(), step);
            assert!(got == expected, "step {step}");
        }
    }

    #[test]
    fn the_buffer_grows_for_a_big_message_and_shrinks_after_it() {
        let mut buffer = ReceiveBuffer::new();
        let big = message(b'd', &vec![b'x'; 10 << 20]);
        assert_eq!(feed(&mut buffer, &big, 100_000).len(), 1);
        assert!(buffer.capacity() > RETAINED);
        assert_eq!(
            feed(&mut buffer, &message(b'd', b"small"), 7),
            [(b'd', b"small".to_vec())]
        );
        assert_eq!(buffer.capacity(), CAPACITY);
    }

    #[test]
    fn a_claimed_length_alone_takes_no_memory() {
        let mut buffer = ReceiveBuffer::new();
        let claim = [b'd', 0x3f, 0xff, 0xff, 0xff];
        assert_eq!(feed(&mut buffer, &claim, 5), []);
        assert!(!buffer.room().unwrap().is_empty());
        assert_eq!(buffer.capacity(), CAPACITY);
    }

    #[test]
    fn a_whole_message_that_waits_may_leave_no_room() {
        let mut buffer = ReceiveBuffer::new();
        let full = message(b'd', &vec![b'x'; CAPACITY - 5]);
        buffer.room().unwrap().copy_from_slice(&full);
        buffer.filled(full.len());
        assert!(buffer.room().unwrap().is_empty());
        assert!(buffer.next().unwrap().is_some());
        assert!(!buffer.room().unwrap().is_empty());
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0_u32, 3, (1 << 30) + 1, u32::MAX] {
            let mut buffer = ReceiveBuffer::new();
            let header = [&[b'd'][..], &length.to_be_bytes()].concat();
            buffer.room().unwrap()[..5].copy_from_slice(&header);
            buffer.filled(5);
            let failure = buffer.next().unwrap_err().to_string();
            assert_eq!(
                failure,
                format!("protocol violation: message 0x64 says it has {length} bytes")
            );
        }
    }
}
