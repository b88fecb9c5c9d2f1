//! What the services share: configuration, telemetry, shutdown, retry, registry access, and the one
//! consume–batch–write–commit loop of all sinks.

pub mod cli;
pub mod config;
pub mod error;
pub mod health;
pub mod heap;
pub mod http;
pub mod kafka;
mod problem;
pub mod registry;
pub mod retry;
pub mod shutdown;
pub mod sink;
pub mod telemetry;

pub use error::{Error, Policy, Result, ResultExt};
pub use problem::Problem;
