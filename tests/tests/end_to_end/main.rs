//! The services, the real servers of one stack, and what may happen to them. One binary: a slow test holds up nobody else's.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it did"
)]

mod bad_input;
mod compose;
mod debezium;
mod empty;
mod evolution;
mod failover;
mod failpoints;
mod fold;
mod foreign;
mod kill;
mod lanes;
mod letters;
mod oracle;
mod pains;
mod plan;
mod plugins;
mod property;
mod reindex;
mod scaling;
mod search;
mod security;
mod source;
mod stack;
mod status;
mod takeover;
mod unfit;
mod verify;
