//! Decode plans against apache-avro, against Debezium's schemas, and against corrupt bodies.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests panic on what must not happen"
)]

#[path = "decode/avro.rs"]
mod avro;
#[path = "decode/corrupt.rs"]
mod corrupt;
#[path = "decode/debezium.rs"]
mod debezium;
#[path = "decode/envelope.rs"]
mod envelope;
#[path = "decode/oracle.rs"]
mod oracle;
#[path = "decode/own.rs"]
mod own;
#[path = "decode/refusal.rs"]
mod refusal;
