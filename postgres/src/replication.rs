//! The connection that a slot's changes come in on.
//!
//! tokio-postgres has no CopyBoth mode, so this is a small connection of our own over postgres-protocol:
//! [`ReplicationConnection`] logs in as a walsender client and runs replication commands, and
//! [`ReplicationStream`] is what `START_REPLICATION` turns it into. What the frames carry is another
//! module's business ([`crate::pgoutput`]).
//!
//! The rules are those of the page "Streaming Replication Protocol" of the Postgres manual.

mod buffer;
mod channel;
pub(crate) mod clock;
mod config;
mod connection;
mod error;
mod login;
mod pacing;
mod stream;
mod timeline;
mod transport;

pub use config::ReplicationConfig;
pub use connection::{CreatedSlot, ReplicationConnection, SystemIdentity};
pub use error::{Failure, ReplicationError, ServerError};
pub use stream::{Frame, ReplicationStream};
pub use timeline::TimelineHistory;

#[cfg(test)]
mod tests;
