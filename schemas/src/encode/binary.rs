//! Avro's binary encoding (Avro 1.12 specification, "Binary Encoding").

/// The branch `null` of a union `["null", T]`.
pub(super) const NULL: u8 = 0;
/// The branch `T` of a union `["null", T]`: index 1.
pub(super) const VALUE: u8 = 2;
/// The first branch of any union.
pub(super) const FIRST_BRANCH: u8 = 0;

/// The most bytes that one varint of 64 bits takes.
const VARINT_BYTES: usize = 10;

/// Appends an `int` or `long`.
#[inline]
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    if zigzag < 0x80 {
        out.push(low_byte(zigzag));
        return;
    }
    let (bytes, length) = varint(zigzag);
    out.extend_from_slice(&bytes[..length]);
}

/// Appends a `["null", "long"]`.
#[inline]
pub(super) fn optional_long(value: Option<i64>, out: &mut Vec<u8>) {
    match value {
        None => out.push(NULL),
        Some(value) => {
            out.push(VALUE);
            long(value, out);
        }
    }
}

/// Appends an instant in nanoseconds as three `["null", "long"]`: in ms, µs and ns.
#[inline]
pub(super) fn instant(ns: i64, out: &mut Vec<u8>) {
    let us = ns.div_euclid(1000);
    optional_long(Some(us.div_euclid(1000)), out);
    optional_long(Some(us), out);
    optional_long(Some(ns), out);
}

/// Appends a `string` or `bytes`.
#[inline]
pub(super) fn string(bytes: &[u8], out: &mut Vec<u8>) {
    long(length(bytes.len()), out);
    out.extend_from_slice(bytes);
}

/// Appends a `string` or `bytes` whose content `write` appends. One byte is left for the length,
/// enough below 64 bytes; a longer content moves up.
#[inline]
pub(super) fn sized<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let start = out.len();
    out.push(0);
    let result = write(out);
    let zigzag = length(out.len() - start - 1).cast_unsigned() << 1;
    if zigzag < 0x80 {
        out[start] = low_byte(zigzag);
    } else {
        let (bytes, length) = varint(zigzag);
        out.splice(start..=start, bytes[..length].iter().copied());
    }
    result
}

/// A length as Avro has it; no slice is longer than `isize::MAX` bytes.
fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[inline]
fn varint(mut value: u64) -> ([u8; VARINT_BYTES], usize) {
    let mut bytes = [0; VARINT_BYTES];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = low_byte(value) | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = low_byte(value);
    (bytes, length + 1)
}

/// The lowest byte; the cut is what is wanted.
const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::{long, sized, string};

    #[test]
    fn longs_are_zigzag_varints() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            let mut out = Vec::new();
            long(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn content_of_unknown_length_is_written_as_if_it_were_known() {
        for length in [0, 1, 63, 64, 127, 128, 8191, 8192, 100_000] {
            let content = vec![b'x'; length];
            let (mut expected, mut out) = (vec![9], vec![9]);
            string(&content, &mut expected);
            sized(&mut out, |out| out.extend_from_slice(&content));
            assert!(out == expected, "{length}");
        }
    }
}
