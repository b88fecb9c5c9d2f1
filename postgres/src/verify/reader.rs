//! Reads a table by its key: short transactions, each with the lock before its snapshot, and pauses between them.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::time::Instant;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Result, ResultExt};
use tributary_schemas::Lsn;
use tributary_schemas::table::Cell;

use super::keyed::{BY_INDEX, KeyedTable};
use super::origin::OriginConfig;
use super::pace::Pace;
use super::sides::{Line, Original};
use crate::client::Client;
use crate::database::Database;
use crate::rows::Row;

/// How often is tried what may pass by itself.
const TRIES: usize = 12;
/// How long a lock is waited for, before a change of the table is let pass.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// What Postgres says of a text that is no value of the type begins so,
const NO_VALUE: &str = "22";
/// or is this where a domain's check refuses it.
const REFUSED_BY_CHECK: &str = "23514";

const SLOTS: &str = "
    SELECT slot_name::text FROM pg_catalog.pg_replication_slots
    WHERE slot_type = 'logical' AND NOT temporary AND database = pg_catalog.current_database() AND slot_name LIKE 'tributary\\_%' ORDER BY 1";
const CONFIRMED: &str = "
    SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text";

/// The table in Postgres.
pub struct TableReader {
    database: Database,
    slot: String,
    table: KeyedTable,
    pace: Pace,
    client: Option<Client>,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableReader")
            .field("table", &self.table.display_name())
            .finish()
    }
}

impl TableReader {
    /// Connects, and looks the table up. Reading takes `percent` of one process' time on the server.
    ///
    /// # Errors
    /// Stop: the server does not let us in, the table is not there or has no key, or it cannot be told how far the log is.
    pub async fn open(
        origin: &OriginConfig,
        application: &str,
        table: (&str, &str),
        percent: u8,
    ) -> Result<Self> {
        let database = origin
            .database(application)
            .map_err(|error| Error::stop(error).context("`postgres.url`"))?;
        let client = database.connect().await?;
        let table = KeyedTable::find(&client, &database, table).await?;
        Ok(Self {
            slot: slot(&client, &database, origin).await?,
            table,
            pace: Pace::new(percent),
            client: Some(client),
            database,
        })
    }

    /// The table.
    pub const fn table(&self) -> &KeyedTable {
        &self.table
    }

    async fn client(&mut self) -> Result<&Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.database.connect().await?,
        };
        Ok(self.client.insert(client))
    }

    /// Reads by a statement, once.
    async fn copy_once(&mut self, statement: &str) -> Result<Copied> {
        let begun = Instant::now();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {BY_INDEX}; SET LOCAL lock_timeout = {}; {}",
            LOCK_TIMEOUT.as_millis(),
            self.table.lock()
        );
        let (database, table, pace) =
            (self.database.clone(), self.table.clone(), self.pace.clone());
        let explain = |error| database.explain(error);
        let client = self.client().await?;
        client.batch_execute(&begin).await.map_err(explain)?;
        let shape = client.query_one(&table.shape_query(), &[]).await;
        table.check_shape(shape.map_err(explain)?.get(0))?;
        let read = match client.copy_out(statement).await {
            Ok(lines) => lines.try_collect::<Vec<Bytes>>().await,
            Err(error) => Err(error),
        };
        let lines = match read {
            Err(error)
                if error.code().is_some_and(|code| {
                    code.code().starts_with(NO_VALUE) || code.code() == REFUSED_BY_CHECK
                }) =>
            {
                client.batch_execute("ROLLBACK").await.map_err(explain)?;
                pace.rest(begun).await;
                return Ok(Copied::NoValue);
            }
            read => read.map_err(explain)?,
        };
        client.batch_execute("COMMIT").await.map_err(explain)?;
        pace.rest(begun).await;
        let lines: Result<Vec<Line>> = lines.into_iter().map(|line| parse(line, &table)).collect();
        Ok(Copied::Lines(lines?))
    }

    async fn copy(&mut self, statement: &str) -> Result<Copied> {
        let mut tries = Tries::default();
        loop {
            match self.copy_once(statement).await {
                Err(error) => self.try_again(&mut tries, error).await?,
                copied => return copied,
            }
        }
    }

    /// Waits before it is tried again.
    ///
    /// # Errors
    /// The error, where it does not pass by itself.
    async fn try_again(&mut self, tries: &mut Tries, error: Error) -> Result<()> {
        // Whatever it was in the middle of ends with the connection.
        self.client = None;
        tries.made += 1;
        if error.policy() == Policy::Stop || tries.made >= TRIES {
            return Err(error).doing(|| format!("read table {}", self.table.display_name()));
        }
        tokio::time::sleep(tries.backoff.next_delay()).await;
        Ok(())
    }

    async fn confirmed(&mut self) -> Result<Lsn> {
        let (database, slot) = (self.database.clone(), self.slot.clone());
        let explain = |error| database.explain(error);
        let row = self.client().await?.query_opt(CONFIRMED, &[&slot]).await;
        let confirmed = row
            .map_err(explain)?
            .and_then(|row| row.get::<_, Option<String>>(0));
        let confirmed = confirmed.ok_or_else(|| no_slot(&slot))?;
        confirmed.parse().map_err(Error::stop)
    }
}

#[derive(Debug, Default)]
struct Tries {
    made: usize,
    backoff: Backoff,
}

/// What a statement has given.
enum Copied {
    Lines(Vec<Line>),
    /// A text is no value of its column's type.
    NoValue,
}

impl Original for TableReader {
    async fn range(&mut self, after: Option<&[String]>, rows: usize) -> Result<Vec<Line>> {
        match self.copy(&self.table.range(after, rows)).await? {
            Copied::Lines(lines) => Ok(lines),
            Copied::NoValue => Err(Error::stop_msg(format_args!(
                "Postgres does not take back a key of table {} that it has given",
                self.table.display_name()
            ))),
        }
    }

    /// A key that no row can have is one that no row has: which one it is, is found by halves.
    async fn rows(&mut self, keys: &[&[String]]) -> Result<Vec<Line>> {
        let (mut found, mut parts) = (Vec::new(), vec![keys]);
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.copy(&self.table.rows(part)).await? {
                Copied::Lines(lines) => found.extend(lines),
                Copied::NoValue if part.len() == 1 => {}
                Copied::NoValue => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first, second]);
                }
            }
        }
        Ok(found)
    }

    async fn position(&mut self) -> Result<Lsn> {
        let mut tries = Tries::default();
        loop {
            let database = self.database.clone();
            let position = match self.client().await {
                Ok(client) => database.insert_lsn(client).await,
                Err(error) => Err(error),
            };
            match position {
                Err(error) => self.try_again(&mut tries, error).await?,
                position => return position,
            }
        }
    }

    async fn is_published(&mut self, position: Lsn) -> Result<bool> {
        let mut tries = Tries::default();
        loop {
            match self.confirmed().await {
                Err(error) => self.try_again(&mut tries, error).await?,
                Ok(confirmed) => return Ok(confirmed >= position),
            }
        }
    }
}

/// The slot whose source brings the table into the log.
async fn slot(client: &Client, database: &Database, origin: &OriginConfig) -> Result<String> {
    let slots = client.query(SLOTS, &[]).await;
    let slots = slots.map_err(|error| database.explain(error))?;
    let slots: Vec<String> = slots.iter().map(|row| row.get(0)).collect();
    if let Some(source) = &origin.source {
        let wanted = format!("tributary_{}", source.replace('-', "_"));
        return match slots.contains(&wanted) {
            true => Ok(wanted),
            false => Err(no_slot(&wanted)),
        };
    }
    match slots.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(no_slot("tributary_…")),
        several => Err(Error::stop_msg(format_args!(
            "database {} has the slots of several sources: {}",
            database.name(),
            several.join(", ")
        ))
        .remedy("set `postgres.source` to the name of the one that publishes the table")),
    }
}

fn no_slot(name: &str) -> Error {
    Error::stop_msg(format_args!(
        "there is no slot '{name}' in the database, so it cannot be told how far the log is"
    ))
    .remedy("start the source; set `postgres.source` to its name, and `postgres.url` to the database that it reads")
}

fn parse(text: Bytes, table: &KeyedTable) -> Result<Line> {
    let mut row = Row::default();
    let cells = row.parse(&text, table.table())?;
    let key = table.key_places().map(|place| match cells.get(place) {
        Some(Cell::Text(text)) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Err(Error::stop_msg(format_args!(
            "a row of table {} has no key",
            table.display_name()
        ))),
    });
    let key = key.collect::<Result<_>>()?;
    let end = memchr::memchr(b'\t', &text).unwrap_or(text.len());
    let stamp = String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned();
    Ok(Line { key, stamp, text })
}
