//! Well-known binary (OGC 06-103r4, 8.2), as PostGIS extends it.

use tributary_schemas::record::{Datum, FieldType};
use tributary_schemas::render;

/// The bit of the type that says that the spatial reference follows (PostGIS' `ZMSgeoms.txt`).
const HAS_SRID: u32 = 0x2000_0000;
/// The bits that say that points have a height and a measure.
const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
/// The same as ISO has it: thousands, 1 for a height, 2 for a measure, 3 for both.
const MORE: u32 = 1000;
const POINT: u32 = 1;
const LINE: u32 = 2;
const POLYGON: u32 = 3;
const COLLECTION: u32 = 7;
/// What GeoJSON calls them, from 1.
const NAMES: [&str; 7] = [
    "Point",
    "LineString",
    "Polygon",
    "MultiPoint",
    "MultiLineString",
    "MultiPolygon",
    "GeometryCollection",
];
/// How deep collections may lie in each other.
const DEPTH: u32 = 16;

/// The spatial reference, if there is one, and x and y; `None` for what is no point.
pub(crate) fn point(bytes: &[u8]) -> Option<(Option<i32>, [f64; 2])> {
    let mut reader = Reader::of(bytes);
    let head = reader.head()?;
    if head.kind != POINT {
        return None;
    }
    Some((head.srid, [reader.number()?, reader.number()?]))
}

/// The spatial reference, if there is one, and the geometry as GeoJSON, without measures; null where it is empty. `None` for what
/// GeoJSON has not.
pub(crate) fn geo_json(bytes: &[u8]) -> Option<(Option<i32>, Vec<u8>)> {
    let mut reader = Reader::of(bytes);
    let head = reader.head()?;
    let mut json = Vec::new();
    if !reader.geometry(&head, DEPTH, &mut json)? {
        json = b"null".to_vec();
    }
    Some((head.srid, json))
}

/// What a geometry begins with.
struct Head {
    kind: u32,
    srid: Option<i32>,
    has_z: bool,
    has_m: bool,
}

struct Reader<'b> {
    rest: &'b [u8],
    is_little: bool,
}

impl<'b> Reader<'b> {
    const fn of(bytes: &'b [u8]) -> Self {
        Self {
            rest: bytes,
            is_little: true,
        }
    }

    fn head(&mut self) -> Option<Head> {
        self.is_little = match self.take::<1>()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let kind = self.count()?;
        let plain = kind & !(HAS_SRID | HAS_Z | HAS_M);
        let srid = match kind & HAS_SRID {
            0 => None,
            _ => Some(self.count()?.cast_signed()),
        };
        let more = plain / MORE;
        Some(Head {
            kind: plain % MORE,
            srid,
            has_z: kind & HAS_Z != 0 || matches!(more, 1 | 3),
            has_m: kind & HAS_M != 0 || matches!(more, 2 | 3),
        })
    }

    /// Appends a geometry; whether it is any, or empty.
    fn geometry(&mut self, head: &Head, depth: u32, out: &mut Vec<u8>) -> Option<bool> {
        let name = NAMES.get(usize::try_from(head.kind.checked_sub(1)?).ok()?)?;
        let members = match head.kind {
            COLLECTION => "geometries",
            _ => "coordinates",
        };
        out.extend_from_slice(format!("{{\"type\":\"{name}\",\"{members}\":").as_bytes());
        let is_any = if head.kind == COLLECTION {
            let depth = depth.checked_sub(1)?;
            self.list(out, |reader, out| {
                let inner = reader.head()?;
                reader.geometry(&inner, depth, out)
            })
        } else {
            self.coordinates(head, out)
        };
        out.push(b'}');
        is_any
    }

    fn coordinates(&mut self, head: &Head, out: &mut Vec<u8>) -> Option<bool> {
        match head.kind {
            POINT => self.position(head, out),
            LINE => self.list(out, |reader, out| reader.corner(head, out)),
            POLYGON => self.list(out, |reader, out| {
                reader.list(out, |reader, out| reader.corner(head, out))
            }),
            // Several of a kind: each is a geometry of its own.
            _ => self.list(out, |reader, out| {
                let inner = reader.head()?;
                if inner.kind + POLYGON != head.kind {
                    return None;
                }
                reader.coordinates(&inner, out)
            }),
        }
    }

    /// A count and as many items; those that are empty are left out.
    fn list(
        &mut self,
        out: &mut Vec<u8>,
        mut item: impl FnMut(&mut Self, &mut Vec<u8>) -> Option<bool>,
    ) -> Option<bool> {
        let mut is_any = false;
        out.push(b'[');
        for _ in 0..self.count()? {
            let before = out.len();
            if is_any {
                out.push(b',');
            }
            if item(self, out)? {
                is_any = true;
            } else {
                out.truncate(before);
            }
        }
        out.push(b']');
        Some(is_any)
    }

    /// One of a line or a ring, which has numbers.
    fn corner(&mut self, head: &Head, out: &mut Vec<u8>) -> Option<bool> {
        self.position(head, out).filter(|has_numbers| *has_numbers)
    }

    /// An empty point has no numbers.
    fn position(&mut self, head: &Head, out: &mut Vec<u8>) -> Option<bool> {
        let place = [self.number()?, self.number()?];
        let height = if head.has_z {
            Some(self.number()?)
        } else {
            None
        };
        if head.has_m {
            self.number()?;
        }
        if place.iter().all(|number| number.is_nan()) {
            return Some(false);
        }
        for (index, number) in place.into_iter().chain(height).enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            if !number.is_finite() {
                return None;
            }
            render::json(&FieldType::Float64, &Datum::Double(number), out).ok()?;
        }
        out.push(b']');
        Some(true)
    }

    fn count(&mut self) -> Option<u32> {
        let bytes = self.take::<4>()?;
        Some(if self.is_little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    fn number(&mut self) -> Option<f64> {
        let bytes = self.take::<8>()?;
        Some(if self.is_little {
            f64::from_le_bytes(bytes)
        } else {
            f64::from_be_bytes(bytes)
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::{geo_json, point};

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

    /// As PostGIS 3 writes them.
    #[test]
    fn geometries_of_all_kinds_are_read() {
        let at = |hex: &str| {
            let read = geo_json(&bytes(hex));
            read.map(|(srid, json)| (srid, String::from_utf8(json).unwrap()))
        };
        let told = |json: &str| Some((None, json.to_owned()));
        let (zero, one, two) = ("0000000000000000", "000000000000F03F", "0000000000000040");
        let line = format!("010200000002000000{zero}{zero}{one}{two}");
        assert_eq!(
            at(&line),
            told(r#"{"type":"LineString","coordinates":[[0.0,0.0],[1.0,2.0]]}"#)
        );
        // A corner that is nowhere is not left out.
        let nan = "000000000000F87F";
        assert_eq!(
            at(&format!("010200000002000000{zero}{zero}{nan}{nan}")),
            None
        );
        // A point with a height and a measure, and its spatial reference.
        assert_eq!(
            at(&format!("01010000E0E6100000{one}{two}{one}{zero}")),
            Some((
                Some(4326),
                r#"{"type":"Point","coordinates":[1.0,2.0,1.0]}"#.to_owned()
            ))
        );
        let ring = format!("04000000{zero}{zero}{one}{zero}{one}{one}{zero}{zero}");
        let polygon = format!("010300000001000000{ring}");
        let rings = "[[[0.0,0.0],[1.0,0.0],[1.0,1.0],[0.0,0.0]]]";
        assert_eq!(
            at(&polygon),
            told(&format!(r#"{{"type":"Polygon","coordinates":{rings}}}"#))
        );
        assert_eq!(
            at(&format!("010600000002000000{polygon}{polygon}")),
            told(&format!(
                r#"{{"type":"MultiPolygon","coordinates":[{rings},{rings}]}}"#
            ))
        );
        let point = format!("0101000000{one}{two}");
        let empty = "0101000000000000000000F87F000000000000F87F";
        assert_eq!(
            at(&format!("010400000002000000{empty}{point}")),
            told(r#"{"type":"MultiPoint","coordinates":[[1.0,2.0]]}"#)
        );
        assert_eq!(
            at(&format!("010700000002000000{line}{point}")),
            told(
                r#"{"type":"GeometryCollection","geometries":[{"type":"LineString","coordinates":[[0.0,0.0],[1.0,2.0]]},{"type":"Point","coordinates":[1.0,2.0]}]}"#
            )
        );
        for empty in [empty, "010200000000000000", "010700000000000000"] {
            assert_eq!(at(empty), told("null"));
        }
        // A circular string; several lines that are points; cut; without an end; too deep.
        assert_eq!(
            at(&format!("010800000002000000{zero}{zero}{one}{two}")),
            None
        );
        assert_eq!(at(&format!("010500000001000000{point}")), None);
        assert_eq!(at(&line[..60]), None);
        assert_eq!(at("0102000000FFFFFFFF"), None);
        assert_eq!(at(&"010700000001000000".repeat(100_000)), None);
    }
}
