use std::collections::BTreeMap;
use std::time::Duration;

use super::{Case, Judgement, spoken};
use crate::cluster::TopicFacts;
use crate::mark::Mark;
use crate::topics::TopicPartition;

const NOW_MS: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// A partition that was read to its end an hour ago, of a compacted topic that keeps tombstones for a day.
struct Made {
    partition: TopicPartition,
    facts: TopicFacts,
    mark: Mark,
    stands_at: Option<i64>,
    log: (i64, i64),
}

impl Made {
    fn new() -> Self {
        Self {
            partition: TopicPartition {
                topic: "shop.a.b".to_owned(),
                partition: 2,
            },
            facts: TopicFacts {
                id: Some("one".to_owned()),
                partitions: 4,
                tombstones_live: Some(Duration::from_secs(86_400)),
            },
            mark: Mark {
                generation: "g".to_owned(),
                topic_id: Some("one".to_owned()),
                partitions: 4,
                versions_are_offsets: false,
                key_schemas: std::collections::BTreeSet::new(),
                caught_up_ms: BTreeMap::from([(2, NOW_MS - HOUR_MS)]),
            },
            stands_at: Some(7),
            log: (0, 9),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut made = Self::new();
        change(&mut made);
        made
    }

    fn judge(&self) -> tributary_runtime::Result<Judgement> {
        Case {
            partition: &self.partition,
            facts: &self.facts,
            mark: &self.mark,
            stands_at: self.stands_at,
            low: self.log.0,
            high: self.log.1,
            now_ms: NOW_MS,
        }
        .judge()
    }

    fn unfit(&self) -> String {
        match self.judge().unwrap() {
            Judgement::Unfit(reason) => reason,
            fit => panic!("{fit:?}"),
        }
    }
}

#[test]
fn a_target_that_fits_goes_on() {
    let goes_on = |made: Made, at| assert_eq!(made.judge().unwrap(), Judgement::GoOn(at));
    goes_on(Made::new(), 7);
    goes_on(Made::with(|made| made.log = (7, 7)), 7);
    goes_on(Made::with(|made| made.facts.id = None), 7);
    goes_on(Made::with(|made| made.mark.topic_id = None), 7);
    // The source's own versions have an order over partitions.
    goes_on(Made::with(|made| made.facts.partitions = 8), 7);
    // Away for two days, but nothing was written meanwhile; or nothing is ever compacted.
    let away = |made: &mut Made| {
        made.mark.caught_up_ms.insert(2, NOW_MS - 48 * HOUR_MS);
    };
    goes_on(
        Made::with(|made| {
            away(made);
            made.log.1 = 7;
        }),
        7,
    );
    goes_on(
        Made::with(|made| {
            away(made);
            made.facts.tombstones_live = None;
        }),
        7,
    );
    // The offset is lost: all that was deleted since is still in the log.
    goes_on(Made::with(|made| made.stands_at = None), 0);
}

#[test]
fn a_partition_that_was_never_begun_begins_at_the_first_offset() {
    let mut made = Made::new();
    made.mark.caught_up_ms.clear();
    made.log.0 = 3;
    // Whatever an earlier target of the group has left.
    assert_eq!(made.judge().unwrap(), Judgement::Begin(3));
}

#[test]
fn another_topic_of_the_name_is_noticed() {
    let made = Made::with(|made| made.facts.id = Some("two".to_owned()));
    assert_eq!(
        made.unfit(),
        "topic shop.a.b was deleted and made again since its target was built (its id was one and is two)"
    );
}

#[test]
fn a_log_without_what_comes_next_is_noticed() {
    assert_eq!(
        Made::with(|made| made.log = (9, 20)).unfit(),
        "topic shop.a.b partition 2: the target stands at offset 7, but the log begins at 9: 2 records were deleted before \
         they were read"
    );
    assert_eq!(
        Made::with(|made| made.log = (0, 6)).unfit(),
        "topic shop.a.b partition 2: the target stands at offset 7, but the log ends at 6: the topic was deleted and \
         created again, or has lost records"
    );
}

#[test]
fn an_absence_longer_than_tombstones_live_is_noticed() {
    let mut made = Made::new();
    made.mark.caught_up_ms.insert(2, NOW_MS - 48 * HOUR_MS);
    assert_eq!(
        made.unfit(),
        "shop.a.b[2]: it was last read to its end 2 days ago, which is longer than a compacted topic keeps tombstones \
         (delete.retention.ms, 24 h): deletes may have been missed"
    );
    made.stands_at = None;
    let lost = made.unfit();
    assert!(
        lost.starts_with(
            "the offset of shop.a.b[2] is lost while its target holds rows, and it was last read"
        ),
        "{lost}"
    );
}

#[test]
fn partitions_added_to_a_topic_without_versions_stop() {
    let mut made = Made::with(|made| made.mark.versions_are_offsets = true);
    assert_eq!(made.judge().unwrap(), Judgement::GoOn(7));
    made.facts.partitions = 5;
    let stopped = made.judge().unwrap_err().to_string();
    assert!(
        stopped.contains("had 4 partitions and has 5 now"),
        "{stopped}"
    );
}

#[test]
fn times_are_spoken() {
    let spoken = |seconds| spoken(Duration::from_secs(seconds));
    assert_eq!(
        [119, 120, 7_200, 604_800].map(spoken),
        ["119 s", "2 min", "2 h", "7 days"]
    );
}
