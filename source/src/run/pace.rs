//! How often something is done that costs others time: looks whether something has changed of which nobody tells, and commits.

use std::time::Duration;

/// Looks cost 1 % of a core: each is followed by a pause of so many times what it took.
const PAUSE_TO_LOOK: u32 = 100;

/// The pause behind a look. `longest` bounds it, for on a busy machine, or where a server does not answer, a look takes far
/// longer than it costs, and what changes must not go unseen for minutes by that; `shortest` counts before that.
pub(crate) fn pause_behind(cost: Duration, shortest: Duration, longest: Duration) -> Duration {
    shortest.max(longest.min(cost.saturating_mul(PAUSE_TO_LOOK)))
}

/// A commit costs the brokers time for each partition that it touches, however few records there are: on two busy cores 40 ms for 24
/// partitions (measured). So changes are gathered behind it for as long as it took, which leaves the brokers half of their time, but not
/// for so long that a reader would notice.
pub(crate) fn rest_behind_commit(took: Duration) -> Duration {
    took.min(LONGEST_REST)
}

const LONGEST_REST: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use super::{Duration, pause_behind, rest_behind_commit};

    #[test]
    fn a_rest_is_as_long_as_the_commit_within_its_bound() {
        let rest_ms = |took_ms| rest_behind_commit(Duration::from_millis(took_ms)).as_millis();
        assert_eq!(rest_ms(5), 5);
        assert_eq!(rest_ms(3_000), 25);
    }

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
