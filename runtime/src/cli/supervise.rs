//! Runs a service between its start and its last word: signals, health, and the bound on the shutdown.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;

use super::service::{Context, Service};
use crate::config::Settings;
use crate::health::Health;
use crate::health::server::Server;
use crate::shutdown::Gate;
use crate::telemetry::Metrics;
use crate::{Error, Result};

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// By itself, or in an orderly way after a signal.
    Done,
    /// By an error.
    Failed(Error),
    /// Before it had finished what it had begun.
    CutOff(Error),
}

/// SIGTERM and SIGINT by name, as they arrive.
pub(super) fn signals() -> Result<mpsc::Receiver<&'static str>> {
    let listen = |kind: SignalKind| {
        signal(kind).map_err(|error| Error::stop(error).context("listen for signals"))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if sender.send(name).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Runs the service until it ends or a signal comes, then gives it `shutdown_timeout_ms` to end.
pub(super) async fn run<S: Service>(
    settings: Settings,
    config: S::Config,
    metrics: Metrics,
    mut signals: mpsc::Receiver<&'static str>,
) -> Ending {
    let context = Context {
        shutdown: CancellationToken::new(),
        health: Health::new(),
        gate: Gate::new(),
    };
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, S::DEFAULT_PORT));
    let listen = settings.http.listen.unwrap_or(default);
    let server = Server::bind(S::NAME, listen, context.health.clone(), metrics);
    let server = match server.await {
        Ok(server) => server,
        Err(error) => return Ending::Failed(error),
    };
    tracing::info!(
        service = S::NAME,
        version = env!("CARGO_PKG_VERSION"),
        http.listen = %server.address(),
        "started"
    );
    let _serving = AbortOnDrop(tokio::spawn(server.serve()).abort_handle());

    let mut running = tokio::spawn(S::run(config, context.clone()));
    let mut ended = tokio::select! {
        ended = &mut running => Some(outcome(ended)),
        Some(name) = signals.recv() => {
            tracing::info!(signal = name, "stopping");
            None
        }
    };
    context.health.set_stopping();
    context.shutdown.cancel();
    let finish = async {
        if ended.is_none() {
            ended = Some(outcome((&mut running).await));
        }
        context.gate.close().await;
    };
    let limit = settings.shutdown_timeout();
    let late = tokio::select! {
        () = finish => None,
        () = tokio::time::sleep(limit) => Some(too_slow(limit)),
        Some(name) = signals.recv() => Some(format!("a second signal ({name}) ended the shutdown")),
    };
    running.abort();
    let late = late.map(|why| cut_off(&why, &context.gate));
    match (ended, late) {
        (Some(Err(error)), late) => {
            if let Some(late) = late {
                tracing::warn!("{late}");
            }
            Ending::Failed(error)
        }
        (_, Some(late)) => Ending::CutOff(late),
        (_, None) => Ending::Done,
    }
}

fn too_slow(limit: Duration) -> String {
    let milliseconds = limit.as_millis();
    format!("the shutdown did not end within shutdown_timeout_ms = {milliseconds}")
}

fn cut_off(why: &str, gate: &Gate) -> Error {
    let inside = gate.inside();
    let inside = if inside.is_empty() {
        String::new()
    } else {
        format!(", still at work: {}", inside.join(", "))
    };
    Error::stop_msg(format_args!("{why}{inside}")).remedy(
        "nothing is lost, the next start continues where the log ends; raise shutdown_timeout_ms if \
         this happens often",
    )
}

/// What the service returned. That a shutdown ended a wait is no error.
fn outcome(ended: Result<Result<()>, JoinError>) -> Result<()> {
    match ended {
        Ok(Err(error)) if error.is_interrupted() => Ok(()),
        Ok(result) => result,
        Err(_) => Err(Error::stop_msg(
            "the service panicked: this is a defect, its message stands above",
        )),
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
