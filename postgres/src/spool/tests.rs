//! What comes back from the spool is what the server would have sent at the commit.

use proptest::prelude::*;

use super::{Spool, StreamingSwitch, Taken};
use crate::replication::Frame;
use tributary_schemas::Lsn;

/// A spool in a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
    streaming: StreamingSwitch,
    spool: Spool,
}

impl Bench {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let streaming = StreamingSwitch::new(true);
        let spool = Spool::open(folder.path(), "shop.1", max_bytes, streaming.clone()).unwrap();
        Self {
            folder,
            streaming,
            spool,
        }
    }

    fn take(&mut self, payload: &[u8]) -> Taken {
        self.spool.take(Lsn(5), payload).unwrap()
    }

    fn block(&mut self, xid: u32, first: bool, messages: &[Vec<u8>]) {
        self.take(&start(xid, first));
        for message in messages {
            assert_eq!(self.take(message), Taken::Kept);
        }
        self.take(b"E");
    }

    /// The frames of the transaction that was committed, as text.
    fn replayed(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        assert!(self.spool.is_replaying());
        while let Some(frame) = self.spool.next_replayed().unwrap() {
            frames.push(match frame {
                Frame::Keepalive { wal_end, .. } => format!("to {}", wal_end.0),
                Frame::XLogData { payload, .. } => match payload {
                    [b'B', rest @ ..] => format!("B {}", rest[7]),
                    [b'C', rest @ ..] => format!("C {}", rest[16]),
                    other => String::from_utf8_lossy(other).replace('\0', ""),
                },
            });
        }
        assert!(!self.spool.is_replaying());
        frames
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn start(xid: u32, first: bool) -> Vec<u8> {
    [&b"S"[..], &xid.to_be_bytes(), &[u8::from(first)]].concat()
}

fn within(kind: u8, xid: u32, body: &str) -> Vec<u8> {
    [&[kind][..], &xid.to_be_bytes(), body.as_bytes()].concat()
}

fn abort(xid: u32, subxid: u32) -> Vec<u8> {
    [&b"A"[..], &xid.to_be_bytes(), &subxid.to_be_bytes()].concat()
}

fn commit(xid: u32, lsn: u8) -> Vec<u8> {
    let lsns = [u64::from(lsn), u64::from(lsn) + 1, 0].map(u64::to_be_bytes);
    [&b"c"[..], &xid.to_be_bytes(), &[0], &lsns.concat()].concat()
}

fn relation(xid: Option<u32>, oid: u8, columns: &str) -> Vec<u8> {
    let xid = xid.map(u32::to_be_bytes);
    let xid = xid.as_ref().map_or(&[][..], |xid| &xid[..]);
    [b"R", xid, &[0, 0, 0, oid], columns.as_bytes()].concat()
}

#[test]
fn a_transaction_comes_back_whole_at_its_commit() {
    let mut bench = Bench::new(1 << 20);
    assert_eq!(bench.take(b"Bordinary"), Taken::Ordinary);
    bench.block(7, true, &[within(b'I', 7, "one"), within(b'I', 8, "two")]);
    bench.block(9, true, &[within(b'I', 9, "other")]);
    bench.block(7, false, &[within(b'U', 7, "three")]);
    assert_eq!(bench.files(), 2);
    assert_eq!(bench.take(&commit(7, 40)), Taken::Committed);
    assert_eq!(bench.replayed(), ["B 40", "Ione", "Itwo", "Uthree", "C 41"]);
    bench.take(&abort(9, 9));
    assert_eq!((bench.files(), bench.spool.bytes), (0, 0));
}

#[test]
fn what_was_rolled_back_is_not_there() {
    let mut bench = Bench::new(1 << 20);
    let messages = [
        within(b'I', 7, "kept"),
        within(b'I', 8, "parent"),
        within(b'I', 9, "child"),
        within(b'I', 10, "child"),
    ];
    bench.block(7, true, &messages);
    // The children of a savepoint come before it.
    for subxid in [9, 10, 8, 11] {
        bench.take(&abort(7, subxid));
    }
    bench.block(7, false, &[within(b'I', 12, "later")]);
    bench.take(&commit(7, 40));
    assert_eq!(bench.replayed(), ["B 40", "Ikept", "Ilater", "C 41"]);
    assert_eq!((bench.spool.subtransactions, bench.spool.bytes), (0, 0));
}

#[test]
fn a_transaction_without_changes_only_moves_on() {
    let mut bench = Bench::new(1 << 20);
    bench.block(7, true, &[]);
    bench.take(&commit(7, 40));
    assert_eq!(bench.replayed(), ["to 41"]);
    bench.block(7, true, &[within(b'I', 8, "gone")]);
    bench.take(&abort(7, 8));
    bench.take(&commit(7, 50));
    assert_eq!(bench.replayed(), ["to 51"]);
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_newer_announcement_survives_the_replay_of_an_older_one() {
    let mut bench = Bench::new(1 << 20);
    bench.take(&relation(None, 3, "first"));
    bench.block(
        7,
        true,
        &[relation(Some(7), 3, "older"), within(b'I', 7, "row")],
    );
    bench.block(
        8,
        true,
        &[relation(Some(8), 3, "middle"), within(b'I', 8, "row")],
    );
    assert_eq!(bench.take(&relation(None, 3, "newer")), Taken::Ordinary);
    bench.block(
        9,
        true,
        &[relation(Some(9), 3, "newest"), within(b'I', 9, "row")],
    );
    bench.take(&commit(7, 40));
    assert_eq!(
        bench.replayed(),
        ["B 40", "R\u{3}older", "Irow", "C 41", "R\u{3}newer"]
    );
    bench.take(&commit(9, 50));
    assert_eq!(bench.replayed(), ["B 50", "R\u{3}newest", "Irow", "C 51"]);
    bench.take(&commit(8, 60));
    assert_eq!(
        bench.replayed(),
        ["B 60", "R\u{3}middle", "Irow", "C 61", "R\u{3}newest"]
    );
    assert!(bench.spool.relations.newest.is_empty());
}

#[test]
fn a_full_spool_gives_streaming_up() {
    let mut bench = Bench::new(100);
    bench.take(&start(7, true));
    let mut taken = 0;
    let error = loop {
        match bench.spool.take(Lsn(5), &within(b'I', 7, "row")) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(taken > 3 && !bench.streaming.is_on());
    assert!(
        error.to_string().contains("spool.max_bytes (100)"),
        "{error}"
    );
    assert_eq!(error.policy(), tributary_runtime::Policy::Retry);
}

#[test]
fn a_message_of_uncertain_savepoint_gives_streaming_up() {
    for messages in [
        vec![within(b'M', 7, "of whom?"), within(b'I', 8, "row")],
        vec![
            within(b'I', 8, "row"),
            within(b'M', 7, "of whom?"),
            within(b'I', 9, "row"),
        ],
        vec![within(b'M', 7, "of whom?")],
    ] {
        let mut bench = Bench::new(1 << 20);
        bench.block(7, true, &messages);
        let error = bench.spool.take(Lsn(5), &abort(7, 9)).err();
        let error = error.or_else(|| bench.spool.take(Lsn(5), &abort(7, 8)).err());
        assert!(error.unwrap().to_string().contains("savepoint"));
        assert!(!bench.streaming.is_on());
    }
    let mut bench = Bench::new(1 << 20);
    let certain = [
        within(b'M', 7, "before"),
        within(b'I', 7, "row"),
        within(b'I', 8, "row"),
        within(b'M', 7, "within"),
    ];
    bench.block(7, true, &certain);
    bench.take(&abort(7, 8));
    bench.take(&commit(7, 40));
    assert_eq!(bench.replayed(), ["B 40", "Mbefore", "Irow", "C 41"]);
    assert!(bench.streaming.is_on());
}

#[test]
fn nothing_is_left_behind_and_nothing_else_is_touched() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::new(1 << 20);
    let folder = bench.folder.path().to_owned();
    for other in ["shop.1.note", "shop.12.7.spool", "shop.1.x.spool"] {
        std::fs::write(folder.join(other), "theirs").unwrap();
    }
    std::fs::write(folder.join("shop.1.4.spool"), "an earlier session's").unwrap();
    bench.spool = Spool::open(&folder, "shop.1", 1 << 20, bench.streaming.clone()).unwrap();
    assert_eq!(bench.files(), 3);
    bench.block(7, true, &[within(b'I', 7, "row")]);
    let mode = std::fs::metadata(folder.join("shop.1.7.spool")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    drop(bench.spool);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    // Somebody else's link is not followed.
    let mut spool = Spool::open(&folder, "shop.1", 1 << 20, bench.streaming.clone()).unwrap();
    std::os::unix::fs::symlink(folder.join("shop.1.note"), folder.join("shop.1.7.spool")).unwrap();
    spool.take(Lsn(5), &start(7, true)).unwrap();
    let error = spool.take(Lsn(5), &within(b'I', 7, "row")).err().unwrap();
    assert_eq!(error.policy(), tributary_runtime::Policy::Stop);
}

#[test]
fn contradictions_stop() {
    let refused = |before: &[Vec<u8>], payload: &[u8]| {
        let mut bench = Bench::new(1 << 20);
        for payload in before {
            bench.take(payload);
        }
        let error = bench.spool.take(Lsn(5), payload).err().unwrap();
        assert_eq!(error.policy(), tributary_runtime::Policy::Stop, "{error}");
    };
    refused(&[], &start(7, false));
    refused(&[], &commit(7, 40));
    refused(&[], &abort(7, 8));
    refused(&[start(7, true), b"E".to_vec()], &start(7, true));
    refused(&[start(7, true)], b"Binside");
}

/// A step in a transaction.
#[derive(Debug, Clone, Copy)]
enum SpooledStep {
    Change,
    Savepoint,
    Release,
    Rollback,
    Block,
}

proptest! {
    /// However savepoints nest, only what is not rolled back comes back, in order.
    #[test]
    fn savepoints_nest(steps in prop::collection::vec(
        prop_oneof![
            4 => Just(SpooledStep::Change), 2 => Just(SpooledStep::Savepoint), 1 => Just(SpooledStep::Release),
            2 => Just(SpooledStep::Rollback), 1 => Just(SpooledStep::Block),
        ], 0..80))
    {
        let mut bench = Bench::new(1 << 20);
        // Per open savepoint: its id, the ids released into it, how many rows it began behind.
        let mut nest: Vec<(u32, Vec<u32>, usize)> = vec![(7, Vec::new(), 0)];
        let mut rows: Vec<String> = Vec::new();
        let mut next = 8;
        bench.take(&start(7, true));
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                SpooledStep::Change => {
                    let (xid, ..) = nest.last().unwrap();
                    let row = format!("row{number}");
                    bench.take(&within(b'I', *xid, &row));
                    rows.push(format!("I{row}"));
                }
                SpooledStep::Savepoint => {
                    nest.push((next, Vec::new(), rows.len()));
                    next += 1;
                }
                SpooledStep::Release if nest.len() > 1 => {
                    let (xid, children, _) = nest.pop().unwrap();
                    let parent = &mut nest.last_mut().unwrap().1;
                    parent.extend(children);
                    parent.push(xid);
                }
                SpooledStep::Rollback if nest.len() > 1 => {
                    let (xid, mut children, begun) = nest.pop().unwrap();
                    bench.take(b"E");
                    children.sort_unstable();
                    for subxid in children.into_iter().chain([xid]) {
                        bench.take(&abort(7, subxid));
                    }
                    rows.truncate(begun);
                    bench.take(&start(7, false));
                }
                SpooledStep::Block => {
                    bench.take(b"E");
                    bench.take(&start(7, false));
                }
                SpooledStep::Release | SpooledStep::Rollback => {}
            }
        }
        bench.take(b"E");
        bench.take(&commit(7, 40));
        let expected = if rows.is_empty() {
            vec!["to 41".to_owned()]
        } else {
            [vec!["B 40".to_owned()], rows, vec!["C 41".to_owned()]].concat()
        };
        prop_assert_eq!(bench.replayed(), expected);
        prop_assert_eq!((bench.spool.bytes, bench.spool.subtransactions), (0, 0));
    }
}
