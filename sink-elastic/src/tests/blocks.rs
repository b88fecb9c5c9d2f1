//! Blocks of the whole cluster, which the engine that the tests share cannot have.

use tributary_engine::Lane as _;
use tributary_runtime::Policy;

use super::fixture::{Fixture, config, mark, service};
use super::wire::{Act, Wire};
use crate::check;
use crate::lane::Elastic;

/// As OpenSearch 3.8 answers.
const NO_INDICES: &str = r#"{"error":{"root_cause":[],"type":"index_create_block_exception","reason":"blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];"},"status":403}"#;
const READ_ONLY: &str = r#"{"error":{"root_cause":[],"type":"cluster_block_exception","reason":"index [t-000001] blocked by: [FORBIDDEN/5/index read-only (api)];"},"status":403}"#;
const SETTINGS: &str = r#"{"persistent":{},"transient":{"cluster.blocks.create_index":"true"}}"#;

#[tokio::test]
async fn a_block_on_making_indices_is_waited_out() {
    let mut fixture = Fixture::new();
    let wire = Wire::start(&fixture.url).await;
    fixture.elastic = Elastic::new(config(&wire.url)).unwrap();
    wire.fails({
        let index = format!("/{}", fixture.first_index());
        move |asked| match asked.path.as_str() {
            path if path.starts_with(&index) => Act::Answer(403, NO_INDICES),
            path if path.starts_with("/_cluster/settings") => Act::Answer(200, SETTINGS),
            _ => Act::Pass,
        }
    });
    let lane = fixture.lane().await;
    let error = lane.begin(&mark("first")).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    let lifts = r#"PUT /_cluster/settings {"persistent": {"cluster.blocks.create_index": null}}"#;
    assert!(error.remedy_text().unwrap().ends_with(lifts), "{error}");

    let config = service(&format!("{:?}", wire.url));
    let problems = check::engine(&config).await;
    let is_told =
        |problem: &tributary_runtime::Problem| problem.what.contains("cluster.blocks.create_index");
    assert!(problems.iter().any(is_told), "{problems:?}");

    wire.mend();
    lane.begin(&mark("first")).await.unwrap();
    fixture.finish().await;
}

#[tokio::test]
async fn the_index_that_is_blocked_is_named_whatever_was_asked() {
    let wire = Wire::start("http://127.0.0.1:1").await;
    wire.fails(|_| Act::Answer(403, READ_ONLY));
    let client = crate::client::Client::new(&config(&wire.url)).unwrap();
    let content = crate::client::Content::Nothing;
    let sent = client
        .send(reqwest::Method::POST, &["_aliases"], &[], content)
        .await;
    let error = sent.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("writes to 't-000001' are blocked"),
        "{error}"
    );
    assert!(
        error
            .remedy_text()
            .unwrap()
            .contains("PUT /t-000001/_settings"),
        "{error}"
    );
}
