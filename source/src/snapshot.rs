//! Reading rows: all tables in parallel under the slot's exported snapshot, or one chunk after the other beside
//! the stream.

mod beside;
pub(crate) mod copy_text;
mod parallel;
mod ranges;
mod relations;
mod rows;
mod shape;
mod throttle;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use beside::{Piece, Progressed, Reader, Task, Verdict, WATERMARK_PREFIX, Watermark};
pub(crate) use parallel::{Batch, SnapshotPoint, Workers};
pub(crate) use ranges::{RelationRanges, SnapshotRequest, TableSnapshot, Tid, TidRange};
pub(crate) use relations::relations;
pub(crate) use rows::{Row, Rows};
pub(crate) use shape::have_their_files;
pub(crate) use throttle::Throttle;

/// Nanoseconds since 1970 now.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
