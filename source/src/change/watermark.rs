//! Places in the WAL that this source marks.

/// The prefix of the logical messages that are watermarks. The content begins with the source's name.
pub(crate) const WATERMARK_PREFIX: &str = "tributary";

/// A place in the WAL: the content of a logical message of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watermark(pub(crate) Vec<u8>);
