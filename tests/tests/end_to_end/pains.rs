//! What users of other sources complain of, each a test named after the issue that tells it.
//!
//! Each is short; what it touches is shown in depth elsewhere: restarts and crashes in `failpoints` and `kill`, values
//! in `property`, gaps and the second instance in `failover`.

mod position;
mod schema;
mod snapshot;
mod stage;
mod values;
