//! The local stack, the services as processes, the oracle, and what the end-to-end tests share.

use std::path::PathBuf;

pub mod bench;
pub mod certificates;
pub mod debezium;
pub mod demo;
pub mod http;
pub mod marks;
pub mod oracle;
pub mod pipeline;
pub mod property;
pub mod service;
pub mod shop;
pub mod stack;
pub mod statements;
pub mod usage;

/// The folder that all data of tests go to: Cargo's target folder.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
