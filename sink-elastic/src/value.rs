//! How a value is written, which follows from its column and from how the index maps its field.

use serde_json::Value;
use tributary_schemas::record::{Datum, FieldType, Geometric};
use tributary_schemas::render;

use crate::json_text::{self, NUMBER_BYTES};
use crate::{mapping, wkb};

/// The types of fields for which the document in a json column is written as one. To all others it is a text.
const OF_DOCUMENTS: [&str; 8] = [
    "object",
    "nested",
    "flattened",
    "flat_object",
    "geo_point",
    "geo_shape",
    "dense_vector",
    "knn_vector",
];
const GEO_POINT: &str = "geo_point";
const GEO_SHAPE: &str = "geo_shape";
/// The spatial reference of latitudes and longitudes.
const WGS_84: i32 = 4326;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the column's type has it.
    Usual,
    /// The document in a json column.
    Document,
    /// Latitude and longitude.
    GeoPoint,
    /// GeoJSON, or a text in the engines' other form (WKT).
    GeoShape,
}

/// Whether a column's values are written alike for fields that are mapped so.
pub(crate) fn are_written_alike(one: &Value, other: &Value) -> bool {
    let form = |mapping| {
        let name = mapping::type_of(mapping);
        let is_document = OF_DOCUMENTS.contains(&name);
        (is_document, name == GEO_POINT, name == GEO_SHAPE)
    };
    form(one) == form(other)
}

impl Form {
    /// For a column of this type, whose field is mapped so.
    pub(crate) fn of(field_type: &FieldType, mapping: &Value) -> Self {
        let name = mapping::type_of(mapping);
        match field_type {
            FieldType::Array(item) => Self::of(&item.field_type, mapping),
            FieldType::Json if OF_DOCUMENTS.contains(&name) => Self::Document,
            FieldType::Struct(record) if name == GEO_POINT && record.geometric().is_some() => {
                Self::GeoPoint
            }
            FieldType::Struct(record) if name == GEO_SHAPE && record.geometric().is_some() => {
                Self::GeoShape
            }
            FieldType::String if name == GEO_SHAPE => Self::GeoShape,
            _ => Self::Usual,
        }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// The value has no such form: why, which is no part of it. `out` then ends in a part of the value.
    pub(crate) fn write(
        self,
        field_type: &FieldType,
        datum: &Datum<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let start = out.len();
        match self {
            Self::Usual => render::json(field_type, datum, out).map_err(|error| error.to_string()),
            _ => self.write_otherwise(field_type, datum, out),
        }?;
        if out.len() - start > NUMBER_BYTES
            && (matches!(self, Self::Document | Self::GeoShape) || may_hold_numbers(field_type))
        {
            let quoted = json_text::quote_long_numbers(out.get(start..).unwrap_or_default());
            out.truncate(start);
            out.extend_from_slice(&quoted);
        }
        Ok(())
    }

    fn write_otherwise(
        self,
        field_type: &FieldType,
        datum: &Datum<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match (self, field_type, datum) {
            (_, _, Datum::Null) => out.extend_from_slice(b"null"),
            (_, FieldType::Array(item), Datum::Array(items)) => {
                out.push(b'[');
                for (index, datum) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write_otherwise(&item.field_type, datum, out)?;
                }
                out.push(b']');
            }
            (Self::Document, _, Datum::Str(text)) => json_text::compact(text, out)
                .map_err(|error| format!("its text is no JSON, as its field wants ({error})"))?,
            (Self::GeoPoint, FieldType::Struct(record), Datum::Struct(fields)) => {
                let point = match record.geometric() {
                    Some(Geometric::Point) => point_of(fields),
                    _ => point_of_ewkb(fields)?,
                };
                geo_point(point, out)?;
            }
            (Self::GeoShape, FieldType::Struct(record), Datum::Struct(fields)) => {
                match record.geometric() {
                    Some(Geometric::Point) => geo_shape_of(point_of(fields), out)?,
                    _ => out.extend_from_slice(&shape_of_ewkb(fields)?),
                }
            }
            (Self::GeoShape, _, Datum::Str(text)) if text.trim_start().starts_with('{') => {
                json_text::compact(text, out).map_err(|error| {
                    format!("its text is neither GeoJSON nor WKT, as a geo_shape wants ({error})")
                })?;
            }
            (Self::GeoShape, _, Datum::Str(text)) => render::json_string(text, out),
            _ => return Err("its data is not of its type".to_owned()),
        }
        Ok(())
    }
}

const fn may_hold_numbers(field_type: &FieldType) -> bool {
    matches!(
        field_type,
        FieldType::Decimal { .. }
            | FieldType::VariableDecimal
            | FieldType::Array(_)
            | FieldType::Map(_)
            | FieldType::Struct(_)
    )
}

/// Of Debezium's record of a `point`.
fn point_of(fields: &[Datum<'_>]) -> Option<[f64; 2]> {
    match fields {
        [Datum::Double(x), Datum::Double(y), ..] => Some([*x, *y]),
        _ => None,
    }
}

/// Of PostGIS' extended well-known binary; `None` for an empty point.
fn point_of_ewkb(fields: &[Datum<'_>]) -> Result<Option<[f64; 2]>, String> {
    let (bytes, beside) = ewkb(fields)?;
    let Some((within, [x, y])) = wkb::point(bytes) else {
        return Err("it is no point, as a geo_point wants".to_owned());
    };
    check_reference(within.or(beside), GEO_POINT)?;
    Ok((!x.is_nan() || !y.is_nan()).then_some([x, y]))
}

/// Of the same, as GeoJSON.
fn shape_of_ewkb(fields: &[Datum<'_>]) -> Result<Vec<u8>, String> {
    let (bytes, beside) = ewkb(fields)?;
    let Some((within, json)) = wkb::geo_json(bytes) else {
        return Err("it is no geometry that GeoJSON has, as a geo_shape wants".to_owned());
    };
    check_reference(within.or(beside), GEO_SHAPE)?;
    Ok(json)
}

/// The bytes, and the spatial reference that stands beside them.
fn ewkb<'d>(fields: &'d [Datum<'_>]) -> Result<(&'d [u8], Option<i32>), String> {
    match fields {
        [Datum::Bytes(bytes), Datum::Int(srid)] => Ok((bytes, i32::try_from(*srid).ok())),
        [Datum::Bytes(bytes), _] => Ok((bytes, None)),
        _ => Err("its data is not of its type".to_owned()),
    }
}

fn check_reference(srid: Option<i32>, wants: &str) -> Result<(), String> {
    match srid {
        Some(srid) if srid != 0 && srid != WGS_84 => Err(format!(
            "its spatial reference is {srid}, a {wants} wants {WGS_84}"
        )),
        _ => Ok(()),
    }
}

/// x is the longitude.
fn geo_shape_of(point: Option<[f64; 2]>, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(numbers) = point else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    out.extend_from_slice(b"{\"type\":\"Point\",\"coordinates\":");
    for (number, begin) in numbers.into_iter().zip([b'[', b',']) {
        out.push(begin);
        render::json(&FieldType::Float64, &Datum::Double(number), out)
            .map_err(|error| error.to_string())?;
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// x is the longitude, as PostGIS has it.
fn geo_point(point: Option<[f64; 2]>, out: &mut Vec<u8>) -> Result<(), String> {
    let Some([x, y]) = point else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    for (name, number, end) in [(&b"{\"lat\":"[..], y, b','), (&b"\"lon\":"[..], x, b'}')] {
        out.extend_from_slice(name);
        render::json(&FieldType::Float64, &Datum::Double(number), out)
            .map_err(|error| error.to_string())?;
        out.push(end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

    use super::Form;

    fn written(field_type: &FieldType, kind: &str, datum: &Datum<'_>) -> Result<String, String> {
        let mut out = Vec::new();
        Form::of(field_type, &json!({"type": kind})).write(field_type, datum, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn field(name: &str, field_type: FieldType) -> Field {
        Field {
            name: name.to_owned(),
            field_type,
            nullable: true,
        }
    }

    fn geometry() -> FieldType {
        FieldType::Struct(RecordType {
            full_name: "io.debezium.data.geometry.Geometry".to_owned(),
            fields: vec![
                field("wkb", FieldType::Bytes),
                field("srid", FieldType::Int32),
            ],
        })
    }

    fn point() -> FieldType {
        FieldType::Struct(RecordType {
            full_name: "io.debezium.data.geometry.Point".to_owned(),
            fields: vec![
                field("x", FieldType::Float64),
                field("y", FieldType::Float64),
                field("wkb", FieldType::Bytes),
                field("srid", FieldType::Int32),
            ],
        })
    }

    /// Little-endian; a spatial reference in the bytes where there is one.
    fn ewkb(kind: u32, srid: Option<i32>, numbers: &[f64]) -> Vec<u8> {
        let flag = if srid.is_some() { 0x2000_0000 } else { 0 };
        let mut bytes = vec![1];
        bytes.extend((kind | flag).to_le_bytes());
        bytes.extend(srid.into_iter().flat_map(i32::to_le_bytes));
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    #[test]
    fn a_json_column_is_a_document_where_its_field_takes_one() {
        let text = Datum::Str("{ \"a\": 1 }");
        for kind in ["object", "nested", "flattened", "flat_object"] {
            assert_eq!(written(&FieldType::Json, kind, &text).unwrap(), "{\"a\":1}");
        }
        for kind in ["text", "keyword", "wildcard"] {
            assert_eq!(
                written(&FieldType::Json, kind, &text).unwrap(),
                r#""{ \"a\": 1 }""#
            );
        }
        assert_eq!(
            written(&FieldType::String, "object", &Datum::Str("{}")).unwrap(),
            "\"{}\""
        );
        let array = FieldType::Array(Box::new(field("item", FieldType::Json)));
        let items = Datum::Array(vec![Datum::Str("{}"), Datum::Null, Datum::Str("[1]")]);
        assert_eq!(written(&array, "nested", &items).unwrap(), "[{},null,[1]]");
        assert!(
            written(&FieldType::Json, "object", &Datum::Str("{secret"))
                .is_err_and(|why| !why.contains("secret"))
        );
        let digits = "9".repeat(1001);
        assert_eq!(
            written(&FieldType::Json, "object", &Datum::Str(&digits)).unwrap(),
            format!("\"{digits}\"")
        );
    }

    #[test]
    fn points_are_latitude_and_longitude() {
        let point = point();
        let datum = Datum::Struct(vec![
            Datum::Double(13.4),
            Datum::Double(52.5),
            Datum::Null,
            Datum::Null,
        ]);
        let expected = r#"{"lat":52.5,"lon":13.4}"#;
        assert_eq!(written(&point, "geo_point", &datum).unwrap(), expected);
        assert!(
            written(&point, "object", &datum)
                .unwrap()
                .contains("\"x\":13.4")
        );
        let of = |bytes: &[u8]| {
            let datum = Datum::Struct(vec![Datum::Bytes(bytes), Datum::Null]);
            written(&geometry(), "geo_point", &datum)
        };
        for srid in [None, Some(4326), Some(0)] {
            assert_eq!(of(&ewkb(1, srid, &[13.4, 52.5])).unwrap(), expected);
        }
        assert_eq!(of(&ewkb(1, None, &[f64::NAN, f64::NAN])).unwrap(), "null");
        assert!(of(&ewkb(1, Some(3857), &[1.0, 2.0])).is_err());
        assert!(of(&ewkb(2, None, &[1.0, 2.0])).is_err());
        assert!(of(&[]).is_err());
        assert_eq!(
            written(&geometry(), "geo_point", &Datum::Null).unwrap(),
            "null"
        );
    }

    #[test]
    fn shapes_are_geo_json_or_wkt() {
        let text = |text: &str| written(&FieldType::String, "geo_shape", &Datum::Str(text));
        assert_eq!(text("POINT (1 2)").unwrap(), "\"POINT (1 2)\"");
        assert_eq!(
            text("\n { \"type\" : \"Point\", \"coordinates\" : [1, 2] }").unwrap(),
            r#"{"type":"Point","coordinates":[1,2]}"#
        );
        assert!(text("{secret").is_err_and(|why| !why.contains("secret")));
        assert_eq!(
            written(
                &FieldType::Json,
                "geo_shape",
                &Datum::Str("\"POINT (1 2)\"")
            )
            .unwrap(),
            "\"POINT (1 2)\""
        );
        let of = |bytes: &[u8]| {
            let datum = Datum::Struct(vec![Datum::Bytes(bytes), Datum::Null]);
            written(&geometry(), "geo_shape", &datum)
        };
        let expected = r#"{"type":"Point","coordinates":[13.4,52.5]}"#;
        assert_eq!(of(&ewkb(1, Some(4326), &[13.4, 52.5])).unwrap(), expected);
        assert!(
            of(&ewkb(1, Some(3857), &[1.0, 2.0])).is_err_and(|why| why.contains("a geo_shape"))
        );
        assert!(of(&[]).is_err());
        let datum = Datum::Struct(vec![
            Datum::Double(13.4),
            Datum::Double(52.5),
            Datum::Null,
            Datum::Null,
        ]);
        assert_eq!(written(&point(), "geo_shape", &datum).unwrap(), expected);
        let array = FieldType::Array(Box::new(field("item", FieldType::String)));
        let items = Datum::Array(vec![Datum::Str("POINT (1 2)"), Datum::Null]);
        assert_eq!(
            written(&array, "geo_shape", &items).unwrap(),
            r#"["POINT (1 2)",null]"#
        );
    }
}
