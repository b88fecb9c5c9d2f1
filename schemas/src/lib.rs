//! The message contract of Tributary: what travels between the services, and nothing else.
//!
//! Pure: no runtime, no Kafka, no HTTP. Everything here can be tested with bytes in, bytes out.

pub mod decode;
pub mod header;
pub mod lsn;
pub mod record;
pub mod table;

pub use lsn::Lsn;
