//! Each statement that gives old rows other values, in each situation: see [`tributary_tests::statements`].

use tributary_tests::service::{Kind, Service};
use tributary_tests::statements::{Changes, EACH, Statement, Topics, create};

use super::stage::{PATIENCE, Stage};

/// So that nobody waits for the watch, nor for a person.
const CONFIG: &str = "on_type_change = \"resnapshot\"\nwatch_interval_ms = 200";

/// What the log says when the watch has found such a statement.
const FOUND: &str = "reading all rows of the table";

/// A source of their tables.
pub(crate) struct Every {
    pub(crate) stage: Stage,
    pub(crate) statements: Vec<Statement>,
    topics: Topics,
}

impl Every {
    /// Tables of the statements that `kept` keeps, as partitioned ones where `partitioned` is; the source is not started.
    pub(crate) async fn set(
        name: &str,
        kept: impl Fn(&Statement) -> bool,
        partitioned: bool,
    ) -> Self {
        let statements: Vec<Statement> = EACH.into_iter().filter(kept).collect();
        let stage = Stage::set(name, &create(&statements, partitioned), CONFIG).await;
        Self {
            topics: Topics::new(stage.reader(), stage.pipeline.prefix()),
            stage,
            statements,
        }
    }

    async fn begin(name: &str, kept: impl Fn(&Statement) -> bool, partitioned: bool) -> Self {
        let mut every = Self::set(name, kept, partitioned).await;
        every.start();
        every.converge().await;
        every
    }

    pub(crate) fn start(&mut self) {
        self.stage.source.start().unwrap();
        self.stage.source.wait_ready(PATIENCE).unwrap();
    }

    /// Runs the same for each.
    pub(crate) async fn run(&self, sql: impl Fn(&Statement) -> String) {
        for statement in &self.statements {
            self.stage.run(&sql(statement)).await;
        }
    }

    /// Runs each alone, and then rows are inserted. What is in the topic until then is not the table any more: so a
    /// statement that was not followed would be noticed.
    async fn run_alone(&mut self) {
        self.topics.read(&self.statements).await.unwrap();
        for statement in &self.statements {
            self.stage.run(&statement.alone()).await;
            let planted = self.topics.compare(&self.stage.client, statement).await;
            assert_ne!(planted.unwrap(), Vec::<String>::new(), "{statement:?}");
            self.stage.run(&statement.insert(101, 101)).await;
        }
    }

    /// Waits until each topic is its table, and stays so once all is published.
    pub(crate) async fn converge(&mut self) {
        for _ in 0..2 {
            let Self {
                stage,
                statements,
                topics,
            } = self;
            let converged = topics.converge(&stage.client, statements, PATIENCE).await;
            converged.unwrap_or_else(|error| panic!("{error:?}\n{}", stage.source.log_tail()));
            stage.catch_up().await;
        }
    }

    /// Nobody had to help, and the source has never begun again.
    fn ran_on(&self) {
        let sessions = self.stage.source.metric("tributary_source_sessions_total");
        assert_eq!(sessions, Some(1.0), "{}", self.stage.source.log_tail());
    }

    fn sinks(&self) -> [Service; 2] {
        let pipeline = &self.stage.pipeline;
        let config = |kind| pipeline.sink_config(kind);
        [Kind::SinkElastic, Kind::SinkRedshift].map(|kind| {
            let sink = pipeline.service(kind, kind.binary(), &config(kind));
            let mut sink = sink.unwrap();
            sink.start().unwrap();
            sink
        })
    }

    /// Waits until the sinks have all that was read of the topics; then both targets are the tables.
    async fn targets_are_equal(&self, sinks: &mut [Service; 2]) {
        let pipeline = &self.stage.pipeline;
        for sink in sinks {
            let group = pipeline.group(sink.kind());
            let waited = pipeline
                .wait_sink(sink, &group, self.topics.records(), PATIENCE)
                .await;
            waited.unwrap();
        }
        let tables: Vec<String> = self.statements.iter().map(Statement::table).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let warehouse = pipeline.warehouse_differences(&tables, None).await;
        assert_eq!(warehouse.unwrap(), Vec::<String>::new());
        let search = pipeline.search_differences(&tables, "").await;
        assert_eq!(search.unwrap(), Vec::<String>::new());
    }
}

/// A target keeps the type that a column has, whatever its registry allows: those statements are for the topic alone.
#[tokio::test(flavor = "multi_thread")]
async fn each_statement_reaches_the_topic_and_both_targets() {
    let followed = |statement: &Statement| statement.changes != Changes::Type;
    let mut every = Every::begin("each_targets", followed, false).await;
    let mut sinks = every.sinks();
    every.run_alone().await;
    every.converge().await;
    every.targets_are_equal(&mut sinks).await;
    every.run(Statement::inside).await;
    every.converge().await;
    every.targets_are_equal(&mut sinks).await;
    every.ran_on();
}

/// Nobody looks while the statements run, and who looked last was killed; then who has found them is.
#[tokio::test(flavor = "multi_thread")]
async fn each_statement_is_followed_behind_a_kill() {
    let mut every = Every::begin("each_killed", |_| true, false).await;
    every.stage.source.kill().unwrap();
    every.run_alone().await;
    every.start();
    every.converge().await;
    let found = every.stage.source.log().matches(FOUND).count();
    every.run(Statement::inside).await;
    every.stage.logs(FOUND, found + 1).await;
    every.stage.source.kill().unwrap();
    every.start();
    every.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_is_followed_on_partitioned_tables() {
    let kept = |statement: &Statement| {
        statement.on_partitioned && statement.changes != Changes::Partitions
    };
    let mut every = Every::begin("each_partitioned", kept, true).await;
    every.run_alone().await;
    every.converge().await;
    every.run(Statement::inside).await;
    every.converge().await;
    every.ran_on();
}
