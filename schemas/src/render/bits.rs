//! Bit strings: Debezium's `Bits` are little-endian, the last character is the lowest bit.

use super::RenderError;

/// Appends one character per bit: as many as the type has, and no more than the bytes hold (the
/// length of a `bit varying` is its largest).
pub(super) fn write(
    length: Option<u32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let held = bytes.len() * 8;
    let length = length
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(held)
        .min(held);
    let bit = |index: usize| bytes[index / 8] >> (index % 8) & 1;
    if (length..held).any(|index| bit(index) == 1) {
        return Err(RenderError::OutOfRange { kind: "bit string" });
    }
    out.extend((0..length).rev().map(|index| b'0' + bit(index)));
    Ok(())
}
