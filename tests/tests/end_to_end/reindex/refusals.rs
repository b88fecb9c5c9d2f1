//! What a reindex does not do, and what it says then.

use std::io::Read as _;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::PATIENCE;
use super::stage::{Done, Stage, ended};

/// What one has begun is left to it by others; what it has left, one of them alone goes on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_of_one_index_one_goes_on() {
    let stack = Stack::from_env().unwrap();
    let tables = ["s.a", "s.b", "s.c"];
    let stage = Stage::set(&stack, "reindex_two", &tables, 1_500).await;
    tokio::join!(
        a_second_one_is_refused_while_the_first_one_runs_and_what_it_has_begun_can_be_abandoned(
            &stage, "s.a"
        ),
        those_that_wait_for_one_which_ends_then_do_nothing(&stage, "s.b"),
        of_two_that_go_on_with_the_same_the_earlier_one_stops(&stage, "s.c"),
    );
    for (table, number) in [("s.a", 1), ("s.b", 2), ("s.c", 2)] {
        stage
            .run(&format!("UPDATE {table} SET v = 3 WHERE id <= 1000"))
            .await;
        stage.until_equal(table).await;
        stage.assert_cleared(table, number).await;
    }
}

async fn a_second_one_is_refused_while_the_first_one_runs_and_what_it_has_begun_can_be_abandoned(
    stage: &Stage,
    table: &str,
) {
    let (mut first, _) = held(stage, table, "reindex-reading").await;
    let (second, third) = tokio::join!(
        stage.reindex(table, &[]),
        stage.reindex(table, &["--abandon", "--yes"])
    );
    for refused in [second, third] {
        assert_eq!(refused.code, 1, "{}", refused.errors);
        for expected in ["another reindex of", "to do: "] {
            assert!(refused.errors.contains(expected), "{}", refused.errors);
        }
    }
    first.kill().unwrap();
    first.wait().unwrap();

    let plan = stage.reindex(table, &["--abandon"]).await;
    assert_eq!(plan.code, 5, "{}", plan.errors);
    assert_eq!(plan.json["deletes"], json!([stage.index(table, 2)]));
    let abandoned = stage.reindex(table, &["--abandon", "--yes"]).await;
    assert_eq!(abandoned.code, 0, "{}", abandoned.errors);
    let again = stage.reindex(table, &["--abandon", "--yes"]).await;
    assert_eq!(
        (again.code, &again.json["deletes"]),
        (0, &json!([])),
        "{}",
        again.errors
    );
}

/// They have seen what there was before it moved the alias.
async fn those_that_wait_for_one_which_ends_then_do_nothing(stage: &Stage, table: &str) {
    let (first, pause) = held(stage, table, "reindex-reading").await;
    let mut second = stage.start(table, &[], &[]);
    let mut third = stage.start(table, &["--abandon", "--yes"], &[]);
    for waiting in [&mut second, &mut third] {
        until_said(waiting, "whether it still runs");
    }
    std::fs::remove_file(pause).unwrap();
    let (first, second, third) = tokio::join!(ended(first), ended(second), ended(third));
    assert_eq!(first.code, 0, "{}", first.errors);
    assert_eq!(second.code, 1, "{}", second.errors);
    // On a slow machine it is still under way when they have waited long enough.
    let others = "another reindex of '";
    assert!(second.errors.contains(others), "{}", second.errors);
    let is_refused = [others, "there is nothing to abandon"]
        .iter()
        .any(|words| third.errors.contains(words));
    assert!(
        is_refused || third.json["deletes"] == json!([]),
        "{}",
        third.errors
    );
}

/// Both have seen that nobody is at it.
async fn of_two_that_go_on_with_the_same_the_earlier_one_stops(stage: &Stage, table: &str) {
    let armed = [("TRIBUTARY_FAILPOINT", "reindex-created")];
    let killed = ended(stage.start(table, &[], &armed)).await;
    assert_eq!(killed.code, -1, "{}", killed.errors);
    let (later, later_goes_on) = held(stage, table, "reindex-found").await;
    let (earlier, earlier_goes_on) = held(stage, table, "reindex-reading").await;
    std::fs::remove_file(later_goes_on).unwrap();
    stage.until_shared(&stage.index(table, 2)).await;
    std::fs::remove_file(earlier_goes_on).unwrap();
    let (earlier, later) = tokio::join!(ended_in_time(earlier), ended_in_time(later));
    assert_eq!(earlier.code, 1, "{}", earlier.errors);
    assert!(
        earlier.errors.contains("another reindex goes on with"),
        "{}",
        earlier.errors
    );
    assert_eq!(later.code, 0, "{}", later.errors);
}

/// One that waits at this place until the file goes.
async fn held(stage: &Stage, table: &str, place: &str) -> (Child, String) {
    let pause = stage.file(&format!("{table}-{place}"), &json!("here"));
    let paused = format!("{place}:{pause}");
    let mut child = stage.start(table, &[], &[("TRIBUTARY_PAUSE", &paused)]);
    let begun = Instant::now();
    while !std::fs::exists(format!("{pause}.held")).unwrap() {
        let lives = child.try_wait().unwrap().is_none();
        assert!(begun.elapsed() < PATIENCE && lives, "{table} at {place}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (child, pause)
}

/// Reads what it says on stderr up to this.
fn until_said(child: &mut Child, words: &str) {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(words.as_bytes()) {
        let read = child.stderr.as_mut().unwrap().read(&mut byte).unwrap();
        let text = String::from_utf8_lossy(&said);
        assert_eq!(read, 1, "no '{words}' in: {text}");
        said.extend(byte);
    }
}

/// As [`ended`]; what does not end is killed.
async fn ended_in_time(mut child: Child) -> Done {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ended(child).await
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
