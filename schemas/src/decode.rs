//! Decode plans: from the Avro bytes of a record to typed data, without a copy of a string.
//!
//! A plan is compiled once from the schema that the record was *written* with, so defaults and
//! resolution play no part. Topics of ours and those of Debezium 3.x through a Connect Avro
//! converter are read alike: fields are found by name, meaning comes from the `connect.*`
//! annotations, and from Avro's own `logicalType` where those are absent. apache-avro's `Schema`
//! drops annotations of primitive types, hence the schema's JSON is walked here.

mod compiled;
mod cursor;
mod envelope;
mod error;
mod key;
mod meaning;
mod plan;
mod schema;

pub use envelope::ValuePlan;
pub use error::{DecodeError, Problem, SchemaError};
pub use key::KeyPlan;
