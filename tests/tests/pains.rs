//! What users of other sources complain of, each a test named after the issue that tells it.
//!
//! Each is short; what it touches is shown in depth elsewhere: restarts and crashes in `failpoints` and `kill`, values
//! in `property`, gaps and the second instance in `failover`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "pains/position.rs"]
mod position;
#[path = "pains/schema.rs"]
mod schema;
#[path = "pains/snapshot.rs"]
mod snapshot;
#[path = "pains/stage.rs"]
mod stage;
#[path = "pains/values.rs"]
mod values;
