//! Topics that are not those that progress speaks of any more, or have lost what they had acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use tributary_runtime::Error;

use crate::log::progress::{Progress, SnapshotRequest};
use crate::log::table_topic::topic_spec;
use crate::run::gap::Gap;
use crate::run::session::Session;

/// The ids of the topics, by name.
pub(super) type TopicIds = BTreeMap<String, String>;

/// The gap that there is where topics are others than progress speaks of, or are among those that have `lost` records.
pub(super) fn find(progress: &Progress, ids: &TopicIds, lost: &BTreeSet<String>) -> Option<Gap> {
    let topics = recreated(progress, ids);
    if !topics.is_empty() {
        return Some(Gap::TopicsRecreated { topics });
    }
    let lost = lost.iter().filter(|topic| ids.contains_key(*topic));
    let lost = lost.filter(|topic| progress.tables.contains_key(*topic));
    let topics: Vec<String> = lost.cloned().collect();
    (!topics.is_empty()).then_some(Gap::RecordsLost { topics })
}

/// Takes over which topics these are.
pub(super) fn remember_ids(progress: &mut Progress, ids: &TopicIds) {
    for (topic, table) in progress.tables.iter_mut() {
        if let Some(id) = ids.get(topic) {
            table.topic_id = Some(id.clone());
        }
    }
}

/// Takes over how many partitions topics have that are others now. Those of the same topic stay: keys are spread over
/// them, and gone from them, whatever the configuration says by now.
fn count_anew(progress: &mut Progress, ids: &TopicIds, partitions: &BTreeMap<String, i32>) {
    for topic in recreated(progress, ids) {
        if let (Some(count), Some(table)) =
            (partitions.get(&topic), progress.tables.get_mut(&topic))
        {
            table.partitions = *count;
        }
    }
}

/// Asks for all rows of the tables whose topics are others now, or have `lost` records; what is in such a topic and
/// not in its table is swept.
pub(super) fn read_again(progress: &mut Progress, ids: &TopicIds, lost: &BTreeSet<String>) {
    let recreated = recreated(progress, ids);
    for topic in recreated.iter().chain(lost) {
        let request = SnapshotRequest {
            sweep: true,
            filter: None,
        };
        progress.request_snapshot(topic, request);
    }
    remember_ids(progress, ids);
}

impl Session {
    /// What progress says, of the topics that there are now.
    pub(super) fn of_these_topics(
        &self,
        mut progress: Progress,
        ids: &TopicIds,
    ) -> Result<Progress, Error> {
        count_anew(&mut progress, ids, &self.topic_partitions()?);
        Ok(progress)
    }

    /// The partitions that the selected tables' topics are to have, by topic.
    fn topic_partitions(&self) -> Result<BTreeMap<String, i32>, Error> {
        let specs = self.tables.iter().map(|table| {
            let spec = topic_spec(&self.config, &table.table)?;
            Ok((spec.name, spec.partitions))
        });
        specs.collect()
    }

    /// The partitions that the selected tables' topics have, by topic.
    pub(super) async fn real_partitions(&self) -> Result<BTreeMap<String, i32>, Error> {
        let mut counts = self.topic_partitions()?;
        let topics: Vec<String> = counts.keys().cloned().collect();
        // Not every broker knows a topic that was just created.
        let described = self.registrar.described(&topics).await?.into_iter();
        counts.extend(described.map(|(topic, it)| (topic, it.partitions)));
        Ok(counts)
    }
}

fn recreated(progress: &Progress, ids: &TopicIds) -> Vec<String> {
    let recreated = progress.tables.iter().filter(|(topic, table)| {
        let (known, found) = (table.topic_id.as_ref(), ids.get(*topic));
        known.is_some() && found.is_some() && known != found
    });
    recreated.map(|(topic, _)| topic.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Gap, Progress, TopicIds, count_anew, find, remember_ids};
    use crate::log::progress::{Followed, Position, TableProgress};
    use tributary_schemas::Lsn;

    fn progress(id: Option<&str>) -> Progress {
        let position = Position::at_consistent_point(Lsn(3), 3);
        let mut progress = Progress::new("1".to_owned(), 1, position);
        let table = TableProgress {
            table: "s.t".to_owned(),
            oid: 1,
            partitions: 3,
            key_schema_id: Some(1),
            topic_id: id.map(str::to_owned),
            followed: Followed::default(),
            snapshot: None,
        };
        progress.tables.insert("p.s.t".to_owned(), table);
        progress
    }

    fn ids(id: &str) -> TopicIds {
        TopicIds::from([("p.s.t".to_owned(), id.to_owned())])
    }

    #[test]
    fn another_id_is_another_topic() {
        let none = BTreeSet::new();
        for (known, found, gap) in [
            (Some("a"), "a", false),
            (Some("a"), "b", true),
            (None, "b", false),
        ] {
            let mut progress = progress(known);
            assert_eq!(find(&progress, &ids(found), &none).is_some(), gap);
            remember_ids(&mut progress, &ids(found));
            assert_eq!(find(&progress, &ids(found), &none), None);
        }
        assert_eq!(find(&progress(Some("a")), &TopicIds::new(), &none), None);
    }

    #[test]
    fn the_partitions_of_another_topic_alone_are_counted_anew() {
        let configured = [("p.s.t".to_owned(), 2), ("p.s.u".to_owned(), 2)].into();
        for (known, found, partitions) in [(Some("a"), "a", 3), (Some("a"), "b", 2), (None, "b", 3)]
        {
            let mut progress = progress(known);
            count_anew(&mut progress, &ids(found), &configured);
            assert_eq!(progress.tables["p.s.t"].partitions, partitions);
        }
    }

    #[test]
    fn the_same_topic_may_have_lost_records() {
        let topics = vec!["p.s.t".to_owned()];
        let lost = BTreeSet::from(["p.s.t".to_owned(), "p.progress".to_owned()]);
        let found = find(&progress(Some("a")), &ids("a"), &lost);
        assert_eq!(
            found,
            Some(Gap::RecordsLost {
                topics: topics.clone()
            })
        );
        let found = find(&progress(Some("a")), &ids("b"), &lost);
        assert_eq!(found, Some(Gap::TopicsRecreated { topics }));
    }
}
