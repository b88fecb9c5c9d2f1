//! Avro's binary encoding (Avro 1.12 specification, "Binary Encoding").

/// The branch `null` of a union `["null", T]`.
pub(super) const NULL: u8 = 0;
/// The branch `T` of a union `["null", T]`: index 1.
pub(super) const VALUE: u8 = 2;

/// Appends an `int` or `long`.
#[inline]
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
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
        let mut size = Vec::new();
        varint(zigzag, &mut size);
        out.splice(start..=start, size);
    }
    result
}

/// A length as Avro has it; no slice is longer than `isize::MAX` bytes.
fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Appends a varint: seven bits in each byte, the lowest first, the top bit says that more follow.
///
/// Eight bytes are written at once and cut, which costs less than a loop over the bits: an
/// envelope has eight of these, most of them long.
#[inline]
fn varint(value: u64, out: &mut Vec<u8>) {
    if value < 0x80 {
        out.push(low_byte(value));
        return;
    }
    let groups = spread(value);
    let bits = u64::BITS - value.leading_zeros();
    let more = u64::from_le_bytes([0x80; 8]);
    if bits <= 56 {
        let length = bits.div_ceil(7);
        let more = more & ((1 << (8 * (length - 1))) - 1);
        let end = out.len() + length as usize;
        out.extend_from_slice(&(groups | more).to_le_bytes());
        out.truncate(end);
        return;
    }
    out.extend_from_slice(&(groups | more).to_le_bytes());
    let high = low_byte(value >> 56);
    if high < 0x80 {
        out.push(high);
    } else {
        out.extend_from_slice(&[high, high >> 7]);
    }
}

/// The eight lowest groups of seven bits, each in a byte of its own.
const fn spread(value: u64) -> u64 {
    let x = (value & 0x0000_0000_0fff_ffff) | ((value & 0x00ff_ffff_f000_0000) << 4);
    let x = (x & 0x0000_3fff_0000_3fff) | ((x & 0x0fff_c000_0fff_c000) << 2);
    (x & 0x007f_007f_007f_007f) | ((x & 0x3f80_3f80_3f80_3f80) << 1)
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
    fn longs_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [
                1_i64 << shift,
                (1_i64 << shift).wrapping_sub(1),
                i64::MIN >> shift,
                0x5555_5555_5555_5555 >> shift,
            ] {
                let mut out = Vec::new();
                long(value, &mut out);
                let read = apache_avro_long(&out);
                assert_eq!(read, value);
            }
        }
    }

    fn apache_avro_long(mut bytes: &[u8]) -> i64 {
        let schema = apache_avro::Schema::Long;
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap();
        let value = reader.read_value(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        let apache_avro::types::Value::Long(value) = value else {
            panic!("{value:?}")
        };
        value
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
