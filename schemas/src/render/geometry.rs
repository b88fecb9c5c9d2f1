//! Debezium's geometric records, as Postgres and PostGIS print them.

use super::error::RenderError;
use super::float;
use crate::record::Datum;

/// The bit of EWKB's type that says that the spatial reference follows.
const HAS_SRID: u32 = 0x2000_0000;

/// A `Point` {x, y, wkb, srid} as `(x,y)`.
///
/// Only other databases' points have a spatial reference, for which there is no room here.
pub(super) fn point(fields: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    let [Datum::Double(x), Datum::Double(y), _, srid] = fields else {
        return Err(RenderError::Mismatch);
    };
    if *srid != Datum::Null {
        return Err(RenderError::OutOfRange {
            kind: "point with a spatial reference",
        });
    }
    out.push(b'(');
    float::write(*x, x.is_finite(), out);
    out.push(b',');
    float::write(*y, y.is_finite(), out);
    out.push(b')');
    Ok(())
}

/// A `Geometry` {wkb, srid} as hexadecimal EWKB. From Postgres the bytes have the spatial reference in them; from
/// other databases it stands beside them only.
pub(super) fn ewkb(fields: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    let (wkb, srid) = match fields {
        [Datum::Bytes(wkb), Datum::Null] => (*wkb, None),
        [Datum::Bytes(wkb), Datum::Int(srid)] => (*wkb, i32::try_from(*srid).ok()),
        _ => return Err(RenderError::Mismatch),
    };
    let Some(([order, kind @ ..], rest)) = wkb.split_first_chunk::<5>() else {
        return Err(RenderError::Mismatch);
    };
    let little = *order != 0;
    let kind = if little {
        u32::from_le_bytes(*kind)
    } else {
        u32::from_be_bytes(*kind)
    };
    let Some(srid) = srid.filter(|_| kind & HAS_SRID == 0) else {
        hex(wkb, out);
        return Ok(());
    };
    let kind = kind | HAS_SRID;
    let head = if little {
        [kind.to_le_bytes(), srid.to_le_bytes()]
    } else {
        [kind.to_be_bytes(), srid.to_be_bytes()]
    };
    hex(&[*order], out);
    hex(head.as_flattened(), out);
    hex(rest, out);
    Ok(())
}

/// In upper case, as PostGIS prints it.
fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.extend([
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 0xF)],
        ]);
    }
}
