//! "Gone below": the rows of a table below a version are deleted, a range of pages at a time.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use crate::postgres::failure::Attempt;
use crate::postgres::session::Session;
use crate::postgres::table::use_grant;
use crate::warehouse::failure::Failure;
use crate::warehouse::metric;
use crate::warehouse::name::Qualified;

/// Pages of the first slice: what a small table has in all, so that it is swept together with the batch's rows.
const FIRST_PAGES: u64 = 1024;
/// Pages of a slice at the most.
const MOST_PAGES: u64 = 64 * 1024;
/// A slice that takes less time is followed by a larger one.
const SHORT: Duration = Duration::from_millis(250);
/// A slice that takes more is followed by a smaller one: so long do other writers of the table wait.
const LONG: Duration = Duration::from_secs(1);

/// One way through the table. A row that changes meanwhile leaves its page for another, with a higher version; what an
/// older record of another partition writes is swept by that partition's own record. A table that is written anew meanwhile
/// (`VACUUM FULL`) has them elsewhere: the way begins again.
pub(crate) struct Sweep<'a> {
    name: &'a Qualified,
    below: u64,
    next_page: u64,
    storage: Storage,
    slice_pages: u64,
    is_done: bool,
}

/// Where the rows are.
struct Storage {
    pages: u64,
    /// The names of the table's files.
    files: String,
}

/// How far slices have swept that were committed before an attempt ended. It holds while the same partitions wait for the rest: none of
/// theirs is written meanwhile.
pub(crate) struct Swept {
    partitions: Vec<i32>,
    below: u64,
    files: String,
    next_page: u64,
}

impl<'a> Sweep<'a> {
    /// Looks how large the table is.
    pub(crate) async fn begin(
        session: &Session,
        name: &'a Qualified,
        below: u64,
    ) -> Result<Self, Failure> {
        let storage = Storage::of(session, name).await?;
        let pages = storage.pages;
        if pages > FIRST_PAGES {
            tracing::info!(table = %name, below, pages, "deletes the rows below a truncate or re-snapshot, in slices");
        }
        Ok(Self {
            name,
            below,
            next_page: 0,
            storage,
            slice_pages: FIRST_PAGES,
            is_done: false,
        })
    }

    /// What is done, for the next attempt to write these partitions.
    pub(crate) fn swept(&self, partitions: &[i32]) -> Swept {
        Swept {
            partitions: partitions.to_vec(),
            below: self.below,
            files: self.storage.files.clone(),
            next_page: self.next_page,
        }
    }

    /// Leaves out what an earlier attempt to write these partitions has done, unless the table was written anew since.
    pub(crate) fn go_on_from(&mut self, swept: &Swept, partitions: &[i32]) {
        if swept.partitions == partitions
            && swept.below == self.below
            && swept.files == self.storage.files
        {
            self.next_page = swept.next_page;
        }
    }

    /// Whether the last slice went to the table's end.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// Deletes the next slice, and says how many rows. Others' rows are among them: their writers wait until the
    /// transaction ends, or two that sweep at once would lock each other out.
    pub(crate) async fn slice(&mut self, session: &Session) -> Result<u64, Failure> {
        let (name, below) = (self.name, self.below);
        let doing = || format!("delete the rows of {name} below a truncate or re-snapshot");
        let grant = || use_grant(session, name);
        session
            .client
            .batch_execute(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
            .await
            .attempt(doing, grant)?;
        if self.next_page > 0 {
            let now = Storage::of(session, name).await?;
            if now.files != self.storage.files {
                (self.next_page, self.storage) = (0, now);
            }
        }
        let (first, end) = (self.next_page, self.next_page + self.slice_pages);
        self.is_done = end >= self.storage.pages;
        let last = if self.is_done {
            String::new()
        } else {
            format!(" AND ctid < '({end},0)'::tid")
        };
        let delete = format!(
            "DELETE FROM {name} WHERE ctid >= '({first},0)'::tid{last} AND _tributary_seq < {below}"
        );
        let begun = Instant::now();
        let _under_way = metric::whole_table();
        let deleting = async {
            let deleted = session.client.execute_typed(&delete, &[]).await;
            deleted.attempt(doing, grant)
        };
        let deleted = session.unhurried(deleting).await?;
        self.next_page = end;
        self.slice_pages = next_size(self.slice_pages, begun.elapsed());
        Ok(deleted)
    }
}

impl Storage {
    async fn of(session: &Session, name: &Qualified) -> Result<Self, Failure> {
        let row = session
            .client
            .query_typed_one(
                "SELECT greatest(pg_relation_size(c.oid), max(pg_relation_size(relid))) / current_setting('block_size')::bigint, \
                 concat(pg_relation_filenode(c.oid), ' ', string_agg(pg_relation_filenode(relid)::text, ' ' ORDER BY relid)) \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_partition_tree(c.oid) ON true \
                 WHERE n.nspname = $1 AND c.relname = $2 GROUP BY c.oid",
                &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT)],
            )
            .await
            .attempt(|| format!("look how large table {name} is"), String::new)?;
        Ok(Self {
            // Null of a table that is dropped at this moment.
            pages: row
                .get::<_, Option<i64>>(0)
                .and_then(|pages| u64::try_from(pages).ok())
                .unwrap_or(0),
            files: row.get(1),
        })
    }
}

/// How many pages the slice has that follows one of `pages`.
fn next_size(pages: u64, took: Duration) -> u64 {
    if took < SHORT {
        (pages * 2).min(MOST_PAGES)
    } else if took > LONG {
        (pages / 2).max(1)
    } else {
        pages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MOST_PAGES, next_size};

    #[test]
    fn slices_become_as_large_as_others_can_wait_for() {
        let after = |pages, millis| next_size(pages, Duration::from_millis(millis));
        assert_eq!(after(1024, 10), 2048);
        assert_eq!(after(1024, 500), 1024);
        assert_eq!(after(1024, 2000), 512);
        assert_eq!(after(MOST_PAGES, 1), MOST_PAGES);
        assert_eq!(after(1, 9000), 1);
    }
}
