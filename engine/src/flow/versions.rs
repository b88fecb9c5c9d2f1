//! Where the versions of a partition's records come from.

use crate::flow::fault::RecordFault;

/// What the records of a partition have said so far; offsets and `seq` are no common order. Only a record that can be
/// applied says something: junk has no header either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    /// No record seen yet.
    #[default]
    Open,
    /// The header `tributary.seq`.
    Header,
    /// The offset + 1: a topic of another source.
    Offset,
}

/// The header on a record whose partition had none so far, and that is not newer by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OlderThanOffsets;

impl Versions {
    /// The version of a record that can be applied. Once a record has the header, those without it are faults. Those
    /// before it had their offsets, so the first one with the header has to be newer than any of them.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn of(
        &mut self,
        seq: Option<u64>,
        offset: i64,
    ) -> Result<Result<u64, RecordFault>, OlderThanOffsets> {
        let by_offset = u64::try_from(offset).unwrap_or_default() + 1;
        match (*self, seq) {
            (Self::Header, None) => return Ok(Err(RecordFault::unversioned(offset))),
            (Self::Offset, Some(seq)) if seq < by_offset => return Err(OlderThanOffsets),
            (_, Some(_)) => *self = Self::Header,
            (_, None) => *self = Self::Offset,
        }
        Ok(Ok(seq.unwrap_or(by_offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::{OlderThanOffsets, Versions};

    #[test]
    fn the_header_counts_from_the_first_record_that_has_it() {
        let mut versions = Versions::default();
        assert_eq!(versions.of(None, 0), Ok(Ok(1)));
        assert_eq!(versions.of(None, 1), Ok(Ok(2)));
        assert_eq!(versions, Versions::Offset);
        assert_eq!(versions.of(Some(1_000), 2), Ok(Ok(1_000)));
        assert_eq!(versions, Versions::Header);
        assert_eq!(versions.of(None, 3).unwrap().unwrap_err().offset, 3);
        assert_eq!(versions.of(Some(1_001), 4), Ok(Ok(1_001)));
    }

    #[test]
    fn a_header_that_is_no_newer_than_offsets_before_it_has_no_order() {
        let mut versions = Versions::default();
        assert_eq!(versions.of(None, 10), Ok(Ok(11)));
        assert_eq!(versions.of(Some(11), 11), Err(OlderThanOffsets));
        assert_eq!(versions, Versions::Offset);
    }
}
