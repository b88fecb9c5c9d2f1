//! The replication connection and the decoder against a real server.
//!
//! Needs `TRIBUTARY_POSTGRES_URL`: a superuser's URL, a server with `wal_level = logical` that asks for
//! passwords. Every test works in a schema of its own, and removes it and its slot.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

#[path = "replication/corner.rs"]
mod corner;
#[path = "replication/following.rs"]
mod following;
#[path = "replication/loss.rs"]
mod loss;
#[path = "replication/refusal.rs"]
mod refusal;
#[path = "replication/replica.rs"]
mod replica;
#[path = "replication/session.rs"]
mod session;
