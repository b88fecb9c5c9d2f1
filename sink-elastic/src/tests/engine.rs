//! What the engine holds after batches in the order and disorder in which they may come.

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::{Change, Known, Lane};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{
    Fixture, delete, impatient, record_type, rejections, target_error, text_key, until_rejected,
    upsert,
};

pub(super) fn row_type() -> RecordType {
    record_type(&[("id", FieldType::String), ("n", FieldType::Int64)])
}

/// Writes the row (`id`, `n`) at `seq`; the offset is the same number.
pub(super) async fn put(fixture: &Fixture, id: &str, n: i64, seq: u64) {
    let (key, row) = (text_key(), row_type());
    let id = Datum::Str(id);
    let change = upsert(
        seq as i64,
        seq,
        (&key, id.clone()),
        (&row, &[id, Datum::Int(n)]),
    );
    fixture
        .writer()
        .await
        .put([change].into_iter())
        .await
        .unwrap();
}

async fn remove(fixture: &Fixture, id: &str, seq: u64) {
    let key = text_key();
    let change = delete(seq as i64, seq, (&key, Datum::Str(id)));
    fixture
        .writer()
        .await
        .put([change].into_iter())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_older_row_never_replaces_a_newer_one() {
    let fixture = Fixture::new();
    put(&fixture, "a", 2, 20).await;
    put(&fixture, "a", 1, 10).await;
    put(&fixture, "a", 3, 20).await;
    let expected = json!({"id": "a", "n": 2, "_tributary_seq": 20});
    assert_eq!(fixture.documents().await, [("a".to_owned(), expected)]);

    remove(&fixture, "a", 15).await;
    assert_eq!(fixture.ids().await, ["a"]);
    remove(&fixture, "a", 30).await;
    put(&fixture, "a", 2, 20).await;
    assert_eq!(fixture.ids().await, [""; 0]);
    put(&fixture, "a", 4, 40).await;
    assert_eq!(fixture.ids().await, ["a"]);

    let (key, row, id) = (text_key(), row_type(), Datum::Str("a"));
    let values = [id.clone(), Datum::Int(1)];
    let older = upsert(39, 39, (&key, id), (&row, &values));
    let writer = fixture.writer().await;
    writer.put([older].into_iter()).await.unwrap();
    assert_eq!(writer.passed_over(), 1);
    fixture.finish().await;
}

#[tokio::test]
async fn a_delete_that_comes_first_keeps_an_older_row_out() {
    let fixture = Fixture::new();
    remove(&fixture, "a", 30).await;
    remove(&fixture, "a", 30).await;
    put(&fixture, "a", 2, 20).await;
    put(&fixture, "b", 2, 31).await;
    assert_eq!(fixture.ids().await, ["b"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_batch_is_split_into_requests_and_may_be_repeated() {
    let mut fixture = Fixture::new();
    fixture.config.bulk_bytes = 1024;
    fixture.elastic = crate::Elastic::new(fixture.config.clone()).unwrap();
    let (key, row) = (text_key(), row_type());
    let ids: Vec<_> = (0..300).map(|n| format!("{n:03}")).collect();
    let writer = fixture.writer().await;
    for _ in 0..2 {
        let changes = ids.iter().enumerate().map(|(n, id)| {
            let id = Datum::Str(id);
            upsert(
                n as i64,
                100 + n as u64,
                (&key, id.clone()),
                (&row, &[id, Datum::Int(n as i64)]),
            )
        });
        writer.put(changes).await.unwrap();
    }
    assert_eq!(fixture.ids().await, ids);
    fixture.finish().await;
}

#[tokio::test]
async fn rows_without_a_key_are_told_apart_by_partition_and_offset() {
    let fixture = Fixture::new();
    let (key, row) = (text_key(), row_type());
    let change = |offset| {
        let mut change = upsert(
            offset,
            7,
            (&key, Datum::Null),
            (&row, &[Datum::Str("x"), Datum::Int(1)]),
        );
        change.key = None;
        change
    };
    let writer = fixture.writer().await;
    let elsewhere = Change {
        partition: 1,
        ..change(2)
    };
    writer
        .put([change(1), change(2)].into_iter())
        .await
        .unwrap();
    writer.put([change(2)].into_iter()).await.unwrap();
    writer.put([elsewhere].into_iter()).await.unwrap();
    let mut ids = fixture.ids().await;
    ids.sort();
    assert_eq!(ids, ["0-1", "0-2", "1-2"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_refused_document_is_named_by_its_offset_and_the_others_are_written() {
    let fixture = Fixture::new();
    let key = text_key();
    let before = record_type(&[("flag", FieldType::Bool)]);
    let after = record_type(&[("flag", FieldType::String)]);
    let writer = fixture.writer().await;
    let first = upsert(
        1,
        1,
        (&key, Datum::Str("a")),
        (&before, &[Datum::Bool(true)]),
    );
    writer.put([first].into_iter()).await.unwrap();

    let text = |offset: i64, id, flag| {
        upsert(
            offset,
            offset as u64,
            (&key, Datum::Str(id)),
            (&after, &[Datum::Str(flag)]),
        )
    };
    let mismatch = upsert(5, 5, (&key, Datum::Str("e")), (&before, &[Datum::Str("x")]));
    let changes = [
        text(2, "b", "secret"),
        text(3, "c", "true"),
        text(4, "d-secret", "secret"),
        mismatch,
    ];
    let rejected = rejections(writer.put(changes.into_iter()).await);
    assert_eq!(
        rejected
            .iter()
            .map(|rejection| rejection.offset)
            .collect::<Vec<_>>(),
        [2, 4, 5]
    );
    for rejection in &rejected {
        assert!(
            rejection.reason.contains("column \"flag\""),
            "{rejection:?}"
        );
        assert!(!rejection.reason.contains("secret"), "{rejection:?}");
    }
    assert_eq!(fixture.ids().await, ["a", "c"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_block_on_writes_is_waited_out() {
    for block in ["index.blocks.write", "index.blocks.read_only_allow_delete"] {
        let fixture = Fixture::new();
        put(&fixture, "a", 1, 1).await;
        let settings = format!("/{}/_settings", fixture.alias());
        fixture.put(&settings, json!({block: true})).await;
        let (key, row) = (text_key(), row_type());
        let change = || {
            let id = Datum::Str("b");
            [upsert(
                2,
                2,
                (&key, id.clone()),
                (&row, &[id, Datum::Int(2)]),
            )]
            .into_iter()
        };
        let writer = fixture.writer().await;
        let error = target_error(writer.put(change()).await);
        assert_eq!(error.policy(), Policy::Retry);
        let text = error.to_string();
        assert!(
            text.contains("are blocked") && text.contains("_settings"),
            "{text}"
        );

        fixture.put(&settings, json!({block: Value::Null})).await;
        writer.put(change()).await.unwrap();
        assert_eq!(fixture.ids().await, ["a", "b"]);
        fixture.finish().await;
    }
}

#[tokio::test]
async fn an_index_that_goes_away_is_not_made_again_in_silence() {
    let fixture = Fixture::new();
    put(&fixture, "a", 1, 1).await;
    let writer = fixture.writer().await;
    let (status, _) = fixture
        .call(Method::DELETE, &format!("/{}", fixture.first_index()), None)
        .await;
    assert_eq!(status, 200);
    let (key, row) = (text_key(), row_type());
    let id = Datum::Str("b");
    let change = upsert(
        2,
        2,
        (&key, id.clone()),
        (&row, &[id.clone(), Datum::Int(2)]),
    );
    let error = target_error(writer.put([change].into_iter()).await);
    assert_eq!(error.policy(), Policy::Retry);
    assert!(error.to_string().contains("is gone"), "{error}");
    // The engines make an index for a request of deletes alone.
    let gone = || [delete(3, 3, (&key, id.clone()))].into_iter();
    let error = target_error(writer.put(gone()).await);
    assert_eq!(error.policy(), Policy::Retry);
    assert!(error.to_string().contains("is gone"), "{error}");
    assert_eq!(writer.known().await.unwrap(), Known::Nothing);

    // One that is somebody else's stays.
    let mappings = json!({"properties": {"theirs": {"type": "long"}}});
    let theirs = format!("/{}", fixture.alias());
    fixture.put(&theirs, json!({"mappings": mappings})).await;
    let error = target_error(writer.put(gone()).await);
    assert_eq!(error.policy(), Policy::Retry);
    let error = writer.known().await.unwrap_err();
    assert!(
        error.to_string().contains("is an index, not an alias"),
        "{error}"
    );
    assert_eq!(fixture.call(Method::GET, &theirs, None).await.0, 200);
    fixture.finish().await;
}

#[tokio::test]
async fn any_key_is_an_id_of_its_own() {
    let fixture = Fixture::new();
    let long = "ü".repeat(400);
    let longer = "ü".repeat(401);
    let keys = [
        "",
        "~",
        " ",
        "a/b",
        "a?b#c",
        "%20",
        "\"\\",
        "\u{1}\n",
        "_id",
        "naïve 🦀",
        "..",
        "*",
        long.as_str(),
        longer.as_str(),
    ];
    let (key, row) = (text_key(), row_type());
    let changes = keys.iter().enumerate().map(|(n, id)| {
        let id = Datum::Str(id);
        upsert(
            n as i64,
            1 + n as u64,
            (&key, id.clone()),
            (&row, &[id, Datum::Int(n as i64)]),
        )
    });
    let writer = fixture.writer().await;
    writer.put(changes).await.unwrap();
    let stored: Vec<_> = fixture
        .documents()
        .await
        .into_iter()
        .map(|(_, source)| source["id"].clone())
        .collect();
    assert_eq!(stored, keys);

    let deletes = keys
        .iter()
        .enumerate()
        .map(|(n, id)| delete(50 + n as i64, 50, (&key, Datum::Str(id))));
    writer.put(deletes).await.unwrap();
    assert_eq!(fixture.ids().await, [""; 0]);
    fixture.finish().await;
}

#[tokio::test]
async fn no_id_over_512_bytes_is_sent() {
    let fixture = Fixture::new();
    let row = row_type();
    let joined = record_type(&[("a", FieldType::String), ("b", FieldType::String)]);
    let commas = [",".repeat(255), ",".repeat(256)];
    let texts = [
        "x".repeat(511),
        "x".repeat(512),
        "x".repeat(513),
        "x".repeat(514),
        format!("~{}", "x".repeat(510)),
        format!("~{}", "x".repeat(511)),
        "€".repeat(170),
        "€".repeat(171),
        "\"".repeat(513),
        "🦀".repeat(30_000),
        String::new(),
    ];
    let key = text_key();
    let single = texts
        .iter()
        .map(|text| (&key, vec![Datum::Str(text.as_str())]));
    let double = commas
        .iter()
        .map(|text| (&joined, vec![Datum::Str(text.as_str()), Datum::Str("")]));
    let keys: Vec<_> = single.chain(double).collect();
    let writer = fixture.writer().await;
    for (seq, left) in [(1, keys.len()), (2, 0)] {
        let changes = keys.iter().enumerate().map(|(n, (key_type, key))| {
            let offset = n as i64;
            let mut change = if left == 0 {
                delete(offset, seq, (key_type, Datum::Null))
            } else {
                let row_of = [Datum::Null, Datum::Int(offset)];
                upsert(offset, seq, (key_type, Datum::Null), (&row, &row_of))
            };
            change.key.as_mut().unwrap().row.clone_from(key);
            change
        });
        writer.put(changes).await.unwrap();
        let ids = fixture.ids().await;
        assert_eq!(ids.len(), left);
        assert!(ids.iter().all(|id| (1..=512).contains(&id.len())));
    }
    fixture.finish().await;
}

/// The engine reads an operation before it looks at its document: what it cannot read fails the whole request.
#[tokio::test]
async fn no_request_fails_as_a_whole_for_one_record() {
    let fixture = Fixture::new();
    let (key, row) = (text_key(), row_type());
    let ids = ["a", "b", "c", "d", "e"];
    let changes = ids.iter().enumerate().map(|(n, id)| {
        // No engine has so large a version.
        let seq = if *id == "c" { u64::MAX } else { 1 };
        let row_of = [Datum::Str(id), Datum::Int(1)];
        upsert(n as i64, seq, (&key, Datum::Str(id)), (&row, &row_of))
    });
    let writer = fixture.writer().await;
    let rejected = rejections(writer.put(changes).await);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].offset, 2);
    assert!(rejected[0].reason.contains("400"), "{rejected:?}");
    let mut written = fixture.ids().await;
    written.sort();
    assert_eq!(written, ["a", "b", "d", "e"]);
    fixture.finish().await;
}

/// A pipeline of the user's makes the engine answer 500 to one document, each time.
#[tokio::test]
async fn a_deterministic_5xx_of_one_item_is_bounded() {
    let mut fixture = Fixture::new();
    fixture.elastic = impatient(&fixture.url);
    put(&fixture, "first", 1, 1).await;
    let pipeline = format!("/_ingest/pipeline/{}", fixture.topic);
    let fail = json!({"fail": {"if": "ctx.n == 13", "message": "secret"}});
    let body = json!({"processors": [fail]});
    let (status, answer) = fixture.call(Method::PUT, &pipeline, Some(body)).await;
    if status == 400 && answer.to_string().contains("No processor type exists") {
        eprintln!("this engine lacks ingest-common: nothing is tried");
        return fixture.finish().await;
    }
    assert_eq!(status, 200, "{answer}");
    let settings = format!("/{}/_settings", fixture.alias());
    let default = json!({"index.default_pipeline": fixture.topic});
    fixture.put(&settings, default).await;

    let (key, row) = (text_key(), row_type());
    let writer = fixture.writer().await;
    let write = async |rows: &[(&'static str, i64, i64)]| {
        let changes = rows.iter().map(|&(id, n, offset)| {
            let row_of = [Datum::Str(id), Datum::Int(n)];
            upsert(offset, 2, (&key, Datum::Str(id)), (&row, &row_of))
        });
        writer.put(changes.collect::<Vec<_>>().into_iter()).await
    };
    let rows = [("a", 1, 5), ("b", 13, 6), ("c", 2, 7)];
    let (rejected, _) = until_rejected(async || write(&rows).await).await;
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].offset, 6);
    assert!(
        rejected[0].reason.contains("500 fail_processor_exception"),
        "{rejected:?}"
    );
    assert!(!rejected[0].reason.contains("secret"), "{rejected:?}");

    // Alone in its batch, and nothing else is written: later, but not for ever.
    let (rejected, tries) = until_rejected(async || write(&[("d", 13, 8)]).await).await;
    assert!(tries > 3, "{tries}");
    assert_eq!(rejected[0].offset, 8);
    let mut ids = fixture.ids().await;
    ids.sort();
    assert_eq!(ids, ["a", "c", "first"]);
    fixture.call(Method::DELETE, &pipeline, None).await;
    fixture.finish().await;
}
