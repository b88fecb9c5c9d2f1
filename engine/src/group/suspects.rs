//! Which partitions an error of Kafka's may be about: rdkafka does not say it.

use crate::group::holdings::{Holding, Holdings};
use crate::group::member::Member;

/// So many are named.
const NAMED_MAX: usize = 5;

/// The partitions of which records are there that have not come, as a message names them.
pub(crate) fn unread(member: &impl Member, holdings: &Holdings) -> String {
    let is_behind = |holding: &&Holding| {
        let ends = member.log_of(holding.partition());
        ends.is_ok_and(|(_, end)| holding.next < end)
    };
    let fetched = holdings.iter().filter(|holding| holding.is_fetched);
    let unread: Vec<_> = fetched
        .filter(is_behind)
        .take(NAMED_MAX)
        .map(|holding| format!("{} at offset {}", holding.partition(), holding.next))
        .collect();
    unread.join(" or ")
}
