//! The Postgres dialect: rows and offsets in one transaction, by `COPY FROM STDIN` and `INSERT … ON CONFLICT`.

mod access;
mod check;
mod column;
mod failure;
mod lane;
mod ledger;
mod load;
mod metric;
mod pool;
mod row;
mod session;
mod stage;
mod target;
mod warehouse;

pub(crate) use check::check;
pub use lane::PostgresLane;
pub use warehouse::PostgresWarehouse;

#[cfg(test)]
mod tests;
