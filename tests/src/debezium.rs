//! The peer whose format we write: Debezium on Kafka Connect, and topics as a Connect sink sees them.
//!
//! [`Connect`] runs its Postgres connector as a process, [`ConnectSink`] its JDBC sink and another's sink for OpenSearch. [`decode`] reads topics with the Avro converter of Apicurio,
//! by a Java program, so that nothing of ours is between the log and the comparison.

mod connect;
mod connect_sink;
mod decode;
mod difference;
mod java;
mod records;
mod structure;
mod worker;

pub use connect::{Connect, Connector};
pub use connect_sink::ConnectSink;
pub use decode::{Datum, Decoded, Record, Side, decode};
pub use difference::Difference;
pub use java::Jvm;
pub use records::{compare_records, complete};
pub use structure::compare_schemas;
