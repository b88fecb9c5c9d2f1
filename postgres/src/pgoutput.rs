//! What Postgres' own output plug-in `pgoutput` sends, decoded in place.
//!
//! Pure: bytes in, borrowed values out. [`decode`] takes the payload of one `XLogData` message. Every
//! length is checked, no input makes it panic, and inserts, updates and deletes allocate nothing.
//!
//! Protocol version 1, and what version 2 adds for streamed transactions ([`decode_streamed`]). The layout is
//! that of the page "Logical Replication Message Formats" of the Postgres manual.

mod decode;
mod message;
mod streamed;
#[cfg(test)]
mod tests;
mod tuple;

pub use decode::{DecodeError, decode};
pub use message::{
    Begin, Commit, Delete, Insert, LogicalMessage, Message, OldRow, Origin, Relation,
    RelationColumn, ReplicaIdentity, Truncate, Type, Update,
};
pub use streamed::{COMMIT_BYTES, Streamed, decode_streamed};
pub(crate) use tuple::TupleWriter;
pub use tuple::{Cell, Cells, TupleData};
