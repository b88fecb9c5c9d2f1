//! TRUNCATE of a partitioned table: the stream tells of it, and the catalog shows new files of its partitions as it does
//! where one of them was truncated alone, of which the stream does not tell.

use tributary_postgres::catalog::CatalogTable;

use super::Streaming;

impl Streaming {
    /// Keeps which transactions truncated a table. In the log no later than what they did, so that a kill does not make
    /// news of it.
    pub(super) fn remember_truncates(&mut self) {
        for (topic, xid) in self.translator.take_truncated() {
            let known = self.progress.get().tables.get(&*topic);
            let is_partitioned = known.is_some_and(|known| !known.followed.leaves.is_empty());
            if is_partitioned && let Some(known) = self.progress.get_mut().tables.get_mut(&topic) {
                known.followed.truncated(xid);
            }
        }
    }

    /// What the stream has told is no news in the catalog.
    pub(super) fn take_over_truncates(&mut self, topic: &str, table: &CatalogTable) {
        let known = self.progress.get().tables.get(topic);
        let Some(known) = known.filter(|known| !known.followed.truncates.is_empty()) else {
            return;
        };
        let mut followed = known.followed.clone();
        followed.take_over_truncates(table);
        if followed != known.followed
            && let Some(known) = self.progress.get_mut().tables.get_mut(topic)
        {
            known.followed = followed;
        }
    }
}
