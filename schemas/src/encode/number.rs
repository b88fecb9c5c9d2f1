//! Integers, floating-point numbers and bytes.

use std::str::FromStr;

use super::binary;
use super::misfit::Misfit;

const NO_INTEGER: Misfit = Misfit::text("it is not an integer of 64 bits");
const NO_HEX: Misfit = Misfit::text("it is not in the hex form \\x…");

/// An integer in decimal, with at most a minus sign.
#[inline]
pub(super) fn integer(text: &[u8]) -> Result<i64, Misfit> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(NO_INTEGER);
    }
    let mut value: i64 = 0;
    // The negative range is the larger one.
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NO_INTEGER);
        }
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(i64::from(digit)))
            .ok_or(NO_INTEGER)?;
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(NO_INTEGER)
    }
}

/// A number as Postgres prints it, `NaN`, `Infinity` and `-Infinity` among them.
#[inline]
pub(super) fn float<F: FromStr>(text: &[u8]) -> Result<F, Misfit> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Misfit::text("it is not a floating-point number"))
}

/// Appends a `bytea` in its hex form as `bytes`.
pub(super) fn bytea(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    hex(text.strip_prefix(b"\\x").ok_or(NO_HEX)?, out)
}

/// Appends hexadecimal digits, two for each byte, as `bytes`.
pub(super) fn hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NO_HEX);
    }
    binary::long(i64::try_from(pairs.len()).map_err(|_| NO_HEX)?, out);
    out.reserve(pairs.len());
    let mut wrong = 0;
    for &[high, low] in pairs {
        let (high, low) = (HEX[usize::from(high)], HEX[usize::from(low)]);
        wrong |= high | low;
        out.push(high << 4 | low);
    }
    if wrong & NO_DIGIT == 0 {
        Ok(())
    } else {
        Err(NO_HEX)
    }
}

const NO_DIGIT: u8 = 0x80;

/// The value of each hexadecimal digit.
const HEX: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit as usize] as usize] = digit;
        table[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
};
