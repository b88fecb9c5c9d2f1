//! The Postgres dialect against a real server.
//!
//! Needs `TRIBUTARY_POSTGRES_URL`: a superuser's URL. Every test makes a database of its own and drops it.

mod conforming;
mod empty;
mod evolution;
mod fixture;
mod holding;
mod marks;
mod merging;
mod refusal;
mod rewriting;
mod speed;
mod staging;
mod straight;
mod takeover;
mod two_keys;
mod unavailable;
mod values;
