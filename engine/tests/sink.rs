//! The sink loop on the real Kafka and registry, with an in-memory target.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests panic on what must not happen"
)]

#[path = "sink/beside.rs"]
mod beside;
#[path = "sink/codecs.rs"]
mod codecs;
#[cfg(feature = "conformance")]
#[path = "sink/conforming.rs"]
mod conforming;
#[allow(dead_code, reason = "shared with other test binaries")]
#[path = "sink/double.rs"]
mod double;
#[path = "sink/empty.rs"]
mod empty;
#[path = "sink/faults.rs"]
mod faults;
#[path = "sink/foreign.rs"]
mod foreign;
#[path = "sink/generations.rs"]
mod generations;
#[path = "sink/group.rs"]
mod group;
#[path = "sink/late_schemas.rs"]
mod late_schemas;
#[path = "sink/offsets.rs"]
mod offsets;
#[path = "sink/pause.rs"]
mod pause;
#[path = "sink/records.rs"]
mod records;
#[path = "sink/replay.rs"]
mod replay;
#[allow(dead_code, reason = "shared with other test binaries")]
#[path = "sink/stage.rs"]
mod stage;
#[path = "sink/status.rs"]
mod status;
