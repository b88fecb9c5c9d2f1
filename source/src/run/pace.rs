//! How often it is looked whether something has changed of which nobody tells.

use std::time::Duration;

/// Looks cost 1 % of a core: each is followed by a pause of so many times what it took.
const PAUSE_TO_LOOK: u32 = 100;

/// The pause behind a look. `longest` bounds it, for on a busy machine, or where a server does not answer, a look takes far
/// longer than it costs, and what changes must not go unseen for minutes by that; `shortest` counts before that.
pub(crate) fn pause_behind(cost: Duration, shortest: Duration, longest: Duration) -> Duration {
    shortest.max(longest.min(cost.saturating_mul(PAUSE_TO_LOOK)))
}

#[cfg(test)]
mod tests {
    use super::{Duration, pause_behind};

    #[test]
    fn a_pause_is_a_hundred_times_the_look_within_its_bounds() {
        let pause = |cost_ms, shortest_s, longest_s| {
            let seconds = Duration::from_secs;
            pause_behind(
                Duration::from_millis(cost_ms),
                seconds(shortest_s),
                seconds(longest_s),
            )
        };
        assert_eq!(pause(1, 5, 60), Duration::from_secs(5));
        assert_eq!(pause(100, 5, 60), Duration::from_secs(10));
        assert_eq!(pause(30_000, 5, 60), Duration::from_secs(60));
        assert_eq!(pause(30_000, 3_600, 60), Duration::from_secs(3_600));
    }
}
