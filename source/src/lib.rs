//! placeholder
pub mod pgoutput;
pub mod replication;
