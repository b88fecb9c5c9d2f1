//! The message contract of Tributary: what travels between the services, and nothing else.
//!
//! Pure: no runtime, no Kafka, no HTTP. Everything here can be tested with bytes in, bytes out.

pub mod avro;
pub mod decode;
pub mod encode;
pub mod header;
pub mod lsn;
pub mod name;
pub mod partition;
pub mod record;
pub mod render;
pub mod sentinel;
pub mod table;
pub mod unavailable;
pub mod wire;

pub use lsn::Lsn;
