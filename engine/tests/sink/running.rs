//! Sinks that run in the background of a test.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_engine::{SinkConfig, Target};
use tributary_runtime::cli::{self, Context};
use tributary_runtime::health::Health;
use tributary_runtime::health::server::Server;
use tributary_runtime::shutdown::Gate;
use tributary_runtime::telemetry::Metrics;
use tributary_runtime::{Error, Result};

/// A sink that runs in the background.
pub(crate) struct Running {
    task: JoinHandle<Result<()>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) health: Health,
}

/// Starts a sink.
pub(crate) fn start(config: SinkConfig, target: impl Target) -> Running {
    let context = Context {
        shutdown: CancellationToken::new(),
        health: Health::new(),
        gate: Gate::new(),
    };
    let (shutdown, health) = (context.shutdown.clone(), context.health.clone());
    let task = tokio::spawn(async move { tributary_engine::run(config, target, &context).await });
    Running {
        task,
        shutdown,
        health,
    }
}

impl Running {
    /// Serves HTTP for it from now on, as a service does; where.
    pub(crate) async fn serve(&self) -> cli::Running {
        let (metrics, _) = Metrics::with_recorder("loop-test").unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind("loop-test", listen, self.health.clone(), metrics);
        let server = server.await.unwrap();
        let address = server.address().to_string();
        tokio::spawn(server.serve());
        cli::Running::at(address)
    }

    /// Waits until it is ready, in a phase; panics after a minute.
    pub(crate) async fn until_phase(&self, phase: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.health.not_ready().is_some() || self.health.phase() != phase {
            let (now, reason) = (self.health.phase(), self.health.not_ready());
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "not ready and {phase}: {now}, {reason:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/ready` says that this is in the way of these; panics after a minute.
    pub(crate) async fn until_not_ready(&self, who: &str, what: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let reason = self.health.not_ready().unwrap_or_default();
            if reason.starts_with(who) && reason.contains(what) {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{who}: {what}: {reason}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until `status` says of a topic what is wanted; panics after a minute.
    pub(crate) async fn until_topic(
        &self,
        topic: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let details = self.health.details();
            let topics = details["topics"].as_array().into_iter().flatten();
            let mut found = topics.filter(|found| found["topic"] == topic);
            if let Some(found) = found.find(|found| wanted(found)) {
                return found.clone();
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{topic}: {what}: {details}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it in an orderly way.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
    }

    /// Waits until it stops by itself.
    pub(crate) async fn stops(self) -> Error {
        self.ended().await.unwrap_err()
    }

    async fn ended(self) -> Result<()> {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        ended.expect("the sink ends within a minute").unwrap()
    }
}
