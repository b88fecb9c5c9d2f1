//! What protocol version 2 adds: transactions that are sent while they are still open.
//!
//! Their messages come in blocks, from `Stream Start` to `Stream Stop`, one transaction's at a time. Within a
//! block a message has the id of its (sub)transaction behind its kind; without it, it is the message of version 1.

use super::decode::{Cursor, DecodeError};

/// What a payload is about, where transactions may be streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed<'a> {
    /// A block of a transaction begins.
    Start {
        /// The top-level transaction.
        xid: u32,
        /// It is the first block.
        first: bool,
    },
    /// The block ends.
    Stop,
    /// A message within a block.
    Within {
        /// The subtransaction, or the transaction itself; none for an Origin message. A logical message has the
        /// top-level transaction's also when a subtransaction emitted it.
        xid: Option<u32>,
        /// The kind of the message.
        kind: u8,
        /// What follows kind and xid.
        body: &'a [u8],
    },
    /// A streamed transaction was committed.
    Commit {
        /// The transaction.
        xid: u32,
        /// The body of its Commit message.
        body: [u8; COMMIT_BYTES],
    },
    /// A streamed (sub)transaction was rolled back.
    Abort {
        /// The top-level transaction.
        xid: u32,
        /// What was rolled back: the same for the whole transaction.
        subxid: u32,
    },
    /// A message of version 1, outside of any block.
    Ordinary,
}

/// The body of a Commit message: flags, commit LSN, end LSN, time.
pub const COMMIT_BYTES: usize = 1 + 8 + 8 + 8;

impl Streamed<'_> {
    /// The bodies of the Begin and Commit messages that the transaction would have had without streaming.
    pub(crate) fn unstreamed(xid: u32, commit: &[u8; COMMIT_BYTES]) -> (Vec<u8>, Vec<u8>) {
        let (commit_lsn, time) = (&commit[1..9], &commit[17..]);
        let begin = [b"B", commit_lsn, time, &xid.to_be_bytes()[..]].concat();
        (begin, [b"C", &commit[..]].concat())
    }
}

/// Reads what a payload of protocol version 2 is about; `within` says whether a block is open.
///
/// # Errors
/// A message of the streaming protocol is cut short or followed by others, or stands where it cannot.
pub fn decode_streamed(bytes: &[u8], within: bool) -> Result<Streamed<'_>, DecodeError> {
    let mut reader = Cursor::new(bytes);
    let kind = reader.u8("the message's kind")?;
    let streamed = match (kind, within) {
        (b'S', false) => {
            reader.kind = "Stream Start";
            let xid = reader.u32("the transaction id")?;
            let first = reader.u8("the segment's flag")? == 1;
            Streamed::Start { xid, first }
        }
        (b'E', true) => {
            reader.kind = "Stream Stop";
            Streamed::Stop
        }
        (b'c', false) => {
            reader.kind = "Stream Commit";
            Streamed::Commit {
                xid: reader.u32("the transaction id")?,
                body: reader.array("flags, LSNs and time")?,
            }
        }
        (b'A', false) => {
            reader.kind = "Stream Abort";
            Streamed::Abort {
                xid: reader.u32("the transaction id")?,
                subxid: reader.u32("the subtransaction id")?,
            }
        }
        (b'O', true) => Streamed::Within {
            xid: None,
            kind,
            body: reader.take_rest(),
        },
        (b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M', true) => Streamed::Within {
            xid: Some(reader.u32("the transaction id")?),
            kind,
            body: reader.take_rest(),
        },
        (_, true) => {
            return Err(reader.wrong_code("the kind of a message in a streamed block", kind));
        }
        (_, false) => return Ok(Streamed::Ordinary),
    };
    reader.finish()?;
    Ok(streamed)
}

#[cfg(test)]
mod tests {
    use super::super::{Commit, Message, decode};
    use super::{Streamed, decode_streamed};
    use tributary_schemas::Lsn;

    #[test]
    fn blocks_are_read_as_the_manual_describes_them() {
        let start = |first| [b"S\0\0\x02\xf1", &[first][..]].concat();
        assert_eq!(
            decode_streamed(&start(1), false),
            Ok(Streamed::Start {
                xid: 753,
                first: true
            })
        );
        assert_eq!(
            decode_streamed(&start(0), false),
            Ok(Streamed::Start {
                xid: 753,
                first: false
            })
        );
        assert_eq!(decode_streamed(b"E", true), Ok(Streamed::Stop));
        assert_eq!(
            decode_streamed(b"A\0\0\0\x01\0\0\0\x02", false),
            Ok(Streamed::Abort { xid: 1, subxid: 2 })
        );
        assert_eq!(
            decode_streamed(b"T\0\0\0\x05rest", true),
            Ok(Streamed::Within {
                xid: Some(5),
                kind: b'T',
                body: b"rest"
            })
        );
        assert_eq!(
            decode_streamed(b"Orest", true),
            Ok(Streamed::Within {
                xid: None,
                kind: b'O',
                body: b"rest"
            })
        );
        assert_eq!(decode_streamed(b"Irest", false), Ok(Streamed::Ordinary));
    }

    #[test]
    fn a_streamed_commit_has_all_that_begin_and_commit_say() {
        let mut bytes = b"c\0\0\x02\xf1\0".to_vec();
        for number in [7_u64, 9, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let Ok(Streamed::Commit { xid, body }) = decode_streamed(&bytes, false) else {
            panic!("no commit");
        };
        let (begin, commit) = Streamed::unstreamed(xid, &body);
        let Ok(Message::Begin(begin)) = decode(&begin) else {
            panic!("no begin");
        };
        assert_eq!((begin.final_lsn, begin.xid), (Lsn(7), 753));
        let expected = Commit {
            flags: 0,
            commit_lsn: Lsn(7),
            end_lsn: Lsn(9),
            commit_time_us: begin.commit_time_us,
        };
        assert_eq!(decode(&commit), Ok(Message::Commit(expected)));
    }

    #[test]
    fn what_is_cut_short_or_out_of_place_is_refused() {
        let refused = [
            (&b"S\0\0\0"[..], false),
            (b"S\0\0\0\x01\x01x", false),
            (b"c\0\0\0\x01\0\0", false),
            (b"A\0\0\0\x01\0\0\0", false),
            (b"I\0\0", true),
            (b"Ex", true),
            (b"S\0\0\0\x01\x01", true),
            (b"B", true),
            (b"", true),
            (b"", false),
        ];
        for (bytes, within) in refused {
            assert!(
                decode_streamed(bytes, within).is_err(),
                "{bytes:?} {within}"
            );
        }
    }
}
