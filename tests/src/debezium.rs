//! The peer whose format we write: Debezium on Kafka Connect, and topics as a Connect sink sees them.
//!
//! [`Connect`] runs its Postgres connector as a process. [`decode`] reads topics with the Avro converter of Apicurio,
//! by a Java program, so that nothing of ours is between the log and the comparison.

mod connect;
mod decode;
mod difference;
mod java;
mod records;
mod structure;

pub use connect::{Connect, Connector};
pub use decode::{Datum, Decoded, Record, Side, decode};
pub use difference::Difference;
pub use records::{compare_records, complete};
pub use structure::compare_schemas;
