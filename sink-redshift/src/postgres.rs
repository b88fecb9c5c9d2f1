//! The Postgres dialect: rows and offsets in one transaction, by `COPY FROM STDIN` and `INSERT … ON CONFLICT`.

mod access;
mod check;
mod database;
mod ddl;
mod failure;
mod growth;
mod lane;
mod ledger;
mod load;
mod marks;
mod outlook;
mod pool;
mod reform;
mod row;
mod rules;
mod session;
mod settings;
mod sqlstate;
mod stage;
mod sweep;
mod table;
mod takeover;

pub(crate) use check::check;
pub use database::PostgresWarehouse;
pub use lane::PostgresLane;
pub(crate) use settings::validate;

#[cfg(test)]
mod tests;
