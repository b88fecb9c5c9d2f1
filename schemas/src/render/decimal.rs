//! Exact decimals: big-endian two's complement, times ten to the minus scale.

use super::error::RenderError;
use crate::sentinel;

/// Digits in front of the point and behind it that Postgres' `numeric` has
/// (documentation, "Arbitrary Precision Numbers").
const MAX_WHOLE_DIGITS: usize = 131_072;
const MAX_SCALE: i32 = 16_383;
/// Bytes of the largest such number (147,455 digits), rounded up.
const MAX_BYTES: usize = 61_440;

const OUT_OF_RANGE: RenderError = RenderError::OutOfRange { kind: "decimal" };

/// Appends all digits, with the point where `scale` puts it: text that Postgres and JSON read alike.
pub(super) fn write(unscaled: &[u8], scale: i32, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let unscaled = trim(unscaled);
    if unscaled.len() > MAX_BYTES || scale > MAX_SCALE {
        return Err(OUT_OF_RANGE);
    }
    if let Some(value) = small(unscaled) {
        if value < 0 {
            out.push(b'-');
        }
        return place(
            itoa::Buffer::new().format(value.unsigned_abs()).as_bytes(),
            scale,
            out,
        );
    }
    let (negative, magnitude) = magnitude(unscaled);
    if negative {
        out.push(b'-');
    }
    place(&digits(magnitude), scale, out)
}

/// The name of a `VariableScaleDecimal` that is no number, as Postgres writes it.
pub(super) fn special(unscaled: &[u8], scale: i32) -> Result<Option<&'static str>, RenderError> {
    if scale != sentinel::SPECIAL_SCALE {
        return Ok(None);
    }
    let names = [
        (sentinel::NAN, "NaN"),
        (sentinel::INFINITY, "Infinity"),
        (sentinel::NEGATIVE_INFINITY, "-Infinity"),
    ];
    let name = names.iter().find(|(value, _)| value == unscaled);
    name.map(|(_, name)| Some(*name)).ok_or(OUT_OF_RANGE)
}

/// Without the bytes that only repeat the sign.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let [next, ..] = rest
        && *first == if next & 0x80 == 0 { 0 } else { 0xFF }
    {
        bytes = rest;
    }
    bytes
}

/// The number, if it fits; no bytes at all are zero, as some writers have it.
fn small(bytes: &[u8]) -> Option<i128> {
    let fill = if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        0xFF
    } else {
        0
    };
    let mut wide = [fill; 16];
    let at = wide.len().checked_sub(bytes.len())?;
    wide[at..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// Whether it is negative, and its absolute value in 32-bit limbs, the highest first.
fn magnitude(bytes: &[u8]) -> (bool, Vec<u32>) {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let fill = if negative { 0xFF } else { 0 };
    let mut padded = vec![fill; bytes.len().next_multiple_of(4) - bytes.len()];
    padded.extend_from_slice(bytes);
    let mut limbs: Vec<u32> = padded
        .chunks_exact(4)
        .map(|limb| u32::from_be_bytes([limb[0], limb[1], limb[2], limb[3]]))
        .collect();
    if negative {
        let mut carry = true;
        for limb in limbs.iter_mut().rev() {
            let (negated, overflow) = (!*limb).overflowing_add(u32::from(carry));
            (*limb, carry) = (negated, overflow);
        }
    }
    (negative, limbs)
}

/// The decimal digits of a number in 32-bit limbs, by repeated division.
fn digits(mut limbs: Vec<u32>) -> Vec<u8> {
    const CHUNK: u64 = 1_000_000_000;
    let mut chunks = Vec::new();
    let mut from = 0;
    while from < limbs.len() {
        let mut remainder = 0;
        for limb in &mut limbs[from..] {
            let dividend = remainder << 32 | u64::from(*limb);
            *limb = (dividend / CHUNK) as u32;
            remainder = dividend % CHUNK;
        }
        chunks.push(remainder);
        from += limbs[from..].iter().take_while(|limb| **limb == 0).count();
    }
    let mut out = Vec::with_capacity(chunks.len() * 9);
    for chunk in chunks.iter().rev() {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(*chunk).as_bytes();
        if !out.is_empty() {
            out.resize(out.len() + 9 - text.len(), b'0');
        }
        out.extend_from_slice(text);
    }
    out
}

/// Puts the point into the digits.
fn place(digits: &[u8], scale: i32, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let scale_digits = scale.unsigned_abs() as usize;
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            if digits.len() + scale_digits > MAX_WHOLE_DIGITS {
                return Err(OUT_OF_RANGE);
            }
            out.resize(out.len() + scale_digits, b'0');
        }
        return Ok(());
    }
    let whole = digits.len().saturating_sub(scale_digits);
    if whole > MAX_WHOLE_DIGITS {
        return Err(OUT_OF_RANGE);
    }
    if whole == 0 {
        out.push(b'0');
    }
    out.extend_from_slice(&digits[..whole]);
    out.push(b'.');
    out.resize(out.len() + scale_digits.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(&digits[whole..]);
    Ok(())
}
