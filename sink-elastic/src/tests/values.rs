//! Every type, and its values at the edge: each is in `_source`, and none makes a document fail.

use serde_json::{Value, json};
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, field, record_type, text_key, upsert};

/// Writes a row of one column per value, all of one type; returns the columns of its document and the ignored fields.
async fn stored(field_type: FieldType, values: &[Datum<'_>]) -> (Vec<Value>, usize) {
    let fixture = Fixture::new();
    let key = text_key();
    let row = record_type(&[("v", field_type)]);
    let ids: Vec<_> = (0..values.len()).map(|n| n.to_string()).collect();
    let changes: Vec<_> = values
        .iter()
        .zip(&ids)
        .enumerate()
        .map(|(n, (value, id))| {
            upsert(
                n as i64,
                1 + n as u64,
                (&key, Datum::Str(id)),
                (&row, std::slice::from_ref(value)),
            )
        })
        .collect();
    fixture
        .writer()
        .await
        .put(changes.into_iter())
        .await
        .unwrap();
    let hits = fixture.search(json!({"match_all": {}})).await;
    let ignored = hits
        .iter()
        .filter(|hit| hit.get("_ignored").is_some())
        .count();
    let sources = hits.iter().map(|hit| hit["_source"]["v"].clone()).collect();
    fixture.finish().await;
    (sources, ignored)
}

#[tokio::test]
async fn integers_and_floats() {
    let (values, ignored) = stored(
        FieldType::Int64,
        &[Datum::Int(i64::MIN), Datum::Int(i64::MAX), Datum::Null],
    )
    .await;
    assert_eq!(
        (values, ignored),
        (vec![json!(i64::MIN), json!(i64::MAX), Value::Null], 0)
    );
    let (values, ignored) = stored(FieldType::Int32, &[Datum::Int(i64::from(i32::MIN))]).await;
    assert_eq!((values, ignored), (vec![json!(i32::MIN)], 0));

    let specials = [
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let (values, ignored) = stored(FieldType::Float64, &specials.map(Datum::Double)).await;
    assert_eq!(values[..2], [json!(f64::MAX), json!(f64::MIN_POSITIVE)]);
    assert_eq!(values[2..], ["NaN", "Infinity", "-Infinity"]);
    assert_eq!(ignored, 3);
    let specials = [f32::MAX, f32::NAN].map(Datum::Float);
    let (values, ignored) = stored(FieldType::Float32, &specials).await;
    assert_eq!((&values[1], ignored), (&json!("NaN"), 1));
}

/// Decimals of all sizes and scales, and NaN.
fn decimals(huge: &[u8; 1000]) -> [Datum<'_>; 5] {
    let decimal = |scale, unscaled| Datum::VariableDecimal { scale, unscaled };
    [
        decimal(2, &[1, 0]),
        decimal(0, &huge[..170]),
        decimal(3, huge),
        decimal(-400, &[1]),
        decimal(i32::MIN, &[0]),
    ]
}

/// Documents as text, since a parser of JSON numbers would lose digits.
async fn texts(fixture: &Fixture, ids: &[&str]) -> Vec<String> {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let mut texts = Vec::new();
    for id in ids {
        let url = format!("{engine}/{}/_doc/{id}", fixture.alias());
        texts.push(reqwest::get(url).await.unwrap().text().await.unwrap());
    }
    texts
}

#[tokio::test]
async fn decimals_of_any_size_keep_their_digits() {
    let huge = [0x7f; 1000];
    let numbers = decimals(&huge);
    let fixture = Fixture::new();
    let key = text_key();
    let row = record_type(&[
        ("v", FieldType::VariableDecimal),
        (
            "a",
            FieldType::Array(Box::new(field("i", FieldType::VariableDecimal))),
        ),
    ]);
    let ids = ["0", "1", "2", "3", "4"];
    let changes: Vec<_> = numbers
        .iter()
        .zip(ids)
        .enumerate()
        .map(|(n, (number, id))| {
            let array = Datum::Array(vec![number.clone(), Datum::Null]);
            upsert(
                n as i64,
                1 + n as u64,
                (&key, Datum::Str(id)),
                (&row, &[number.clone(), array]),
            )
        })
        .collect();
    fixture
        .writer()
        .await
        .put(changes.into_iter())
        .await
        .unwrap();

    let texts = texts(&fixture, &ids).await;
    let mut expected = [(); 5].map(|()| Vec::new());
    for (number, out) in numbers.iter().zip(&mut expected) {
        tributary_schemas::render::json(&FieldType::VariableDecimal, number, out).unwrap();
    }
    for (text, number) in texts.iter().zip(&expected) {
        let number = std::str::from_utf8(number).unwrap();
        let value = if number.len() > 1000 {
            format!("\"{number}\"")
        } else {
            number.to_owned()
        };
        assert!(
            text.contains(&format!("\"v\":{value},\"a\":[{value},null]")),
            "{text}"
        );
    }
    assert!(expected[2].len() > 2000 && texts[0].contains("2.56"));
    assert_eq!(fixture.search(json!({"term": {"v": 2.56}})).await.len(), 1);
    fixture.finish().await;
}

#[tokio::test]
async fn dates_and_timestamps_of_all_eras() {
    let days = [
        0,
        -719_529,
        -2_440_589,
        2_145_031_948,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
    ];
    let (values, _) = stored(FieldType::Date, &days.map(Datum::Int)).await;
    assert_eq!(values[0], "1970-01-01");
    assert_eq!(values[4..], ["infinity", "-infinity"]);

    let micros = [
        0,
        1_700_000_000_123_456,
        -62_135_596_800_000_001,
        -210_866_803_200_000_000,
        9_223_371_331_199_999_999,
        9_223_372_036_825_200_000,
    ];
    let (values, _) = stored(FieldType::TimestampMicros, &micros.map(Datum::Int)).await;
    assert_eq!(values[1], "2023-11-14T22:13:20.123456");
    assert_eq!(values[5], "infinity");
    stored(
        FieldType::TimestampMillis,
        &[0, 1 << 45, -(1 << 50)].map(Datum::Int),
    )
    .await;
    stored(
        FieldType::TimestampNanos,
        &[0, i64::MAX, i64::MIN].map(Datum::Int),
    )
    .await;
    let zoned = [
        "2024-01-01T00:00:00.123456Z",
        "-infinity",
        "+294276-12-31T23:59:59Z",
        "-4712-01-01T00:00:00Z",
        "junk",
    ];
    let (values, _) = stored(FieldType::ZonedTimestamp, &zoned.map(Datum::Str)).await;
    assert_eq!(values, zoned);
}

#[tokio::test]
async fn dates_are_searchable_also_beyond_four_digits() {
    let fixture = Fixture::new();
    let key = text_key();
    let row = record_type(&[
        ("d", FieldType::Date),
        ("t", FieldType::TimestampMicros),
        ("z", FieldType::ZonedTimestamp),
    ]);
    let usual = [
        Datum::Int(19_723),
        Datum::Int(1_704_067_200_000_001),
        Datum::Str("2024-01-01T00:00:00Z"),
    ];
    let ancient = [
        Datum::Int(-800_000),
        Datum::Int(-69_120_000_000_000_000),
        Datum::Null,
    ];
    let changes = [
        upsert(0, 1, (&key, Datum::Str("usual")), (&row, &usual)),
        upsert(1, 2, (&key, Datum::Str("ancient")), (&row, &ancient)),
    ];
    fixture
        .writer()
        .await
        .put(changes.into_iter())
        .await
        .unwrap();
    for name in ["d", "t", "z"] {
        let hits = fixture
            .search(json!({"range": {(name): {"gte": "2024-01-01", "lte": "2024-01-01"}}}))
            .await;
        assert_eq!(hits.len(), 1, "{name}");
    }
    for name in ["d", "t"] {
        let hits = fixture
            .search(json!({"range": {(name): {"lt": "0001-01-01"}}}))
            .await;
        assert_eq!(hits.len(), 1, "{name}");
    }
    fixture.finish().await;
}

#[tokio::test]
async fn texts_times_bytes_and_the_rest() {
    let long = "x".repeat(40_000);
    let (values, _) = stored(
        FieldType::String,
        &[Datum::Str(&long), Datum::Str("\u{0}\u{2028}🦀")],
    )
    .await;
    assert_eq!(values, [json!(long), json!("\u{0}\u{2028}🦀")]);
    for field_type in [
        FieldType::Enum,
        FieldType::Uuid,
        FieldType::Interval,
        FieldType::ZonedTime,
        FieldType::Xml,
        FieldType::Json,
        FieldType::Ltree,
        FieldType::TsVector,
    ] {
        let (values, _) = stored(field_type.clone(), &[Datum::Str(&long)]).await;
        assert_eq!(values, [json!(long)], "{field_type:?}");
    }
    let (values, _) = stored(FieldType::TimeMicros, &[Datum::Int(86_400_000_000)]).await;
    assert_eq!(values, ["24:00:00.000000"]);
    stored(FieldType::TimeMillis, &[Datum::Int(1)]).await;
    stored(FieldType::TimeNanos, &[Datum::Int(1)]).await;
    stored(FieldType::MicroDuration, &[Datum::Int(i64::MIN)]).await;
    let (values, _) = stored(
        FieldType::Bytes,
        &[Datum::Bytes(&[0, 255]), Datum::Bytes(&[])],
    )
    .await;
    assert_eq!(values, ["AP8=", ""]);
    let (values, _) = stored(
        FieldType::Bits {
            length: Some(3),
            counted: false,
        },
        &[Datum::Bytes(&[5])],
    )
    .await;
    assert_eq!(values, ["101"]);
    let (values, _) = stored(FieldType::Bool, &[Datum::Bool(true), Datum::Null]).await;
    assert_eq!(values, [json!(true), Value::Null]);
    let (values, _) = stored(
        FieldType::Decimal {
            precision: Some(4),
            scale: 2,
        },
        &[Datum::Bytes(&[0xff])],
    )
    .await;
    assert_eq!(values, [json!(-0.01)]);
}

#[tokio::test]
async fn arrays_records_and_maps() {
    let matrix = FieldType::Array(Box::new(field(
        "row",
        FieldType::Array(Box::new(field("cell", FieldType::Bool))),
    )));
    let cells = Datum::Array(vec![
        Datum::Array(vec![Datum::Bool(true), Datum::Null]),
        Datum::Array(vec![]),
    ]);
    let (values, _) = stored(matrix, &[cells]).await;
    assert_eq!(values, [json!([[true, null], []])]);

    let odd = FieldType::Struct(record_type(&[
        ("a.b", FieldType::Int32),
        ("a", FieldType::Int32),
    ]));
    let (values, _) = stored(odd, &[Datum::Struct(vec![Datum::Int(1), Datum::Int(2)])]).await;
    assert_eq!(values, [json!({"a.b": 1, "a": 2})]);

    let entry = |key, value| Datum::Struct(vec![Datum::Str(key), value]);
    let map = FieldType::Map(Box::new(field("value", FieldType::Int32)));
    let (values, _) = stored(
        map,
        &[Datum::Array(vec![
            entry("k.x", Datum::Int(1)),
            entry("k", Datum::Null),
        ])],
    )
    .await;
    assert!(values[0].to_string().contains("k.x"), "{values:?}");
}

#[tokio::test]
async fn columns_of_any_name_are_stored() {
    let names = [
        "a b",
        "Weird Näme-$",
        "1st",
        "a.b",
        "a",
        ".",
        "..",
        "_id",
        "_source",
        "_tributary_seq",
        " ",
        "*",
        "a*",
        "\"",
        "\\",
        "#",
        "/",
        "<>",
        "é🦀",
        "_u002e",
        "a,b",
        "\t",
        "id.",
        ".id",
        "_",
    ];
    let fields: Vec<_> = names.iter().map(|name| (*name, FieldType::Int32)).collect();
    let row = record_type(&fields);
    let key = text_key();
    let values: Vec<_> = (0..names.len()).map(|n| Datum::Int(n as i64)).collect();
    let fixture = Fixture::new();
    let change = upsert(0, 1, (&key, Datum::Str("a")), (&row, &values));
    fixture
        .writer()
        .await
        .put([change].into_iter())
        .await
        .unwrap();
    for (n, name) in names.iter().enumerate() {
        let field = crate::mapping::field_name(name);
        let hits = fixture.search(json!({"term": {(field.as_ref()): n}})).await;
        assert_eq!(hits.len(), 1, "{name}");
        assert_eq!(hits[0]["_source"][field.as_ref()], n, "{name}");
    }
    fixture.finish().await;
}
