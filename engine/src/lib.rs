//! The one engine of all sinks: fetch → decode → coalesce per key → write → durable → commit.
//!
//! A thread of its own polls Kafka (`group/poll`) and hands the records to one lane per topic (`flow/inbox`). A lane
//! (`write/lane`) writes the records of all its partitions together, one write after the other or some at a time. Offsets move
//! with what is durable only, and a partition is let go after its write under way is finished, made durable and committed.

mod check;
mod cluster;
mod commands;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod control;
mod figures;
mod flow;
mod group;
mod letters;
mod lock;
mod mark;
mod metrics;
mod outlook;
mod outside;
mod plan;
mod rebuild;
mod report;
mod run;
#[cfg(any(test, feature = "conformance"))]
mod sample;
#[cfg(test)]
mod simulation;
mod status;
mod target;
mod topics;
mod write;

pub use check::check;
pub use commands::commands;
pub use config::{BatchConfig, OnError, OnUnfitTarget, SinkConfig};
pub use control::{request, request_text, requests};
pub use flow::batch::{Action, Batch, Change, KeyRow, ValueRow};
pub use flow::form::{Forms, RowForm};
pub use letters::command;
pub use mark::{Known, Mark, Note};
pub use outlook::{Foresight, Intent, Needs, Outlook};
pub use plan::{PLAN, plan};
pub use rebuild::log::{Ends, Log};
pub use rebuild::{Advance, Rebuild, is_unfit};
pub use report::details_text;
pub use run::run;
pub use target::{Lane, Rejection, Stand, Swept, Target, WriteError, Written};
pub use topics::{TableName, TopicPartition, is_match, is_topic_pattern};
pub use write::dead_letter;
