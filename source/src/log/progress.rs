//! Where a source stands, and what is remembered of its tables.

mod position;
mod ranges;
mod records;
mod state;
mod table;
mod tables;

pub(crate) use position::Position;
pub(crate) use ranges::{RelationRanges, SnapshotRequest, TableSnapshot};
pub(crate) use records::{PositionRecord, ProgressLog, ProgressRecords, source_of, tables_key};
pub(crate) use state::Progress;
pub(crate) use table::{Followed, TableProgress};
pub(crate) use tables::Tables;
