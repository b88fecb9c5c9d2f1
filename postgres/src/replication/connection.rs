//! A walsender connection before it streams: replication commands and plain queries.

use std::str;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tributary_schemas::Lsn;

use super::channel::{Channel, malformed, unexpected};
use super::config::ReplicationConfig;
use super::error::{Failure, ReplicationError};
use super::login::log_in;
use super::stream::ReplicationStream;
use super::timeline::TimelineHistory;
use super::transport::Transport;

/// A row of a query's result: the text of each column.
type AnswerRow = Vec<Option<String>>;

/// A connection that takes replication commands and queries.
///
/// No method is cancel safe: drop the connection along with a future that is given up.
#[derive(Debug)]
pub struct ReplicationConnection {
    channel: Channel,
}

/// The answer to `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier: a decimal number, the same on its standbys.
    pub system_id: String,
    /// The timeline; a promotion begins a new one.
    pub timeline: u32,
    /// How far the log is flushed.
    pub xlogpos: Lsn,
    /// The database of this connection.
    pub dbname: String,
}

/// A slot that was just created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// The stream starts here: all that was committed before is in the snapshot.
    pub consistent_point: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`; valid until the next command on this connection or its end.
    pub snapshot_name: String,
}

impl ReplicationConnection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The server is unreachable, does not answer within `connect_timeout`, or refuses the log-in (28P01 a
    /// wrong password, 28000 no entry in pg_hba.conf, 42501 no REPLICATION attribute, 57P03 starting up).
    pub async fn connect(config: &ReplicationConfig) -> Result<Self, ReplicationError> {
        let log_in = async {
            let transport = Transport::connect(&config.host, config.port)
                .await
                .map_err(Failure::Unreachable)?;
            let mut channel = Channel::new(transport);
            log_in(&mut channel, config).await?;
            Ok(Self { channel })
        };
        tokio::time::timeout(config.connect_timeout, log_in)
            .await
            .unwrap_or_else(|_| Err(Failure::TimedOut(config.connect_timeout)))
            .map_err(|failure| {
                let ReplicationConfig {
                    host,
                    port,
                    user,
                    dbname,
                    ..
                } = config;
                failure.during(format!(
                    "connect for replication to {host}:{port}, database '{dbname}', as '{user}'"
                ))
            })
    }

    /// Runs a replication command or SQL and returns the rows.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable unless its severity is FATAL; or a lost
    /// connection.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<AnswerRow>, ReplicationError> {
        self.query(sql)
            .await
            .map_err(|failure| failure.during(format!("run {sql}")))
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// As [`Self::simple_query`], and an answer of another form.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, ReplicationError> {
        const COMMAND: &str = "IDENTIFY_SYSTEM";
        let rows = self.simple_query(COMMAND).await?;
        let identity = only_row::<4>(rows).and_then(|[system_id, timeline, xlogpos, dbname]| {
            Some(SystemIdentity {
                system_id: system_id?,
                timeline: timeline?.parse().ok()?,
                xlogpos: xlogpos?.parse().ok()?,
                dbname: dbname?,
            })
        });
        identity.ok_or_else(|| unusable_answer(COMMAND))
    }

    /// The server process of this connection.
    ///
    /// # Errors
    /// As [`Self::simple_query`], and an answer of another form.
    pub async fn backend_pid(&mut self) -> Result<i32, ReplicationError> {
        const QUERY: &str = "SELECT pg_catalog.pg_backend_pid()";
        let pid = only_row::<1>(self.simple_query(QUERY).await?)
            .and_then(|[pid]| pid?.parse::<i32>().ok());
        pid.ok_or_else(|| unusable_answer(QUERY))
    }

    /// Creates a logical slot and exports the snapshot that its stream continues.
    ///
    /// Waits for all transactions that are running to end. Meanwhile the server notices that we are gone only if
    /// `client_connection_check_interval` is set, and an SQL query has come just before: a replication command does not
    /// start that clock.
    ///
    /// # Errors
    /// As [`Self::simple_query`]: 42710 the slot exists, 53400 no slot is free, 55000 `wal_level` is not
    /// logical, 58P01 no such plug-in.
    pub async fn create_slot_exporting_snapshot(
        &mut self,
        name: &str,
        plugin: &str,
    ) -> Result<CreatedSlot, ReplicationError> {
        self.create_slot(name, "LOGICAL", plugin).await
    }

    /// As [`Self::create_slot_exporting_snapshot`]; the slot goes with the connection.
    ///
    /// # Errors
    /// The same.
    pub async fn create_temporary_slot_exporting_snapshot(
        &mut self,
        name: &str,
        plugin: &str,
    ) -> Result<CreatedSlot, ReplicationError> {
        self.create_slot(name, "TEMPORARY LOGICAL", plugin).await
    }

    async fn create_slot(
        &mut self,
        name: &str,
        kind: &str,
        plugin: &str,
    ) -> Result<CreatedSlot, ReplicationError> {
        // The spelling of PG 14 and before, which the later ones still take.
        let command = format!(
            "CREATE_REPLICATION_SLOT {} {kind} {} EXPORT_SNAPSHOT",
            quote_identifier(name)?,
            quote_identifier(plugin)?
        );
        let rows = self.simple_query(&command).await?;
        let slot = only_row::<4>(rows).and_then(|[_, consistent_point, snapshot_name, _]| {
            Some(CreatedSlot {
                consistent_point: consistent_point?.parse().ok()?,
                snapshot_name: snapshot_name?,
            })
        });
        slot.ok_or_else(|| unusable_answer(&command))
    }

    /// `TIMELINE_HISTORY`: how the server came to this timeline. The first one has no history, nor has one whose file
    /// the server does not have any more: it then comes from nowhere.
    ///
    /// # Errors
    /// As [`Self::simple_query`], and an answer of another form.
    pub async fn timeline_history(
        &mut self,
        timeline: u32,
    ) -> Result<TimelineHistory, ReplicationError> {
        if timeline <= 1 {
            return Ok(TimelineHistory::default());
        }
        let command = format!("TIMELINE_HISTORY {timeline}");
        let rows = match self.simple_query(&command).await {
            Err(error) if error.sqlstate() == Some("58P01") => {
                return Ok(TimelineHistory::default());
            }
            rows => rows?,
        };
        let history =
            only_row::<2>(rows).and_then(|[_, content]| TimelineHistory::parse(&content?));
        history.ok_or_else(|| unusable_answer(&command))
    }

    /// Lets standbys keep a copy of a slot that nobody holds, from which a promoted one goes on. PG 17 and later.
    ///
    /// # Errors
    /// As [`Self::simple_query`]: 55006 somebody holds the slot, 42601 the server is older.
    pub async fn make_failover_slot(&mut self, slot: &str) -> Result<(), ReplicationError> {
        let slot = quote_identifier(slot)?;
        let command = format!("ALTER_REPLICATION_SLOT {slot} (FAILOVER true)");
        self.simple_query(&command).await.map(drop)
    }

    /// Starts the stream of a logical slot at `start`, or at the slot's confirmed flush LSN where that is
    /// later. `options` go to the slot's plug-in.
    ///
    /// # Errors
    /// The server's error: 42704 no such slot, 55006 another connection holds it, 55000 it is invalidated or
    /// of another database; or a lost connection.
    pub async fn start_replication(
        mut self,
        slot: &str,
        start: Lsn,
        options: &[(&str, &str)],
    ) -> Result<ReplicationStream, ReplicationError> {
        let mut command = format!(
            "START_REPLICATION SLOT {} LOGICAL {start}",
            quote_identifier(slot)?
        );
        if !options.is_empty() {
            let options = options.iter().map(|(name, value)| {
                Ok(format!(
                    "{} {}",
                    quote_identifier(name)?,
                    quote_literal(value)
                ))
            });
            let options: Result<Vec<_>, ReplicationError> = options.collect();
            command += &format!(" ({})", options?.join(", "));
        }
        match self.start(&command).await {
            Ok(()) => Ok(ReplicationStream::new(self.channel, slot)),
            Err(failure) => Err(failure.during(format!("start replication from slot '{slot}'"))),
        }
    }

    async fn start(&mut self, command: &str) -> Result<(), Failure> {
        self.send(command).await?;
        let next = self.channel.next().await?;
        match next.tag {
            b'W' => Ok(()),
            b'E' => Err(self.channel.read_error(&next)),
            tag => Err(unexpected("instead of CopyBothResponse", tag)),
        }
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<AnswerRow>, Failure> {
        self.send(sql).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            match self.channel.receive().await {
                Ok(Message::DataRow(body)) => rows.push(read_row(&body)?),
                Ok(
                    Message::RowDescription(_)
                    | Message::CommandComplete(_)
                    | Message::EmptyQueryResponse,
                ) => {}
                Ok(Message::ReadyForQuery(_)) => return refused.map_or(Ok(rows), Err),
                Ok(_) => {
                    return Err(Failure::Protocol(
                        "an unexpected message came during a query".to_owned(),
                    ));
                }
                Err(Failure::Server(error)) if error.leaves_connection() => {
                    refused = Some(Failure::Server(error));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn send(&mut self, sql: &str) -> Result<(), Failure> {
        frontend::query(sql, &mut self.channel.outgoing)
            .map_err(|_| Failure::Settings("the command holds a zero byte".to_owned()))?;
        self.channel.flush().await
    }
}

fn read_row(body: &DataRowBody) -> Result<AnswerRow, Failure> {
    let buffer = body.buffer();
    let columns = body.ranges().map(|range| {
        range
            .map(|range| str::from_utf8(&buffer[range]).map(str::to_owned))
            .transpose()
            .map_err(std::io::Error::other)
    });
    columns.collect().map_err(|error| malformed(&error))
}

fn only_row<const N: usize>(rows: Vec<AnswerRow>) -> Option<[Option<String>; N]> {
    let [row] = <[AnswerRow; 1]>::try_from(rows).ok()?;
    row.try_into().ok()
}

fn unusable_answer(command: &str) -> ReplicationError {
    Failure::Protocol("the answer has another form than expected".to_owned())
        .during(format!("run {command}"))
}

/// The walsender's grammar has no way to write a quote within an identifier.
fn quote_identifier(name: &str) -> Result<String, ReplicationError> {
    if name.contains('"') {
        let problem = "it holds a double quote; choose another name".to_owned();
        return Err(
            Failure::Settings(problem).during(format!("name '{name}' in a replication command"))
        );
    }
    Ok(format!("\"{name}\""))
}

/// The walsender's grammar knows no backslash escapes.
fn quote_literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
