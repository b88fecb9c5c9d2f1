//! The pure parts of the source, by symbolic links, without the rest of it: the fuzz targets build in a minute.

#![allow(dead_code, reason = "the source uses what the targets do not")]

pub mod pgoutput;
pub mod targets;
pub mod wal2json;

mod replication {
    pub(crate) mod clock;
}

mod rows {
    pub(crate) mod copy_text;
}
