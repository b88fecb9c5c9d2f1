//! Shapes on the earth: as text and in json, PostGIS' own and those of Postgres.

use reqwest::Method;
use serde_json::json;
use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{Fixture, field, record_type, rejections, text_key, upsert};
use crate::lane::Elastic;

fn geometry() -> FieldType {
    FieldType::Struct(RecordType {
        full_name: "io.debezium.data.geometry.Geometry".to_owned(),
        fields: vec![
            field("wkb", FieldType::Bytes),
            field("srid", FieldType::Int32),
        ],
    })
}

/// POLYGON((0 0, 4 0, 4 4, 0 0)), little-endian.
fn polygon() -> Vec<u8> {
    let mut bytes = vec![1, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0];
    for number in [0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 0.0_f64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

#[tokio::test]
async fn shapes_of_all_columns_are_found_by_where_they_are() {
    let mut fixture = Fixture::new();
    let options = json!({"topics": [fixture.topic], "fields": {"place": {"type": "geo_shape"}}});
    fixture.config.documents = vec![serde_json::from_value(options).unwrap()];
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    let probe = json!({"mappings": {"properties": {"place": {"type": "geo_shape"}}}});
    let path = format!("/{}-probe", fixture.topic);
    let (status, answer) = fixture.call(Method::PUT, &path, Some(probe)).await;
    if status == 400
        && answer
            .to_string()
            .contains("No handler for type [geo_shape]")
    {
        eprintln!(
            "this engine has no module geo (Maven Central has none of Elasticsearch's; a cache made before 2026-12 has none either): nothing is tried"
        );
        return;
    }
    let writer = fixture.writer().await;
    let polygon = polygon();
    let geo_json = r#" {"type": "LineString", "coordinates": [[3, 1], [9, 9]]}"#;
    let ewkb = |srid| Datum::Struct(vec![Datum::Bytes(&polygon), Datum::Int(srid)]);
    let rows = [
        (
            "wkt",
            FieldType::String,
            Datum::Str("POLYGON ((1 1, 5 1, 5 5, 1 1))"),
        ),
        ("geojson", FieldType::String, Datum::Str(geo_json)),
        ("json", FieldType::Json, Datum::Str(geo_json)),
        ("postgis", geometry(), ewkb(4326)),
        ("far", FieldType::String, Datum::Str("POINT (50 50)")),
        ("null", FieldType::String, Datum::Null),
        ("no shape", FieldType::String, Datum::Str("somewhere")),
        ("elsewhere", geometry(), ewkb(3857)),
    ];
    let key = text_key();
    for (seq, (id, field_type, place)) in (1..).zip(rows) {
        let row = record_type(&[("id", FieldType::String), ("place", field_type)]);
        let change = upsert(
            seq,
            seq.cast_unsigned(),
            (&key, Datum::Str(id)),
            (&row, &[Datum::Str(id), place]),
        );
        let written = writer.put([change].into_iter()).await;
        if ["no shape", "elsewhere"].contains(&id) {
            let rejected = rejections(written);
            assert!(
                rejected[0].reason.contains("column \"place\""),
                "{rejected:?}"
            );
            assert!(!rejected[0].reason.contains("somewhere"), "{rejected:?}");
        } else {
            written.unwrap();
        }
    }
    let envelope = json!({"type": "envelope", "coordinates": [[2.5, 1.5], [3.5, 0.5]]});
    let hits = fixture
        .search(json!({"geo_shape": {"place": {"shape": envelope}}}))
        .await;
    let ids: Vec<_> = hits
        .iter()
        .map(|hit| hit["_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["wkt", "geojson", "json", "postgis"]);
    assert_eq!(fixture.ids().await.len(), 6);
    fixture.finish().await;
}
