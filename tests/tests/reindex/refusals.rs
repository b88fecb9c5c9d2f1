//! What a reindex does not do, and what it says then.

use std::time::{Duration, Instant};

use serde_json::json;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::PATIENCE;
use super::stage::{Stage, ended};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_one_is_refused_while_the_first_one_runs_and_what_it_has_begun_can_be_abandoned() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_two", &["s.a"], 1_500).await;
    let pause = stage.file("pause", &json!("here"));
    let held = format!("{pause}.held");
    let paused = format!("reindex-reading:{pause}");
    let mut first = stage.start("s.a", &[], &[("TRIBUTARY_PAUSE", &paused)]);
    let begun = Instant::now();
    while !std::fs::exists(&held).unwrap() {
        assert!(begun.elapsed() < PATIENCE && first.try_wait().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (second, third) = tokio::join!(
        stage.reindex("s.a", &[]),
        stage.reindex("s.a", &["--abandon", "--yes"])
    );
    for refused in [second, third] {
        assert_eq!(refused.code, 1, "{}", refused.errors);
        for expected in ["another reindex of", "to do: "] {
            assert!(refused.errors.contains(expected), "{}", refused.errors);
        }
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let plan = stage.reindex("s.a", &["--abandon"]).await;
    assert_eq!(plan.code, 5, "{}", plan.errors);
    assert_eq!(plan.json["deletes"], json!([stage.index("s.a", 2)]));
    let abandoned = stage.reindex("s.a", &["--abandon", "--yes"]).await;
    assert_eq!(abandoned.code, 0, "{}", abandoned.errors);
    stage.assert_cleared("s.a", 1).await;
    let again = stage.reindex("s.a", &["--abandon", "--yes"]).await;
    assert_eq!(
        (again.code, &again.json["deletes"]),
        (0, &json!([])),
        "{}",
        again.errors
    );
    stage.run("UPDATE s.a SET v = 3").await;
    stage.until_equal("s.a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_refused() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_none", &["s.a"], 10).await;
    let config = stage.pipeline.elastic_config("refused", "none-");
    let service = stage
        .pipeline
        .service(Kind::SinkElastic, "refused", &config)
        .unwrap();
    let topic = stage.pipeline.topic("s.a");
    let (code, _, errors) = service.command(&["reindex", "--topic", &topic]).unwrap();
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("there is no alias 'none-"), "{errors}");
    let unknown = stage.reindex("s.unknown", &[]).await;
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.errors.contains("there is no topic"),
        "{}",
        unknown.errors
    );
}

/// Rows that only the old index has stop the move of the alias, and the old one is written to again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_with_fewer_documents_is_not_put_in_place_unless_that_is_said_to_be_right() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "reindex_count", &["s.a"], 20).await;
    for number in 0..200 {
        let path = format!("/{}/_doc/stray{number}", stage.alias_of("s.a"));
        let (status, answer) = stage
            .call(
                reqwest::Method::PUT,
                &path,
                Some(json!({"id": 9000 + number})),
            )
            .await;
        assert_eq!(status, 201, "{answer}");
    }
    let refused = stage.reindex("s.a", &[]).await;
    assert_eq!(refused.code, 1, "{}", refused.json);
    assert!(
        refused.errors.contains("--verify-counts false"),
        "{}",
        refused.errors
    );
    stage.run("INSERT INTO s.a VALUES (21, 0, 'x')").await;
    let begun = Instant::now();
    let path = format!("/{}/_doc/21", stage.index("s.a", 1));
    while stage.call(reqwest::Method::GET, &path, None).await.0 != 200 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done = ended(stage.start("s.a", &["--verify-counts", "false"], &[])).await;
    assert_eq!(done.code, 0, "{}", done.errors);
    stage.until_equal("s.a").await;
    stage.assert_cleared("s.a", 2).await;
}
