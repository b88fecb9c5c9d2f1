//! Well-known binary (OGC 06-103r4, 8.2), as PostGIS extends it.

/// The bit of the type that says that the spatial reference follows (PostGIS' `ZMSgeoms.txt`).
const HAS_SRID: u32 = 0x2000_0000;
/// The bits that say that points have a height and a measure.
const HAS_MORE: u32 = 0xC000_0000;
/// The same as ISO has it: thousands.
const MORE: u32 = 1000;
const POINT: u32 = 1;

/// The spatial reference, if there is one, and x and y; `None` for what is no point.
pub(crate) fn point(bytes: &[u8]) -> Option<(Option<i32>, [f64; 2])> {
    let (order, rest) = bytes.split_first()?;
    let is_little = match order {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let number = |bytes: [u8; 4]| {
        if is_little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        }
    };
    let kind = number(*kind);
    if (kind & !(HAS_SRID | HAS_MORE)) % MORE != POINT {
        return None;
    }
    let (srid, rest) = if kind & HAS_SRID == 0 {
        (None, rest)
    } else {
        let (srid, rest) = rest.split_first_chunk::<4>()?;
        (Some(number(*srid).cast_signed()), rest)
    };
    let (x, rest) = rest.split_first_chunk::<8>()?;
    let y = rest.first_chunk::<8>()?;
    let coordinate = |bytes: [u8; 8]| {
        if is_little {
            f64::from_le_bytes(bytes)
        } else {
            f64::from_be_bytes(bytes)
        }
    };
    Some((srid, [coordinate(*x), coordinate(*y)]))
}

#[cfg(test)]
mod tests {
    use super::point;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// As PostGIS 3 writes them.
    #[test]
    fn points_of_all_kinds_are_read() {
        let at = |hex: &str| point(&bytes(hex));
        // SRID=4326;POINT(1 2)
        let plain = "0101000020E6100000000000000000F03F0000000000000040";
        assert_eq!(at(plain), Some((Some(4326), [1.0, 2.0])));
        // POINT(1 2), big-endian
        assert_eq!(
            at("00000000013FF00000000000004000000000000000"),
            Some((None, [1.0, 2.0]))
        );
        // POINT Z (1 2 3), and as ISO has it
        let z = "000000000000F03F00000000000000400000000000000840";
        assert_eq!(at(&format!("0101000080{z}")), Some((None, [1.0, 2.0])));
        assert_eq!(at(&format!("01E9030000{z}")), Some((None, [1.0, 2.0])));
        // LINESTRING(0 0, 1 1); cut; another order
        assert_eq!(
            at(
                "01020000000200000000000000000000000000000000000000000000000000F03F000000000000F03F"
            ),
            None
        );
        assert_eq!(at(&plain[..40]), None);
        assert_eq!(at(&format!("02{}", &plain[2..])), None);
    }
}
