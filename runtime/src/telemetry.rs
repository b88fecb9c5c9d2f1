//! Logs, metrics, and what describes the process itself.

mod process;
mod terminal;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::{Error, Problem, Result};

pub use terminal::{Bar, Bars};

/// Bounds of the buckets of histograms in seconds: from a request on the same host to a long outage.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];
/// Bounds of the buckets of histograms in bytes: 256 B to 64 MiB.
const BYTES: [f64; 10] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Bounds of the buckets of histograms in rows.
const ROWS: [f64; 11] = [
    1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 50_000.0, 100_000.0,
];

/// What kind of metric a [`Metric`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution; its buckets follow from the unit that the name ends in (`_seconds`, `_bytes`, `_rows`).
    Histogram,
}

/// The description of one metric. The crate that records a metric owns its name as a constant and describes
/// all of them once, at start, with [`describe`].
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The full name, `tributary_source_events_total`; the unit stands last (before `_total`).
    pub name: &'static str,
    /// What kind it is.
    pub kind: MetricKind,
    /// One sentence for the person who reads `/metrics`.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: MetricKind::Counter,
            help,
        }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: MetricKind::Gauge,
            help,
        }
    }

    /// A histogram.
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: MetricKind::Histogram,
            help,
        }
    }
}

/// Describes metrics to the installed recorder.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Sends log lines to stderr from here on. `RUST_LOG` goes before the configured level.
///
/// # Errors
/// The level is not one; nothing is set up then.
pub fn init_logging(config: &LogConfig) -> Result<(), Problem> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => EnvFilter::try_new(&level)
            .map_err(|error| Problem::new(format!("RUST_LOG: {error}")))?,
        _ => config.filter()?,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| terminal::Stderr);
    if config.format == LogFormat::Text {
        terminal::use_terminal();
    }
    // An error says that a test has set up its own before: that one stays.
    let _ = match config.format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The metrics of the process, as `/metrics` shows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    service: &'static str,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes a recorder and installs it for the whole process.
    ///
    /// # Errors
    /// One is installed already.
    pub fn install(service: &'static str) -> Result<Self> {
        let (metrics, recorder) = Self::with_recorder(service)?;
        metrics::set_global_recorder(recorder)
            .map_err(|_| Error::stop_msg("a recorder of metrics is installed already"))?;
        Ok(metrics)
    }

    /// A recorder that is not installed, for [`metrics::with_local_recorder`].
    ///
    /// # Errors
    /// None that can occur: the buckets are constants.
    pub fn with_recorder(service: &'static str) -> Result<(Self, PrometheusRecorder)> {
        let recorder = recorder().map_err(Error::stop)?;
        let handle = recorder.handle();
        Ok((Self { service, handle }, recorder))
    }

    /// Everything in Prometheus' text format, the process' own figures read now.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        process::render(&mut text, self.service);
        text
    }

    /// Puts the samples of histograms into their buckets. Until then each takes memory, so this has to run
    /// every few seconds even where nobody reads `/metrics`.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let unit = |suffix: &str| Matcher::Suffix(suffix.to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(unit("_seconds"), &SECONDS)?
        .set_buckets_for_metric(unit("_bytes"), &BYTES)?
        .set_buckets_for_metric(unit("_rows"), &ROWS)?
        .build_recorder())
}

#[cfg(test)]
mod tests {
    use super::{Metric, Metrics, describe};

    const EVENTS: &str = "tributary_test_events_total";
    const DELAY: &str = "tributary_test_delay_seconds";

    #[test]
    fn metrics_are_described_and_have_buckets() {
        let (metrics, recorder) = Metrics::with_recorder("tributary-test").unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe(&[
                Metric::counter(EVENTS, "Events seen."),
                Metric::histogram(DELAY, "Time between."),
            ]);
            metrics::counter!(EVENTS, "table" => "sales.order").increment(3);
            metrics::histogram!(DELAY).record(0.3);
        });
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "# HELP tributary_test_events_total Events seen.",
            "# TYPE tributary_test_events_total counter",
            "tributary_test_events_total{table=\"sales.order\"} 3",
            "tributary_test_delay_seconds_bucket{le=\"0.25\"} 0",
            "tributary_test_delay_seconds_bucket{le=\"0.5\"} 1",
            "tributary_build_info{service=\"tributary-test\",version=\"0.1.0\"} 1",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing in\n{text}"
            );
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
