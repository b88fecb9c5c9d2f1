//! Against the real engine at `TRIBUTARY_SEARCH`, and against a server that answers what a real one cannot be
//! made to answer.

mod blocks;
mod busy;
mod compressed;
mod conforming;
mod documents;
mod engine;
mod faults;
mod fixture;
mod gate;
mod handover;
mod history;
mod indices;
mod let_in;
mod moved;
mod nodes;
mod outgrown;
mod pipelines;
mod plain;
mod proxy;
mod roles;
mod signed;
mod sigv4;
mod snapshots;
mod stress;
mod sweeps;
mod values;
mod wire;
