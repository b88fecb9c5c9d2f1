//! From the stream's messages to records.

pub(crate) mod completion;
pub(crate) mod origin;
pub(crate) mod relation;
pub(crate) mod translate;
pub(crate) mod watermark;
