//! How indices are found, made and extended.

use reqwest::Method;
use serde_json::json;
use tributary_engine::{Known, Lane as _, Mark, Note, RowForm};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, mark, record_type, target_error, text_key, upsert};
use super::wire::{Act, Wire};
use crate::config::Config;
use crate::{Elastic, check};

#[tokio::test]
async fn the_first_row_makes_the_index_with_its_alias_settings_and_mapping() {
    let mut fixture = Fixture::new();
    fixture.config.number_of_shards = 2;
    fixture.config.refresh_interval = Some("7s".to_owned());
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    let (key, row) = (text_key(), record_type(&[("n", FieldType::Int32)]));
    let change = upsert(0, 1, (&key, Datum::Str("a")), (&row, &[Datum::Int(1)]));
    let writer = fixture.writer().await;
    writer.put([change].into_iter()).await.unwrap();

    let path = format!("/{}?flat_settings=true", fixture.alias());
    let (_, answer) = fixture.call(Method::GET, &path, None).await;
    let index = &answer[fixture.first_index()];
    assert_eq!(
        index["aliases"],
        json!({(fixture.alias()): {"is_write_index": true}})
    );
    assert_eq!(
        index["mappings"],
        json!({
            "dynamic": "false",
            "_meta": {"tributary": {
                "format": 2, "topic": fixture.topic, "generation": "first", "topic_id": "topic's id", "partitions": 2
            }},
            "properties": {
                "_tributary_seq": {"type": "long"},
                "n": {"type": "integer", "ignore_malformed": true},
            },
        })
    );
    for (name, value) in [
        ("gc_deletes", "1h"),
        ("number_of_shards", "2"),
        ("number_of_replicas", "0"),
        ("refresh_interval", "7s"),
    ] {
        assert_eq!(index["settings"][format!("index.{name}")], value, "{name}");
    }
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_is_made_with_its_fields_before_its_first_row() {
    let fixture = Fixture::new();
    let form = |fields: &[(&str, FieldType)]| RowForm {
        key_type: None,
        row_type: record_type(fields),
    };
    let narrow = form(&[("n", FieldType::Int32)]);
    let wide = form(&[("n", FieldType::Int32), ("s", FieldType::String)]);
    let lanes = futures::future::join_all((0..3).map(|_| fixture.lane())).await;
    let making = lanes.iter().zip(["a", "b", "c"]).map(|(lane, name)| {
        let form = &narrow;
        async move { lane.found(&mark(name), form).await }
    });
    for made in futures::future::join_all(making).await {
        made.unwrap();
    }
    let Known::Marked(made) = lanes[0].known().await.unwrap() else {
        panic!("no mark");
    };
    assert!(made.caught_up_ms.is_empty());
    lanes[1].found(&mark("later"), &wide).await.unwrap();
    let path = format!("/{}/_mapping", fixture.alias());
    let (_, answer) = fixture.call(Method::GET, &path, None).await;
    let index = &answer[fixture.first_index()]["mappings"];
    assert_eq!(
        index["_meta"]["tributary"]["generation"],
        made.generation.as_str()
    );
    let fields = index["properties"].as_object().unwrap();
    assert_eq!(
        fields.keys().collect::<Vec<_>>(),
        ["_tributary_index", "_tributary_seq", "n", "s"]
    );

    let (key, row) = (text_key(), &narrow.row_type);
    let change = upsert(0, 1, (&key, Datum::Str("a")), (row, &[Datum::Int(1)]));
    lanes[2].put([change].into_iter()).await.unwrap();
    assert_eq!(fixture.ids().await, ["a"]);
    fixture.finish().await;
}

#[tokio::test]
async fn one_of_several_instances_makes_the_index_and_no_note_is_lost() {
    let fixture = Fixture::new();
    let lanes = futures::future::join_all((0..4).map(|_| fixture.lane())).await;
    let names = ["a", "b", "c", "d"];
    let begun = lanes
        .iter()
        .zip(names)
        .map(|(lane, name)| async move { lane.begin(&mark(name)).await });
    for begun in futures::future::join_all(begun).await {
        begun.unwrap();
    }
    let Known::Marked(made) = lanes[0].known().await.unwrap() else {
        panic!("no mark");
    };
    let generation = made.generation.as_str();
    let noting = (0..).zip(&lanes).map(|(number, lane)| async move {
        for round in 1..5 {
            let note = Note::CaughtUp {
                partition: number,
                at_ms: round * 1_000,
            };
            assert!(lane.note(generation, &[note]).await.unwrap());
        }
    });
    futures::future::join_all(noting).await;
    assert!(
        lanes[1]
            .note(generation, &[Note::VersionsAreOffsets])
            .await
            .unwrap()
    );
    let mut expected = Mark {
        versions_are_offsets: true,
        ..mark(generation)
    };
    expected
        .caught_up_ms
        .extend((0..4).map(|number| (number, 4_000)));
    assert_eq!(lanes[2].known().await.unwrap(), Known::Marked(expected));

    // What belongs to another generation is left alone.
    assert!(
        !lanes[0]
            .note("another", &[Note::VersionsAreOffsets])
            .await
            .unwrap()
    );
    lanes[0].discard(Some("another")).await.unwrap();
    assert!(matches!(lanes[0].known().await.unwrap(), Known::Marked(_)));
    lanes[0].discard(Some(generation)).await.unwrap();
    assert_eq!(lanes[3].known().await.unwrap(), Known::Nothing);
    assert!(!lanes[3].note(generation, &[]).await.unwrap());

    // The next one has another name: a second delete of the one before does not meet it.
    lanes[0].begin(&mark("next")).await.unwrap();
    let (_, answer) = fixture
        .call(Method::GET, &format!("/{}", fixture.alias()), None)
        .await;
    let names: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, [format!("{}-000002", fixture.alias())]);
    lanes[1].discard(Some(generation)).await.unwrap();
    assert_eq!(lanes[1].known().await.unwrap(), Known::Marked(mark("next")));
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_of_an_older_version_is_unfit_and_can_be_built_again() {
    let fixture = Fixture::new();
    let body = json!({
        "aliases": {(fixture.alias()): {}},
        "mappings": {"dynamic": false, "_meta": {"tributary": {"format": 1, "topic": fixture.topic}}},
    });
    fixture
        .put(&format!("/{}", fixture.first_index()), body)
        .await;
    let lane = fixture.lane().await;
    let Known::Unfit { generation, reason } = lane.known().await.unwrap() else {
        panic!("fit");
    };
    assert!(reason.contains("was made by an older version"), "{reason}");
    lane.discard(generation.as_deref()).await.unwrap();
    assert_eq!(lane.known().await.unwrap(), Known::Nothing);
}

#[tokio::test]
async fn writers_that_make_the_index_at_the_same_time_agree() {
    let first = Fixture::new();
    let rows: Vec<_> = (0..6)
        .map(|n| {
            record_type(&[
                ("id", FieldType::String),
                (["a", "b", "c"][n % 3], FieldType::Int32),
            ])
        })
        .collect();
    let key = text_key();
    let names: Vec<_> = (0..6).map(|n| n.to_string()).collect();
    let writes = rows.iter().zip(&names).enumerate().map(|(n, (row, name))| {
        let instance = Fixture {
            topic: first.topic.clone(),
            ..Fixture::new()
        };
        let id = Datum::Str(name);
        let change = upsert(
            0,
            1 + n as u64,
            (&key, id.clone()),
            (row, &[id, Datum::Int(n as i64)]),
        );
        async move { instance.writer().await.put([change].into_iter()).await }
    });
    for written in futures::future::join_all(writes).await {
        written.unwrap();
    }
    assert_eq!(first.ids().await, names);
    for (field, n) in [("a", 3), ("b", 4), ("c", 5)] {
        let hits = first.search(json!({"term": {(field): n}})).await;
        assert_eq!(hits.len(), 1, "{field}");
    }
    first.finish().await;
}

#[tokio::test]
async fn a_new_column_becomes_a_field_and_a_changed_one_stays_readable() {
    let fixture = Fixture::new();
    let key = text_key();
    let old = record_type(&[("n", FieldType::Int32)]);
    let new = record_type(&[("n", FieldType::Int64), ("name", FieldType::String)]);
    let writer = fixture.writer().await;
    let changes = [
        upsert(0, 1, (&key, Datum::Str("a")), (&old, &[Datum::Int(1)])),
        upsert(
            1,
            2,
            (&key, Datum::Str("b")),
            (&new, &[Datum::Int(1 << 40), Datum::Str("Anna Blume")]),
        ),
    ];
    writer.put(changes.into_iter()).await.unwrap();
    let found = fixture.search(json!({"match": {"name": "blume"}})).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["_source"]["n"], json!(1_i64 << 40));
    assert_eq!(found[0]["_ignored"], json!(["n"]));
    assert_eq!(
        fixture
            .search(json!({"term": {"name.keyword": "Anna Blume"}}))
            .await
            .len(),
        1
    );
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_that_goes_away_while_a_field_is_mapped_is_not_taken_for_a_refusal() {
    const GONE: &str = r#"{"error":{"type":"index_not_found_exception"},"status":404}"#;
    let mut fixture = Fixture::new();
    let wire = Wire::start(&fixture.url).await;
    fixture.config.url = vec![wire.url.clone()];
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    let writer = fixture.writer().await;
    wire.fails(|asked| match asked.path.ends_with("/_mapping") {
        true => Act::Answer(404, GONE),
        false => Act::Pass,
    });
    let (key, row) = (text_key(), record_type(&[("n", FieldType::Int32)]));
    let change = upsert(0, 1, (&key, Datum::Str("a")), (&row, &[Datum::Int(1)]));
    let error = target_error(writer.put([change].into_iter()).await);
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    assert!(error.to_string().contains("is gone"), "{error}");
    fixture.finish().await;
}

#[tokio::test]
async fn a_wide_table_raises_the_limit_of_fields() {
    let fixture = Fixture::new();
    let key = text_key();
    let names: Vec<_> = (0..1600).map(|n| format!("c{n}")).collect();
    let fields: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), FieldType::String))
        .collect();
    let (half, whole) = (record_type(&fields[..450]), record_type(&fields));
    let writer = fixture.writer().await;
    for (seq, row) in [(1, &half), (2, &whole)] {
        let values = vec![Datum::Str("x"); row.fields.len()];
        let change = upsert(0, seq, (&key, Datum::Str("a")), (row, &values));
        writer.put([change].into_iter()).await.unwrap();
    }
    assert_eq!(
        fixture.search(json!({"match": {"c1599": "x"}})).await.len(),
        1
    );
    fixture.finish().await;
}

#[tokio::test]
async fn what_somebody_else_made_is_refused() {
    let fixture = Fixture::new();
    let index = format!("/{}-other", fixture.alias());
    fixture
        .put(&index, json!({"aliases": {(fixture.alias()): {}}}))
        .await;
    let error = fixture.open().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Stop);
    assert!(
        error
            .to_string()
            .contains("Tributary did not make; to do: set elasticsearch.index_prefix"),
        "{error}"
    );
    fixture.finish().await;

    let fixture = Fixture::new();
    fixture
        .put(&format!("/{}", fixture.alias()), json!({}))
        .await;
    let error = fixture.open().await.unwrap_err();
    assert!(
        error.to_string().contains("is an index, not an alias"),
        "{error}"
    );
    let (topic, engine) = (&fixture.topic, std::env::var("TRIBUTARY_SEARCH").unwrap());
    let config = format!(
        "name = \"s\"\ntopics = [{topic:?}]\n[kafka]\nbrokers = [\"k:9\"]\nregistry = \"http://r:9\"\n[elasticsearch]\nurl = {engine:?}\n"
    );
    let config: Config = toml::from_str(&config).unwrap();
    let checked = check::engine(&config).await;
    let remedies: Vec<_> = checked
        .iter()
        .filter_map(|problem| problem.remedy.as_deref())
        .collect();
    assert!(
        remedies
            .iter()
            .any(|remedy| remedy.contains("--replace-index")),
        "{checked:?}"
    );
    fixture.finish().await;

    let fixture = Fixture::new();
    let meta = json!({"_meta": {"tributary": {"format": 1, "topic": fixture.topic}}});
    fixture
        .put(
            &format!("/{}", fixture.first_index()),
            json!({"mappings": meta}),
        )
        .await;
    let error = fixture.open().await.unwrap_err();
    assert!(
        error.to_string().contains("is there, but not behind"),
        "{error}"
    );
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_of_ours_behind_another_name_is_used_and_set_right() {
    let fixture = Fixture::new();
    let index = format!("/{}-000007", fixture.alias());
    let body = json!({
        "aliases": {(fixture.alias()): {}},
        "settings": {"index.gc_deletes": "60s"},
        "mappings": {"dynamic": false, "_meta": {"tributary": {"format": 1, "topic": fixture.topic}}},
    });
    fixture.put(&index, body).await;
    let (key, row) = (text_key(), record_type(&[("n", FieldType::Int32)]));
    let writer = fixture.writer().await;
    let change = upsert(0, 1, (&key, Datum::Str("a")), (&row, &[Datum::Int(1)]));
    writer.put([change].into_iter()).await.unwrap();
    assert_eq!(fixture.search(json!({"term": {"n": 1}})).await.len(), 1);
    let (_, answer) = fixture
        .call(Method::GET, &format!("{index}?flat_settings=true"), None)
        .await;
    let settings = &answer[&index[1..]]["settings"];
    assert_eq!(settings["index.gc_deletes"], "1h");
    fixture.finish().await;
}
