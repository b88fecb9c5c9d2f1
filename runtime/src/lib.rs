//! What the services share: configuration, telemetry, shutdown, retry, registry and Kafka access.

pub mod cli;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod health;
pub mod heap;
pub mod http;
pub mod kafka;
mod problem;
pub mod registry;
pub mod retry;
pub mod shutdown;
pub mod telemetry;

pub use error::{Error, Policy, Result, ResultExt};
pub use problem::Problem;
