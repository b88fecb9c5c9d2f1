//! A service has an index built again that cannot take what a column has become.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::PATIENCE;
use super::stage::Stage;

fn with_options(config: &str) -> String {
    let source = config.replace(
        "[postgres]\n",
        "[postgres]\non_type_change = \"resnapshot\"\n",
    );
    source.replace(
        "[elasticsearch]\n",
        "[elasticsearch]\non_unfit_mapping = \"reindex\"\n",
    )
}

/// Waits until the sink's status has this warning.
async fn until_warned(sink: &Service, words: &str) {
    until_status(sink, words, true).await;
}

/// Waits until the sink's status has these words, or has them no more.
async fn until_status(sink: &Service, words: &str, is_there: bool) {
    let begun = Instant::now();
    loop {
        let status = sink
            .get("/status")
            .map_or_else(|_| String::new(), |(_, body)| body);
        if !status.is_empty() && status.contains(words) == is_there {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "'{words}' in {status}\n{}",
            sink.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until_held(file: &Path) {
    let (held, begun) = (file.with_added_extension("held"), Instant::now());
    while !held.exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing is read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The first instance dies while the index is read into, and the second one goes on. What the index takes is written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_an_outgrown_index_built_again_by_one_instance_at_a_time() {
    let stack = Stack::from_env().unwrap();
    let tables: (&[&str], i64) = (&["s.a", "s.b"], 1_500);
    let stage = Stage::set_with(&stack, "reindex_itself", tables, with_options).await;
    stage
        .run("ALTER TABLE s.a ADD COLUMN flag boolean DEFAULT true")
        .await;
    stage.until_equal("s.a").await;
    let pause = stage.pipeline.dir().join("pause");
    fs::write(&pause, "").unwrap();
    {
        let mut first = stage.sink().await;
        first.kill().unwrap();
        first.start_paused("reindex-reading", &pause).unwrap();
        first.wait_ready(PATIENCE).unwrap();
    }

    // A boolean field refuses such texts: rows wait, and nothing stops.
    stage
        .run("ALTER TABLE s.a DROP COLUMN flag; ALTER TABLE s.a ADD COLUMN flag text DEFAULT 'no truth'")
        .await;
    until_held(&pause).await;
    until_warned(
        &*stage.sink().await,
        "is built again, by the service itself",
    )
    .await;
    stage.run("UPDATE s.b SET v = 7 WHERE id = 3").await;
    stage.until_equal("s.b").await;
    let config = with_options(&stage.pipeline.sink_config(Kind::SinkElastic));
    let mut second = stage
        .pipeline
        .service(Kind::SinkElastic, "second", &config)
        .unwrap();
    second.start().unwrap();
    until_warned(&second, "is built again, by another instance").await;

    stage.sink().await.kill().unwrap();
    fs::remove_file(&pause).unwrap();
    until_warned(&second, "by the service itself").await;
    stage.until_equal("s.a").await;
    stage.until_cleared("s.a", 2).await;
    let log = second.log();
    assert!(log.contains("goes on with '"), "{log}");
    let mapping = stage.get(&format!("/{}", stage.index("s.a", 2))).await;
    let flag = mapping.pointer(&format!(
        "/{}/mappings/properties/flag/type",
        stage.index("s.a", 2)
    ));
    assert_eq!(flag.unwrap(), "text");

    // An integer field keeps such texts without a search finding them: nothing waits, and it is built again all the same.
    stage
        .run("ALTER TABLE s.b ALTER v TYPE text USING 'v' || v")
        .await;
    stage.until_cleared("s.b", 2).await;
    stage.until_equal("s.b").await;
    assert!(second.is_running().unwrap());
    until_status(&second, "built again", false).await;
}
