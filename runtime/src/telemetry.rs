//! Logs, metrics, and what describes the process itself.

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
