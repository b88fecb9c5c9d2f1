//! Keeps a warehouse table per topic equal to its table.
//!
//! A batch and its offset reach the warehouse in one transaction, so every record counts exactly once. Every
//! row carries its `seq` in the column `_tributary_seq`: an older record after a newer one changes nothing.
//! What any warehouse needs is in `warehouse/`; the Postgres dialect is in `postgres/`, and Redshift's own has its place
//! beside [`PostgresWarehouse`] as a second [`Target`](tributary_engine::Target).

mod config;
mod postgres;
mod service;
mod warehouse;

pub use config::{Dialect, Warehouse};
pub use postgres::{PostgresLane, PostgresWarehouse};
pub use service::{Config, RedshiftSink};
