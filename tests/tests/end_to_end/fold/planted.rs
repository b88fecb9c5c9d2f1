//! Short worlds; and errors that are planted into the index of one.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tributary_tests::http;
use tributary_tests::property::SearchWorld;
use tributary_tests::stack::Stack;

/// With offsets set back, a sink and a source killed, a second instance, and reindexes; what is new is found by the long test.
const SEEDS: [u64; 2] = [1, 3];

async fn call(method: Method, url: &str, body: &Value) -> Value {
    let request = http::client().request(method, url);
    let answer = request.json(body).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// Does one thing to the index, which must be found, and nothing else; and takes it back.
async fn plant(
    world: &SearchWorld,
    what: &str,
    expected: &str,
    [plant, take_back]: [(Method, String, Value); 2],
) {
    call(plant.0, &plant.1, &plant.2).await;
    let found = world.compare().await.unwrap();
    let is_found = found.iter().any(|found| found.contains(expected));
    assert!(is_found && found.len() == 1, "{what}: {found:?}");
    call(take_back.0, &take_back.1, &take_back.2).await;
    println!("{what}: planted and found");
}

async fn plant_all(world: &mut SearchWorld, engine: &str) {
    let alias = world.with_rows().await.unwrap();
    let search = format!("{engine}/{alias}/_search?size=1&version=true");
    let found = call(Method::POST, &search, &json!({})).await;
    let hit = &found["hits"]["hits"][0];
    let (id, index) = (
        hit["_id"].as_str().unwrap(),
        hit["_index"].as_str().unwrap(),
    );
    let source = hit["_source"].clone();
    let place = format!("{engine}/{alias}/_doc/{id}");
    let back = (Method::PUT, place.clone(), source.clone());
    let with = |name: &str, value: Value| {
        let mut other = source.clone();
        other[name] = value;
        (Method::PUT, place.clone(), other)
    };
    let gone = (Method::DELETE, place.clone(), json!({}));
    plant(
        world,
        "a missing document",
        "is missing",
        [gone, back.clone()],
    )
    .await;
    let seq = source["_tributary_seq"].as_u64().unwrap();
    let stale = with("_tributary_seq", json!(seq - 1));
    plant(world, "a stale document", "version", [stale, back.clone()]).await;
    let changed = with("name", json!("planted"));
    plant(
        world,
        "a changed field",
        "field name",
        [changed, back.clone()],
    )
    .await;
    let more = with("more", json!(1));
    plant(world, "a further field", "field more", [more, back]).await;
    let extra = format!("{engine}/{alias}/_doc/9999999");
    let requests = [
        (Method::PUT, extra.clone(), source.clone()),
        (Method::DELETE, extra, json!({})),
    ];
    plant(
        world,
        "an extra document",
        "9999999 should be gone",
        requests,
    )
    .await;
    let orphan = format!("{engine}/{alias}.old-000009");
    let requests = [
        (
            Method::PUT,
            orphan.clone(),
            json!({"aliases": {(format!("{alias}.old")): {"is_write_index": true}}}),
        ),
        (Method::DELETE, orphan, json!({})),
    ];
    plant(world, "an orphan index", "is nobody's", requests).await;
    let name = format!("{engine}/{index}/_alias/{alias}.claim");
    let requests = [
        (Method::PUT, name.clone(), json!({})),
        (Method::DELETE, name, json!({})),
    ];
    plant(world, "an orphan alias", "has the aliases", requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn short_histories_arrive_and_what_is_planted_is_found() {
    let stack = Arc::new(Stack::from_env().unwrap());
    let [first, second] =
        SEEDS.map(|seed| tokio::spawn(super::run(Arc::clone(&stack), seed, true)));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let ((mut first, _), (second, _)) = (first.unwrap(), second.unwrap());
    plant_all(&mut first, stack.search_url()).await;
    assert_eq!(first.compare().await.unwrap(), [""; 0]);
    for world in [first, second] {
        world.remove().await.unwrap();
    }
}
