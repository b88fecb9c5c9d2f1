//! What the services share: configuration, telemetry, shutdown, retry, registry access, and the one
//! consume–batch–write–commit loop of all sinks.

pub mod error;
pub mod sink;

pub use error::{Error, Policy, Result, ResultExt};
