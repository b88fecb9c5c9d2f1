//! What the fuzz targets do with one input. The tests of the crate postgres replay the seeds through the same functions.

pub mod pgoutput;
pub mod seeds;
pub mod values;
pub mod wal2json;
