//! The peer whose format we write: Debezium on Kafka Connect, and topics as a Connect sink sees them.
//!
//! [`Connect`] runs its Postgres connector as a process, [`JdbcSink`] its JDBC sink. [`decode`] reads topics with the Avro converter of Apicurio,
//! by a Java program, so that nothing of ours is between the log and the comparison.

mod connect;
mod decode;
mod difference;
mod java;
mod jdbc_sink;
mod records;
mod structure;
mod worker;

pub use connect::{Connect, Connector};
pub use decode::{Datum, Decoded, Record, Side, decode};
pub use difference::Difference;
pub use jdbc_sink::JdbcSink;
pub use records::{compare_records, complete};
pub use structure::compare_schemas;
