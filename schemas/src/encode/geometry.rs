//! `point`, and PostGIS' geometries, as Debezium's records `Point` and `Geometry`.

use super::binary;
use super::misfit::Misfit;
use super::number;

const NO_POINT: Misfit = Misfit::text("it is not the text of a point");
const NO_EWKB: Misfit = Misfit::text("it is not extended well-known binary in hexadecimal digits");

/// Well-known binary: little-endian, then the type "point" in four bytes (OGC 06-103r4, 8.2).
const LITTLE_ENDIAN_POINT: [u8; 5] = [1, 1, 0, 0, 0];
/// The bit of the type that says that the spatial reference follows (PostGIS' `ZMSgeoms.txt`).
const HAS_SRID: u32 = 0x2000_0000;

/// Appends `(x,y)` as a `Point`: x, y, well-known binary, no spatial reference.
pub(super) fn point(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let [b'(', body @ .., b')'] = text else {
        return Err(NO_POINT);
    };
    let comma = memchr::memchr(b',', body).ok_or(NO_POINT)?;
    let x: f64 = number::float(&body[..comma])?;
    let y: f64 = number::float(&body[comma + 1..])?;
    let coordinates = [x.to_le_bytes(), y.to_le_bytes()];
    out.extend_from_slice(coordinates.as_flattened());
    out.push(binary::VALUE);
    binary::sized(out, |out| {
        out.extend_from_slice(&LITTLE_ENDIAN_POINT);
        out.extend_from_slice(coordinates.as_flattened());
    });
    out.push(binary::NULL);
    Ok(())
}

/// Appends a geometry's hexadecimal EWKB as a `Geometry`: the bytes as they are, as Debezium has it, and the
/// spatial reference that stands in them.
pub(super) fn ewkb(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let start = out.len();
    number::hex(text, out).map_err(|_| NO_EWKB)?;
    let head = out.len() - text.len() / 2;
    debug_assert!(head > start, "the length is in front");
    let srid = srid(&out[head..]).ok_or(NO_EWKB)?;
    match srid {
        None => out.push(binary::NULL),
        Some(srid) => {
            out.push(binary::VALUE);
            binary::long(srid.into(), out);
        }
    }
    Ok(())
}

/// The spatial reference in EWKB, if there is one; `None` for what is no EWKB.
fn srid(ewkb: &[u8]) -> Option<Option<i32>> {
    let (order, rest) = ewkb.split_first()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let (kind, srid) = match order {
        0 => (
            u32::from_be_bytes(*kind),
            rest.first_chunk().map(|srid| i32::from_be_bytes(*srid)),
        ),
        1 => (
            u32::from_le_bytes(*kind),
            rest.first_chunk().map(|srid| i32::from_le_bytes(*srid)),
        ),
        _ => return None,
    };
    if kind & HAS_SRID == 0 {
        Some(None)
    } else {
        srid.map(Some)
    }
}
