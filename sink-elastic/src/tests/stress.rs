//! Engines under stress: rows are written and swept while a fault lasts, and every document is compared behind it. See the
//! table in docs/search.md.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::{Rejection, WriteError};
use tributary_runtime::Policy;

use super::fixture::{HEALTH, rejections};
use super::history::{Ends, Scene};
use super::wire::{Act, Asked, chance};

/// Requests of a few documents each.
const SMALL: usize = 4 * 1024;
const BUSY: &str = r#"{"error": {"type": "rejected_execution_exception", "reason": "secret"}}"#;
/// As Elasticsearch 9.5 answers, with smaller numbers.
const PRESSURE: &str = r#"{"error": {"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, coordinating_operation_bytes=1000001, max_coordinating_bytes=1000000]"}}"#;
const LATE: &str = r#"{"error": {"type": "receive_timeout_transport_exception"}}"#;
/// How long a machine may take that does other things.
const LONG: Duration = Duration::from_secs(60);
const NODE: &str = "index.routing.allocation.require._name";
const PAGE: &str = "<!DOCTYPE html><html><body>Back soon</body></html>";

/// A fault at the wire: at which requests of a hundred, and what the lane is told of it.
type Row = (&'static str, usize, Act, &'static [&'static str]);

async fn faults_at_the_wire(scene: &mut Scene, rows: &[Row]) {
    let concerns = scene.concerns();
    for &(name, of_hundred, act, words) in rows {
        let concerns = concerns.clone();
        let fault = move |asked: &Asked| {
            let is_bulk = asked.path.contains("/_bulk");
            let fails = concerns(&asked.path)
                && (is_bulk || !matches!(act, Act::TurnAway(_)))
                && chance(asked.number, of_hundred);
            if fails { act } else { Act::Pass }
        };
        let on = async |scene: &Scene| scene.wire.fails(fault);
        let off = async |scene: &Scene| {
            assert!(scene.wire.failed() > 0, "{name}");
            scene.wire.mend();
        };
        let ends = if of_hundred < 100 || words.is_empty() {
            Ends::Written
        } else {
            Ends::Told
        };
        scene.through((name, words, ends), on, off).await;
    }
}

#[tokio::test]
async fn a_busy_engine_loses_no_row() {
    let mut scene = Scene::set(200, |config| config.bulk_bytes = SMALL).await;
    let rows: [Row; 7] = [
        ("429 to items", 100, Act::TurnAway(30), &[]),
        ("429", 20, Act::Answer(429, BUSY), &["429", "rejected_exec"]),
        ("503", 20, Act::Answer(503, BUSY), &["503"]),
        (
            "500",
            20,
            Act::Answer(500, LATE),
            &["500", "receive_timeout"],
        ),
        ("500 late", 20, Act::AnswerAfter(500, LATE), &["500"]),
        ("504 late", 20, Act::AnswerAfter(504, LATE), &["504"]),
        ("503 late", 20, Act::AnswerAfter(503, LATE), &["503"]),
    ];
    faults_at_the_wire(&mut scene, &rows).await;
    scene.fixture.finish().await;
}

#[tokio::test]
async fn answers_that_do_not_come_lose_no_row() {
    let configure = |config: &mut crate::config::ElasticConfig| {
        config.bulk_bytes = SMALL;
        config.request_timeout_ms = 1_000;
    };
    let mut scene = Scene::set(200, configure).await;
    let reach: &[&str] = &["reach the search engine at 127.0.0.1"];
    let rows: [Row; 3] = [
        ("breaks off", 20, Act::BreakOff, &[]),
        ("always breaks off", 100, Act::BreakOff, reach),
        ("never answers", 100, Act::Hang, reach),
    ];
    faults_at_the_wire(&mut scene, &rows).await;
    scene.fixture.finish().await;
}

#[tokio::test]
async fn pages_of_a_proxy_lose_no_row() {
    let mut scene = Scene::set(200, |config| config.bulk_bytes = SMALL).await;
    let foreign: &[&str] = &["127.0.0.1", "no search engine", "to do:"];
    let rows: [Row; 8] = [
        ("200 page", 100, Act::Answer(200, PAGE), foreign),
        (
            "200 page behind it",
            100,
            Act::AnswerAfter(200, PAGE),
            foreign,
        ),
        ("404 page", 100, Act::Answer(404, PAGE), foreign),
        (
            "404 gateway",
            100,
            Act::Answer(404, "{\"message\":\"no route\"}"),
            foreign,
        ),
        ("405 page", 100, Act::Answer(405, PAGE), foreign),
        ("502 page", 100, Act::Answer(502, PAGE), &["answers 502"]),
        ("503 page", 100, Act::Answer(503, PAGE), &["answers 503"]),
        ("504 page", 100, Act::Answer(504, PAGE), &["answers 504"]),
    ];
    faults_at_the_wire(&mut scene, &rows).await;
    scene.fixture.finish().await;
}

/// An engine, or a proxy, that takes a million bytes, and says so or not.
#[tokio::test]
async fn requests_that_are_too_large_for_a_proxy_lose_no_row() {
    const MOST: usize = 1_000_000;
    let cases = [
        ("429", Act::Answer(429, PRESSURE), "indexing_pressure"),
        ("413", Act::Answer(413, PAGE), "http.max_content_length"),
        ("413 unread", Act::AnswerUnread(413, PAGE), "bytes"),
        ("reset", Act::Reset, "1200"),
    ];
    for (name, act, why) in cases {
        // How much is sent together has been learned in the case before.
        let mut scene = Scene::set(80_000, |_| ()).await;
        let fault = move |asked: &Asked| if asked.bytes > MOST { act } else { Act::Pass };
        let on = async |scene: &Scene| scene.wire.fails(fault);
        let off = async |scene: &Scene| {
            assert!(scene.wire.failed() > 0, "{name}");
            scene.wire.mend();
        };
        scene.through((name, &[], Ends::Written), on, off).await;
        scene.wire.fails(fault);
        let large = ["one", "two", "three"];
        let large = large.map(|id| scene.row(id, "x".repeat(MOST / 5 * 6)));
        let mut written = scene.try_rows(&large).await;
        while let Err(WriteError::Target(error)) = written {
            assert_eq!(error.policy(), Policy::Retry, "{error}");
            let small = scene.row("small", "small".to_owned());
            scene.try_rows(&[small]).await.unwrap();
            written = scene.try_rows(&large).await;
        }
        let rejected = rejections(written);
        assert_eq!(rejected.len(), 3, "{rejected:?}");
        let is_meant = |rejection: &Rejection| rejection.reason.contains(why);
        assert!(rejected.iter().all(is_meant), "{rejected:?}");
        scene.fixture.finish().await;
    }
}

/// Faults that settings of the index make.
async fn faults_by_settings(
    scene: &mut Scene,
    name: &str,
    on: &[Value],
    off: &[Value],
    words: &[&str],
) {
    let send = async |scene: &Scene, requests: &[Value]| {
        let settings = format!("/{}/_settings", scene.fixture.first_index());
        for body in requests {
            scene.fixture.put(&settings, body.clone()).await;
        }
    };
    let on = async |scene: &Scene| send(scene, on).await;
    let off = async |scene: &Scene| send(scene, off).await;
    let ends = if words.is_empty() {
        Ends::Written
    } else {
        Ends::Told
    };
    scene.through((name, words, ends), on, off).await;
}

#[tokio::test]
async fn an_index_that_is_blocked_or_closed_for_a_while_loses_no_row() {
    let _red = HEALTH.lock().await;
    let mut scene = Scene::set(200, |config| config.bulk_bytes = SMALL).await;
    for block in [
        "read_only_allow_delete",
        "read_only",
        "write",
        "metadata",
        "read",
    ] {
        let setting = format!("index.blocks.{block}");
        let words = ["are blocked", "cluster_block_exception", "to do:", &setting];
        let on = [json!({&setting: true})];
        let off = [json!({&setting: null})];
        faults_by_settings(&mut scene, block, &on, &off, &words).await;
    }
    let words = ["is closed", "to do: POST /", "/_open"];
    scene
        .through(("closed", &words, Ends::Told), closed, opened)
        .await;
    scene.fixture.finish().await;
}

async fn closed(scene: &Scene) {
    let path = format!("/{}/_close", scene.fixture.first_index());
    assert_eq!(scene.fixture.call(Method::POST, &path, None).await.0, 200);
    // For a moment its shards are not there, which is told first.
    loop {
        let error = scene.sweep(1).await.unwrap_err();
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        if error.to_string().contains(&path.replace("_close", "_open")) {
            return;
        }
    }
}

async fn opened(scene: &Scene) {
    let path = format!("/{}/_open", scene.fixture.first_index());
    assert_eq!(scene.fixture.call(Method::POST, &path, None).await.0, 200);
}

const AWAY: [&str; 4] = [
    "503",
    "unavailable_shards_exception",
    "to do:",
    "_cluster/allocation/explain",
];

/// Puts an index in the place of the first one, still empty, whose shard goes to no node: an engine heeds that of shards without a
/// copy only.
async fn red(scene: &Scene) {
    let (name, alias) = (scene.fixture.first_index(), scene.fixture.alias());
    let path = format!("/{name}");
    let (_, found) = scene.fixture.call(Method::GET, &path, None).await;
    let (status, _) = scene.fixture.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 200);
    let body = json!({
        "aliases": {alias: {"is_write_index": true}},
        "mappings": found[&name]["mappings"],
        "settings": {"number_of_replicas": 0, "gc_deletes": "1h", (NODE): "nobody"},
    });
    let path = format!("{path}?wait_for_active_shards=0");
    scene.fixture.put(&path, body).await;
    let begun = Instant::now();
    loop {
        let error = scene.sweep(1).await.unwrap_err();
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        if error
            .to_string()
            .contains("is not there; to do: GET /_cluster")
        {
            return;
        }
        // A loaded machine answers later than this connection waits.
        assert!(begun.elapsed() < LONG, "{error}");
    }
}

async fn allocated(scene: &Scene) {
    let settings = format!("/{}/_settings", scene.fixture.first_index());
    let node = json!({(NODE): null});
    scene.fixture.put(&settings, node).await;
}

#[tokio::test]
async fn an_index_that_is_yellow_or_red_for_a_while_loses_no_row() {
    let _red = HEALTH.lock().await;
    let configure = |config: &mut crate::config::ElasticConfig| {
        config.bulk_bytes = SMALL;
        config.request_timeout_ms = 1_000;
    };
    let mut scene = Scene::set(200, configure).await;
    scene
        .through(("red", &AWAY, Ends::Told), red, allocated)
        .await;
    let on = [json!({"index.number_of_replicas": 1})];
    let off = [json!({"index.number_of_replicas": 0})];
    faults_by_settings(&mut scene, "yellow", &on, &off, &[]).await;
    let copies = |count: Value| json!({"index.write.wait_for_active_shards": count});
    let on = [on[0].clone(), copies(json!("2"))];
    let off = [copies(Value::Null), off[0].clone()];
    faults_by_settings(&mut scene, "too few copies", &on, &off, &AWAY).await;
    scene.fixture.finish().await;
}
