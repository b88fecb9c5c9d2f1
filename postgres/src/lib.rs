//! What the services need of Postgres: sessions, the replication stream and its decoders, slots, publications, the
//! catalog, and rows by their place. It knows no Kafka.

pub mod catalog;
pub mod client;
pub mod ctid;
pub mod database;
pub mod decoder;
pub mod fault;
mod keepalive;
pub mod output_plugins;
pub mod pgoutput;
pub mod plugin;
pub mod publication;
pub mod quote;
pub mod replication;
pub mod rows;
pub mod server;
pub mod slot;
pub mod spool;
pub mod verify;
pub mod wal2json;

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
