//! The Postgres dialect: rows and offsets in one transaction, by `COPY FROM STDIN` and `INSERT … ON CONFLICT`.

mod access;
mod check;
mod column;
mod deadline;
mod failure;
mod growth;
mod lane;
mod ledger;
mod load;
mod marks;
mod metric;
mod outlook;
mod pool;
mod reform;
mod row;
mod search;
mod session;
mod sqlstate;
mod stage;
mod sweep;
mod takeover;
mod target;
mod warehouse;

pub(crate) use check::check;
pub use lane::PostgresLane;
pub use warehouse::PostgresWarehouse;

#[cfg(test)]
mod tests;
