//! The source: every change of a Postgres database into Kafka, exactly once.
//!
//! Four rooms, each of which knows those below it only: `run` (sessions, from the start order to the stream), `snapshot`
//! (reading rows), `change` (from the stream's messages to records) and `log` (topics, records, progress).

mod change;
mod check;
mod commands;
pub mod config;
mod failpoint;
mod log;
mod run;
mod service;
mod snapshot;
mod telemetry;

pub use service::Source;
