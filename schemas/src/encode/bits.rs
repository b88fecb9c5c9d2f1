//! `bit` and `bit varying`: Debezium's `Bits` are little-endian, the last digit of the text is the lowest bit.

use super::binary;
use super::misfit::Misfit;

const NO_BITS: Misfit = Misfit::text("it is not a bit string of its type's length");

/// `bit(1)` as a boolean.
pub(super) fn single(text: &[u8]) -> Result<u8, Misfit> {
    match text {
        b"0" => Ok(0),
        b"1" => Ok(1),
        _ => Err(NO_BITS),
    }
}

/// Appends `bit(length)` as `bytes`: as many as the length asks for.
pub(super) fn fixed(text: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), Misfit> {
    if text.len() != length {
        return Err(NO_BITS);
    }
    binary::sized(out, |out| append(text, out))
}

/// Appends a bit string of any length as `bytes`, as many as it has bits: the bits in the first ones, zeros behind,
/// which do not change the number that the bits are. So its length, of which zeros in front are a part, is kept.
pub(super) fn counted(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    binary::sized(out, |out| {
        let end = out.len() + text.len();
        append(text, out)?;
        out.resize(end, 0);
        Ok(())
    })
}

fn append(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    for digits in text.rchunks(8) {
        let mut byte = 0;
        for digit in digits {
            byte = byte << 1
                | match digit {
                    b'0' => 0,
                    b'1' => 1,
                    _ => return Err(NO_BITS),
                };
        }
        out.push(byte);
    }
    Ok(())
}
