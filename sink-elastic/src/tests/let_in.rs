//! An engine that for a while does not know who asks, although it did before: its index of users is not there.

use tributary_runtime::Policy;

use super::fixture::Fixture;
use super::wire::{Act, Wire};
use crate::config::ElasticConfig;
use crate::lane::Elastic;

/// As Elasticsearch 9.5 answers.
const UNKNOWN: &str = r#"{"error":{"root_cause":[],"type":"security_exception","reason":"unable to authenticate user [tributary] for REST request [/]"},"status":401}"#;

#[tokio::test]
async fn who_was_let_in_before_is_tried_again() {
    let mut fixture = Fixture::new();
    let wire = Wire::start(&fixture.url).await;
    let login = format!(
        "url = \"{}\"\nusername = \"tributary\"\npassword = \"secret\"",
        wire.url
    );
    let mut login: ElasticConfig = toml::from_str(&login).unwrap();
    login.number_of_replicas = Some(0);
    fixture.elastic = Elastic::new(login).unwrap();
    wire.fails(|_| Act::Answer(401, UNKNOWN));
    let error = fixture.open().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Stop, "{error}");

    wire.mend();
    fixture.open().await.unwrap();
    wire.fails(|_| Act::Answer(401, UNKNOWN));
    for _ in 0..2 {
        let error = fixture.open().await.unwrap_err();
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        assert!(
            error.to_string().contains("unable to authenticate"),
            "{error}"
        );
    }
    wire.mend();
    fixture.open().await.unwrap();
    fixture.finish().await;
}
