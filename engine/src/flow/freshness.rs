//! How long changes take from the source's commit until they are durable.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::flow::batch::Batch;
use crate::metrics::FRESHNESS;

/// Changes per batch that are measured, spread evenly over it.
const SAMPLES: usize = 64;

/// Batches whose changes are remembered until they are durable; of more, the oldest are not measured.
const BATCHES: usize = 256;

/// Commit times of accepted batches.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    waiting: VecDeque<(i64, Vec<i64>)>,
}

impl Freshness {
    /// A batch was accepted.
    pub(crate) fn accepted(&mut self, batch: &Batch) {
        let step = batch.entries.len().div_ceil(SAMPLES).max(1);
        let times = batch.entries.iter().step_by(step);
        let times: Vec<_> = times.filter_map(|entry| entry.commit_time_us).collect();
        if times.is_empty() {
            return;
        }
        if self.waiting.len() == BATCHES {
            self.waiting.pop_front();
        }
        self.waiting.push_back((batch.next_offset(), times));
    }

    /// Everything below `offset` is durable.
    pub(crate) fn durable(&mut self, offset: i64) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let histogram = metrics::histogram!(FRESHNESS);
        while let Some((_, times)) = self.waiting.pop_front_if(|(next, _)| *next <= offset) {
            for time_us in times {
                let age = now.as_secs_f64() - seconds(time_us);
                // Two clocks: what seems to come from the future is fresh.
                histogram.record(age.max(0.0));
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 fit 53 bits until 2255"
)]
fn seconds(time_us: i64) -> f64 {
    time_us as f64 / 1e6
}
