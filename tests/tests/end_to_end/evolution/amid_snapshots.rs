//! Each statement that gives old rows other values, when some of its table's rows are read for the first time and some are
//! not.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tributary_tests::statements::Statement;

use super::every_statement::Every;
use super::stage::{PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_is_followed_amid_the_first_snapshot() {
    let mut every = page_by_page("amid_first").await;
    let mut steps = Steps::begin(&mut every.stage, "snapshot-reading");
    steps.run_each_amid_its_table(&every).await;
    every.stage.source.wait_ready(PATIENCE).unwrap();
    every.run(|statement| statement.insert(101, 101)).await;
    every.converge().await;
}

/// A first snapshot that a signal has ended goes on there, also behind a kill.
#[tokio::test(flavor = "multi_thread")]
async fn each_statement_is_followed_amid_the_first_snapshot_beside_the_stream() {
    let mut every = page_by_page("amid_beside").await;
    let steps = Steps::begin(&mut every.stage, "snapshot-reading");
    steps.place(&every.stage).await;
    ask(&every.stage, "pause");
    every
        .stage
        .logs("the first snapshot goes on beside the stream", 1)
        .await;
    every.stage.source.wait_ready(PATIENCE).unwrap();
    every.stage.source.kill().unwrap();
    let mut steps = Steps::begin(&mut every.stage, "chunk-locking");
    ask(&every.stage, "resume");
    steps.run_each_amid_its_table(&every).await;
    every.run(|statement| statement.insert(101, 101)).await;
    every.converge().await;
}

/// Every table has more pages than one, and they are read one by one.
async fn page_by_page(name: &str) -> Every {
    let every = Every::set(name, |_| true, false).await;
    let pages = "[snapshot]\nworkers = 1\nchunk_pages = 1\n[kafka]\n";
    every.stage.configure("[kafka]\n", pages);
    every
}

fn ask(stage: &Stage, action: &str) {
    let (code, out, err) = stage.source.command(&["snapshot", action]).unwrap();
    assert_eq!(code, 0, "{out}{err}");
}

/// A source that waits before each range that it reads.
struct Steps {
    /// What it says is how many were let pass.
    file: PathBuf,
    passed: usize,
}

impl Steps {
    fn begin(stage: &mut Stage, pause: &str) -> Self {
        let file = stage.pipeline.dir().join(pause);
        std::fs::write(&file, "0").unwrap();
        stage.source.start_paused(pause, &file).unwrap();
        Self { file, passed: 0 }
    }

    /// Waits until it waits; the table that it is about to read.
    async fn place(&self, stage: &Stage) -> String {
        let held = self.file.with_added_extension("held");
        let begins = format!("{} ", self.passed);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = std::fs::read_to_string(&held).unwrap_or_default();
            let line = line.strip_suffix('\n');
            if let Some(place) = line.and_then(|line| line.strip_prefix(&begins)) {
                return place.to_owned();
            }
            let log = stage.source.log_tail();
            assert!(Instant::now() < deadline, "{begins}is not held:\n{log}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets it pass one.
    fn pass(&mut self) {
        self.passed += 1;
        let next = self.file.with_added_extension("next");
        std::fs::write(&next, self.passed.to_string()).unwrap();
        std::fs::rename(&next, &self.file).unwrap();
    }

    /// Runs each statement once the first range of its table is read, and another one is about to be; then lets the source
    /// read on.
    async fn run_each_amid_its_table(&mut self, every: &Every) {
        let mut left = every.statements.clone();
        let mut last = String::new();
        while !left.is_empty() {
            let place = self.place(&every.stage).await;
            let is_amid = |statement: &Statement| place == last && statement.table() == place;
            if let Some(at) = left.iter().position(is_amid) {
                every.stage.run(&left.remove(at).alone()).await;
            }
            last = place;
            self.pass();
        }
        std::fs::remove_file(&self.file).unwrap();
    }
}
