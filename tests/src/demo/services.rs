//! The three services of the demo.

use std::time::Duration;

use anyhow::{Result, bail};

use super::board::{detail, grouped, say};
use crate::pipeline::Pipeline;
use crate::service::Service;

/// How long a service may take to end in an orderly way.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// Source, search sink and warehouse sink. Dropping them kills the processes.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) source: Service,
    pub(super) elastic: Service,
    pub(super) redshift: Service,
}

impl Services {
    /// Starts all three, sinks first: they wait for their topics.
    ///
    /// # Errors
    /// A binary is not built.
    pub(super) fn start(pipeline: &Pipeline) -> Result<Self> {
        let [source, elastic, redshift] = pipeline.services()?;
        let mut services = Self {
            source,
            elastic,
            redshift,
        };
        for service in services.each() {
            service.start()?;
        }
        Ok(services)
    }

    pub(super) const fn each(&mut self) -> [&mut Service; 3] {
        [&mut self.source, &mut self.elastic, &mut self.redshift]
    }

    /// The ids of the processes that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        [&self.source, &self.elastic, &self.redshift]
            .into_iter()
            .filter_map(Service::pid)
            .collect()
    }

    /// # Errors
    /// One of them has ended, with the end of its log.
    pub(super) fn alive(&mut self) -> Result<()> {
        for service in self.each() {
            if !service.is_running()? {
                bail!(
                    "{} has ended; its log ends:\n{}",
                    service.kind(),
                    service.log_tail()
                );
            }
        }
        Ok(())
    }

    /// A metric of the source as a whole number; 0 before it is first recorded.
    pub(super) fn of_source(&self, name: &str) -> u64 {
        whole(self.source.metric(name))
    }

    /// Offsets by which search and warehouse sink are behind the log.
    pub(super) fn behind(&self) -> [u64; 2] {
        [&self.elastic, &self.redshift].map(|sink| whole(sink.metric("tributary_sink_lag_offsets")))
    }

    /// Prints what each of them has used so far.
    ///
    /// # Errors
    /// A process does not run.
    pub(super) fn show_usage(&mut self) -> Result<()> {
        say("what the services have used since their start:");
        for service in self.each() {
            detail(format_args!(
                "{:<24} {:>6.1} MB memory at the peak, {:>6.1} s CPU",
                service.kind().to_string(),
                megabytes(service.peak_resident_bytes()?),
                service.cpu_seconds()?
            ));
        }
        Ok(())
    }

    /// Ends all three by SIGTERM.
    ///
    /// # Errors
    /// One takes too long, or reports an error.
    pub(super) fn stop(&mut self) -> Result<()> {
        for service in self.each() {
            let status = service.stop(STOP_LIMIT)?;
            if !status.success() {
                bail!(
                    "{} has ended with {status}; its log ends:\n{}",
                    service.kind(),
                    service.log_tail()
                );
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of rows and records"
)]
fn whole(metric: Option<f64>) -> u64 {
    match metric {
        // A sink does not know it.
        Some(metric) if metric.is_nan() => u64::MAX,
        metric => metric.unwrap_or_default().max(0.0) as u64,
    }
}

/// Rows a second; 0 in no time.
pub(super) fn rate(rows: u64, time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    grouped(rows * 1000 / millis.max(1))
}
