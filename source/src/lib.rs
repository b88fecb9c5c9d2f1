//! The source: every change of a Postgres database into Kafka, exactly once.
//!
//! The start order stands in `session`, the steady state in `streaming`, the first snapshot in `first_start`.

mod catalog;
mod check;
mod commands;
mod completion;
pub mod config;
mod database;
mod decoder;
mod failpoint;
mod first_start;
mod gap;
mod log_end;
mod membership;
mod metadata;
mod outbox;
pub mod pgoutput;
mod progress;
mod publication;
mod published;
mod publisher;
mod relation;
pub mod replication;
mod service;
mod session;
mod signals;
mod slot;
mod slot_care;
mod snapshot;
mod spool;
mod status;
mod streaming;
mod telemetry;
mod topics;
mod translate;
pub mod wal2json;
mod watch;

pub use service::Source;

#[cfg(test)]
mod fuzz_replay;
#[cfg(test)]
#[allow(
    unreachable_pub,
    missing_docs,
    reason = "libFuzzer's crate has them public"
)]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;
