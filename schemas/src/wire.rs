//! The Confluent wire format: byte 0x00, four bytes big-endian schema id, the Avro body.

/// Bytes before the Avro body.
pub const PREFIX_BYTES: usize = 5;

/// What goes before an Avro body that was written with the schema of this id.
pub const fn prefix(schema_id: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [0, a, b, c, d]
}

/// Splits a record's key or value into the schema's id and the Avro body; `None` when it is not
/// in this format.
pub fn parse(data: &[u8]) -> Option<(u32, &[u8])> {
    let (prefix, body) = data.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, id @ ..] = *prefix else { return None };
    Some((u32::from_be_bytes(id), body))
}

#[cfg(test)]
mod tests {
    use super::{parse, prefix};

    #[test]
    fn the_id_stands_before_the_body() {
        let mut data = prefix(0x0102_0304).to_vec();
        assert_eq!(data, [0, 1, 2, 3, 4]);
        assert_eq!(parse(&data), Some((0x0102_0304, &[][..])));
        data.extend(b"body");
        assert_eq!(parse(&data), Some((0x0102_0304, &b"body"[..])));
        assert_eq!(parse(&prefix(u32::MAX)), Some((u32::MAX, &[][..])));
    }

    #[test]
    fn other_bytes_are_refused() {
        for data in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x01body", b"{\"a\": 1}"] {
            assert_eq!(parse(data), None);
        }
    }
}
