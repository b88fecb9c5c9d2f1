use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tributary_schemas::Lsn;
use tributary_schemas::table::{Column, ColumnType, Table};

use super::{Chunks, Ended, GONE, Piece, Reached, Watermark};
use crate::change::completion::ServerSnapshot;
use crate::change::translate::ReadRows;
use crate::log::progress::{
    Followed, Position, Progress, SnapshotRequest, TableProgress, TableSnapshot,
};
use crate::log::table_topic::TableTopic;
use crate::snapshot::beside::Verdict;

fn mark(name: &str) -> Watermark {
    Watermark(name.as_bytes().to_vec())
}

fn unread() -> TableSnapshot {
    TableSnapshot::requested(SnapshotRequest::default(), 7)
}

/// Tables of these topics, none of which is read.
fn progress(topics: &[&str]) -> Progress {
    let position = Position::at_consistent_point(Lsn(3), 3);
    let mut progress = Progress::new("1".to_owned(), 1, position);
    for topic in topics {
        let table = TableProgress {
            table: format!("s.{topic}"),
            oid: 1,
            partitions: 3,
            key_schema_id: Some(1),
            topic_id: None,
            followed: Followed::default(),
            snapshot: Some(unread()),
        };
        progress.tables.insert((*topic).to_owned(), table);
    }
    progress
}

fn piece(high: &str) -> (Box<Piece>, oneshot::Receiver<Verdict>) {
    let table = Table {
        oid: 1,
        schema: "s".to_owned(),
        name: "a".to_owned(),
        columns: vec![Column {
            name: "id".to_owned(),
            attnum: 1,
            column_type: ColumnType::Int4,
            key_position: Some(0),
        }],
    };
    let (verdict, answer) = oneshot::channel();
    let piece = Piece {
        high: mark(high),
        read: ReadRows {
            table: Arc::new(TableTopic::for_test(table)),
            snapshot: ServerSnapshot::parse("100:100:").unwrap(),
            rows: Vec::new(),
        },
        state: unread(),
        verdict,
    };
    (Box::new(piece), answer)
}

/// The topic whose table is begun with.
fn begun(chunks: &mut Chunks, progress: &Progress, now: Instant) -> Option<String> {
    assert!(chunks.is_to_look(now));
    let task = chunks.begin(progress, now)?;
    Some(task.topic.to_string())
}

fn reading(topics: &[&str]) -> Chunks {
    let mut chunks = Chunks::default();
    let first = begun(&mut chunks, &progress(topics), Instant::now());
    assert_eq!(first.as_deref(), topics.first().copied());
    chunks
}

fn is_window(reached: Option<&Reached>) -> bool {
    matches!(reached, Some(Reached::OpenWindow(topic)) if **topic == *"a")
}

fn is_merge(reached: Option<&Reached>) -> bool {
    matches!(reached, Some(Reached::Merge(_)))
}

#[test]
fn a_window_opens_at_its_own_low_watermark() {
    let mut chunks = reading(&["a"]);
    chunks.window(mark("low 1"));
    assert!(chunks.watermark(&mark("of another source")).is_none());
    assert!(is_window(chunks.watermark(&mark("low 1")).as_ref()));
    assert!(chunks.watermark(&mark("low 1")).is_none(), "it is open");
    // A chunk that could not begin: the next one has another.
    chunks.window(mark("low 2"));
    chunks.window(mark("low 3"));
    assert!(chunks.watermark(&mark("low 2")).is_none());
    assert!(is_window(chunks.watermark(&mark("low 3")).as_ref()));
}

#[test]
fn rows_enter_at_their_own_high_watermark() {
    let mut chunks = reading(&["a"]);
    chunks.window(mark("low"));
    // The reader is ahead of the stream.
    let (first, _answer) = piece("high 1");
    assert!(chunks.listens());
    chunks.piece(first);
    assert!(!chunks.listens(), "the next rows wait with the reader");
    assert!(is_window(chunks.watermark(&mark("low")).as_ref()));
    assert!(chunks.watermark(&mark("high 9")).is_none());
    assert!(is_merge(chunks.watermark(&mark("high 1")).as_ref()));
    assert!(chunks.watermark(&mark("high 1")).is_none());
    assert!(chunks.listens());
}

#[test]
fn a_piece_may_be_listened_to_only_at_its_watermark() {
    let mut chunks = reading(&["a"]);
    chunks.window(mark("low"));
    assert!(is_window(chunks.watermark(&mark("low")).as_ref()));
    // What the reader has told is taken over before a watermark counts, as the stream does where this asks for it.
    assert!(chunks.listens());
    let (told, answer) = piece("high");
    chunks.piece(told);
    let Some(Reached::Merge(piece)) = chunks.watermark(&mark("high")) else {
        panic!("the piece is passed over")
    };
    piece.verdict.send(Verdict::Taken).unwrap();
    assert_eq!(answer.blocking_recv(), Ok(Verdict::Taken));
}

#[test]
fn a_reading_that_is_abandoned_leaves_nothing_behind() {
    let mut chunks = reading(&["a", "b"]);
    chunks.window(mark("low"));
    let (waiting, mut answer) = piece("high");
    chunks.piece(waiting);
    assert_eq!(chunks.abandon("b"), None, "it is not being read");
    assert!(!chunks.listens());
    assert_eq!(chunks.abandon("a"), Some(Ended::Done));
    assert_eq!(
        answer.try_recv(),
        Err(TryRecvError::Closed),
        "the rows are let go"
    );
    assert!(chunks.watermark(&mark("low")).is_none());
    assert!(chunks.watermark(&mark("high")).is_none());
    assert_eq!(chunks.abandon("a"), None);
    let next = begun(&mut chunks, &progress(&["a", "b"]), Instant::now());
    assert_eq!(next.as_deref(), Some("a"), "it is read anew");
}

#[test]
fn a_postponed_table_is_passed_over_and_comes_back() {
    let now = Instant::now();
    let mut chunks = reading(&["a", "b"]);
    let mut progress = progress(&["a", "b"]);
    let pause = Duration::from_secs(1);
    let postponed = Ended::Postponed("a".into(), pause, "locked".to_owned());
    assert_eq!(chunks.postpone("locked", now), Some(postponed));
    assert_eq!(begun(&mut chunks, &progress, now).as_deref(), Some("b"));
    assert_eq!(chunks.done(), Some(Ended::Done));
    progress.tables.get_mut("b").unwrap().snapshot = None;
    assert_eq!(begun(&mut chunks, &progress, now), None);
    assert!(!chunks.is_to_look(now), "nothing is looked for meanwhile");
    assert_eq!(
        begun(&mut chunks, &progress, now + pause).as_deref(),
        Some("a")
    );
    let again = chunks.postpone("locked", now);
    assert_eq!(
        again,
        Some(Ended::Postponed("a".into(), 2 * pause, "locked".to_owned()))
    );
    // Somebody asks for it.
    assert_eq!(chunks.abandon("a"), None);
    assert_eq!(begun(&mut chunks, &progress, now).as_deref(), Some("a"));
}

fn without_key(mut progress: Progress, topics: &[&str]) -> Progress {
    for topic in topics {
        progress.tables.get_mut(topic).unwrap().key_schema_id = None;
    }
    progress
}

#[test]
fn tables_with_a_key_wait_for_none_without() {
    let now = Instant::now();
    let mut chunks = Chunks::default();
    let mut progress = without_key(progress(&["a", "b", "c", "d"]), &["a", "b"]);
    for topic in ["c", "d", "a", "b"] {
        let next = begun(&mut chunks, &progress, now);
        assert_eq!(next.as_deref(), Some(topic));
        progress.tables.get_mut(topic).unwrap().snapshot = None;
        assert_eq!(chunks.done(), Some(Ended::Done));
    }
}

#[test]
fn a_stream_that_is_far_behind_postpones_all_tables_without_a_key() {
    let now = Instant::now();
    let mut chunks = Chunks::default();
    let topics = ["a", "b", "c", "d"];
    let mut progress = without_key(progress(&topics), &topics);
    progress.tables.get_mut("d").unwrap().snapshot = None;
    let mut time = now;
    for pause in [1, 2, 4].map(Duration::from_secs) {
        assert_eq!(begun(&mut chunks, &progress, time).as_deref(), Some("a"));
        let postponed = Ended::Postponed("a".into(), pause, "behind".to_owned());
        let behind = chunks.behind(&progress.tables, "behind", time);
        assert_eq!(behind, Some(postponed));
        assert_eq!(begun(&mut chunks, &progress, time), None, "nor b, nor c");
        assert!(!chunks.is_to_look(time), "nothing is looked for meanwhile");
        time += pause;
    }
    assert_eq!(chunks.behind(&progress.tables, "behind", time), None);
    // One with a key is asked for meanwhile.
    progress.tables.get_mut("d").unwrap().key_schema_id = Some(1);
    progress.tables.get_mut("d").unwrap().snapshot = Some(unread());
    chunks.wake();
    assert_eq!(begun(&mut chunks, &progress, now).as_deref(), Some("d"));
}

#[test]
fn while_snapshots_are_paused_nothing_begins() {
    let now = Instant::now();
    let mut chunks = Chunks::default();
    let mut progress = progress(&["a"]);
    progress.snapshots_paused = true;
    assert_eq!(begun(&mut chunks, &progress, now), None);
    assert!(!chunks.is_to_look(now));
    progress.snapshots_paused = false;
    chunks.wake();
    assert_eq!(begun(&mut chunks, &progress, now).as_deref(), Some("a"));
    assert!(!chunks.is_to_look(now), "one at a time");
}

#[test]
fn a_table_that_is_gone_is_given_up_once_the_stream_has_passed_that() {
    let now = Instant::now();
    let mut progress = progress(&["a"]);
    let mut chunks = reading(&["a"]);
    assert!(matches!(
        chunks.gone(&progress.tables, now),
        Some(Ended::Postponed(..))
    ));
    assert_eq!(
        chunks.gone(&progress.tables, now),
        None,
        "nothing is being read"
    );
    progress.tables.get_mut("a").unwrap().followed.leave();
    let mut chunks = reading(&["a"]);
    let given_up = Ended::GivenUp("a".into(), GONE.to_owned());
    assert_eq!(chunks.gone(&progress.tables, now), Some(given_up));
}
