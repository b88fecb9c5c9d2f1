//! Watches the catalog beside the stream: tables that appear, go and change without a word in the stream.

mod settling;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tributary_runtime::{Error, Problem};
use tributary_schemas::Lsn;

use crate::config::SourceConfig;
use crate::run::pace::pause_behind;
use settling::Settling;
use tributary_postgres::catalog::{Catalog, CatalogTable, Fingerprint, Selection};
use tributary_postgres::database::Database;
use tributary_postgres::decoder::limits;
use tributary_postgres::publication;
use tributary_postgres::publication::{Members, NewOwners, PublicationNames};

/// How soon tables whose writers are awaited are looked at again.
const SOON: Duration = Duration::from_millis(250);
/// The longest pause behind a look that finds nothing.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The requests that a look makes, about: of what it takes, so many round trips are the network's.
const REQUESTS: u32 = 12;

/// The selected tables at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    /// All that happened before is in it.
    pub(crate) since: Lsn,
    /// All that it tells of happened before.
    pub(crate) lsn: Lsn,
    pub(crate) facts: Facts,
}

/// What a [`Survey`] tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// By topic.
    pub(crate) tables: BTreeMap<String, Surveyed>,
    /// Tables that are selected, and of which nothing can be told now: they cannot be published, or writers are awaited.
    /// By OID, with the name (`schema.table`).
    pub(crate) untold: BTreeMap<u32, String>,
    /// The stream is not what it should be.
    pub(crate) fault: Option<Problem>,
    /// A publication that is not there: nothing comes any more.
    pub(crate) gone: Option<String>,
    /// The publications' changes of owner since the watch began.
    pub(crate) new_owners: NewOwners,
}

/// A selected table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surveyed {
    pub(crate) table: CatalogTable,
    /// [`Members::place`]
    pub(crate) place: u64,
}

/// The newest survey; the watch ends when this is dropped.
pub(crate) struct CatalogWatch {
    surveys: watch::Receiver<Option<Arc<Survey>>>,
    /// The same, of which every survey is told once, whether the stream has passed it or not.
    arrivals: watch::Receiver<Option<Arc<Survey>>>,
    /// The next survey is wanted even if it tells what the last one did.
    wanted: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl CatalogWatch {
    /// Begins to watch. `settled` has the tables that the stream carries already: OID and [`Members::place`].
    pub(crate) fn begin(
        config: Arc<SourceConfig>,
        database: Database,
        settled: HashMap<u32, u64>,
    ) -> Self {
        let (sender, surveys) = watch::channel(None);
        let wanted = Arc::new(AtomicBool::new(false));
        let watcher = Watcher {
            publications: config.publications(),
            config,
            database,
            client: None,
            settling: Settling::new(settled),
            seen: None,
            members: Members::default(),
            new_owners: NewOwners::default(),
            round_trip: Duration::ZERO,
            told: BTreeSet::new(),
            wanted: Arc::clone(&wanted),
        };
        let mut task = JoinSet::new();
        task.spawn(watcher.run(sender));
        Self {
            arrivals: surveys.clone(),
            surveys,
            wanted,
            _task: task,
        }
    }

    /// Waits for the next survey. Cancel safe.
    pub(crate) async fn arrived(&mut self) {
        if self.arrivals.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether there is a survey that the stream has not passed yet.
    pub(crate) fn awaits(&self, received: Lsn) -> bool {
        let newest = self.surveys.borrow();
        newest.as_ref().is_some_and(|survey| survey.lsn > received)
    }

    /// The stream has told of something that the next survey decides about, whatever the last one said.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// The newest survey, if the stream has passed it and it was not taken before.
    pub(crate) fn take(&mut self, received: Lsn) -> Option<Arc<Survey>> {
        if !self.surveys.has_changed().unwrap_or(false) {
            return None;
        }
        let newest = self.surveys.borrow().clone()?;
        if newest.lsn > received {
            return None;
        }
        self.surveys.mark_unchanged();
        Some(newest)
    }
}

struct Watcher {
    config: Arc<SourceConfig>,
    publications: PublicationNames,
    database: Database,
    client: Option<tributary_postgres::client::Client>,
    settling: Settling,
    /// What the publications had at the last look.
    members: Members,
    new_owners: NewOwners,
    /// The catalog as it was when all was as it should be.
    seen: Option<Fingerprint>,
    /// What a request that costs nothing takes.
    round_trip: Duration,
    /// What was warned of.
    told: BTreeSet<String>,
    /// [`CatalogWatch::want`]
    wanted: Arc<AtomicBool>,
}

impl Watcher {
    async fn run(mut self, sender: watch::Sender<Option<Arc<Survey>>>) {
        let interval = Duration::from_millis(self.config.postgres.watch_interval_ms);
        while !sender.is_closed() {
            let wanted = self.wanted.swap(false, Ordering::Relaxed);
            let began = Instant::now();
            self.round_trip = Duration::ZERO;
            let mut news = false;
            match self.look(wanted).await {
                Ok(None) => {}
                Ok(Some(survey)) => {
                    news = sender.send_if_modified(|last| {
                        let same = last.as_ref().is_some_and(|last| last.facts == survey.facts);
                        let news = wanted || !same;
                        if news {
                            *last = Some(Arc::new(survey));
                        }
                        news
                    });
                }
                Err(error) => {
                    self.client = None;
                    self.wanted.fetch_or(wanted, Ordering::Relaxed);
                    tracing::warn!(%error, "the catalog cannot be looked at; trying again");
                }
            }
            let pause = if self.settling.awaits() {
                interval.min(SOON)
            } else if news {
                interval
            } else {
                let cost = began.elapsed().saturating_sub(self.round_trip * REQUESTS);
                pause_behind(cost, interval, MAX_PAUSE)
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// What there is now; `None` if that is what there was at the last look, and it need not be told again.
    async fn look(&mut self, wanted: bool) -> Result<Option<Survey>, Error> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                // It may be another server, whose transactions have other numbers.
                self.seen = None;
                self.database.connect().await?
            }
        };
        let asked = Instant::now();
        let since = self.database.insert_lsn(&client).await?;
        self.round_trip = asked.elapsed();
        if let Some(mut seen) = self.seen.take()
            && !wanted
            && seen.still_holds(&client, &self.database).await?
        {
            self.seen = Some(seen);
            self.client = Some(client);
            return Ok(None);
        }
        let fingerprint = Fingerprint::take(&client, &self.database).await?;
        let mut selection = Catalog::new(&client, &self.database)
            .select(&self.config.wanted())
            .await?;
        limits::leave_out(self.config.postgres.plugin, &mut selection);
        for unusable in &selection.unusable {
            self.tell("a table is left out", &unusable.problem.to_string());
        }
        let (members, is_correct) = self.correct(&client, &selection).await?;
        let restricted = members.restricted(&self.publications).into_iter().next();
        // Behind the members: without its publication every table would seem to be gone.
        let publications = publication::faults(
            &client,
            &self.database,
            &self.publications,
            &selection.tables,
        )
        .await?;
        let (tables, awaited) = self.settle(&client, selection.tables, &members).await?;
        let unusable = selection.unusable.into_iter();
        let unusable = unusable.map(|one| (one.oid, one.table));
        let untold = unusable.chain(awaited).collect();
        if self.new_owners.note(&self.members, &members) {
            tracing::info!("a publication has another owner, and publishes what it did before");
        }
        self.members = members;
        let lsn = self.database.insert_lsn(&client).await?;
        self.client = Some(client);
        if is_correct && !self.settling.awaits() {
            self.seen = Some(fingerprint);
        }
        Ok(Some(Survey {
            since,
            lsn: reached(lsn),
            facts: Facts {
                tables,
                untold,
                fault: publications.other.or(restricted),
                gone: publications.missing,
                new_owners: self.new_owners.clone(),
            },
        }))
    }

    /// Puts the publications right; whether they are. What the server refuses is warned of once, and tried again.
    async fn correct(
        &mut self,
        client: &Client,
        selection: &Selection,
    ) -> Result<(Members, bool), Error> {
        let members = Members::read(client, &self.database, &self.publications).await?;
        let corrections = members.corrections(selection, &self.publications);
        if corrections.is_empty() {
            return Ok((members, true));
        }
        let mut is_correct = true;
        for correction in corrections {
            match correction.run(client, &self.database).await {
                Ok(()) => correction.tell(),
                Err(error) => {
                    is_correct = false;
                    let problem = format!("table {}: {error}", correction.table);
                    self.tell(correction.why, &problem);
                }
            }
        }
        let members = Members::read(client, &self.database, &self.publications).await?;
        Ok((members, is_correct))
    }

    /// The tables that are in their publication; apart, by OID and name, those that somebody still writes to who began
    /// before.
    async fn settle(
        &mut self,
        client: &Client,
        tables: Vec<CatalogTable>,
        members: &Members,
    ) -> Result<(BTreeMap<String, Surveyed>, BTreeMap<u32, String>), Error> {
        let (mut surveyed, mut awaited) = (BTreeMap::new(), BTreeMap::new());
        for table in tables {
            let oid = table.table.oid;
            let Some(place) = members.place(&table, &self.publications) else {
                continue;
            };
            if !self.settling.is_settled(oid, place) {
                let mut relations: Vec<u32> = table.leaves.keys().copied().collect();
                relations.push(oid);
                let now = self.writers_of(client, &relations).await?;
                if !self.settling.settle(oid, place, now) {
                    awaited.insert(oid, table.display_name());
                    continue;
                }
            }
            let topic = self.config.topic_name(&table.table)?;
            surveyed.insert(topic, Surveyed { table, place });
        }
        self.settling.keep(|oid| awaited.contains_key(&oid));
        Ok((surveyed, awaited))
    }

    /// The transactions that hold a lock to write to one of these relations, prepared ones too.
    async fn writers_of(
        &self,
        client: &Client,
        relations: &[u32],
    ) -> Result<BTreeSet<String>, Error> {
        let query = "SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l
            JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
            WHERE l.locktype = 'relation' AND l.relation = ANY($1) AND l.granted
              AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";
        let rows = client
            .query(query, &[&relations])
            .await
            .map_err(|e| self.database.explain(e))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Warns, of each thing once.
    fn tell(&mut self, what: &str, problem: &str) {
        if self.told.insert(format!("{what}: {problem}")) {
            tracing::warn!("{what}: {problem}");
        }
    }
}

/// An insert position as the flush position shows it: behind the header of a page that nothing was written to yet, the
/// one is ahead of the other until something is.
fn reached(insert: Lsn) -> Lsn {
    const PAGE: u64 = 8192;
    const LONGEST_HEADER: u64 = 40;
    let in_page = insert.0 % PAGE;
    if in_page <= LONGEST_HEADER {
        Lsn(insert.0 - in_page)
    } else {
        insert
    }
}

#[cfg(test)]
mod tests {
    use super::{Lsn, reached};

    #[test]
    fn an_empty_page_is_not_waited_for() {
        assert_eq!(reached(Lsn(8192 * 3 + 24)), Lsn(8192 * 3));
        assert_eq!(reached(Lsn(8192 * 3 + 40)), Lsn(8192 * 3));
        assert_eq!(reached(Lsn(8192 * 3 + 48)), Lsn(8192 * 3 + 48));
    }
}
