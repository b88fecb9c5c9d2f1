//! Bit strings: Debezium's `Bits` are little-endian, the last character is the lowest bit.

use super::error::RenderError;

/// The longest bit string that Postgres holds (`varbit.h`, `VARBITMAXLEN`); a `bit varying` without a length says
/// more.
const MAX_LENGTH: u32 = 83_886_080;

/// Appends one character per bit: as many as there are bytes where they are `counted`, otherwise as many as the
/// type has. Debezium drops the zeros in front: where the type has any number of bits, they are gone.
pub(super) fn write(
    length: Option<u32>,
    counted: bool,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let significant = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| {
        8 * (last + 1) - bytes[last].leading_zeros() as usize
    });
    let length = match length.filter(|length| *length <= MAX_LENGTH) {
        _ if counted => bytes.len(),
        Some(length) => length as usize,
        None => significant,
    };
    if significant > length {
        return Err(RenderError::OutOfRange { kind: "bit string" });
    }
    let bit = |index: usize| {
        bytes
            .get(index / 8)
            .map_or(0, |byte| byte >> (index % 8) & 1)
    };
    out.extend((0..length).rev().map(|index| b'0' + bit(index)));
    Ok(())
}
