//! One interface for the output plug-ins: all end in the messages of pgoutput.

mod facts;
pub(crate) mod limits;

use std::collections::HashMap;

use tokio_postgres::Client;
use tributary_runtime::Error;

use crate::config::{Plugin, SourceConfig};
use crate::database::Database;
use crate::pgoutput::{self, Message};
use crate::progress::Progress;
use crate::snapshot::WATERMARK_PREFIX;
use crate::wal2json;
use crate::wal2json::assembly::{Assembly, Refusal, Step};

/// Decodes what the slot's plug-in writes.
#[derive(Debug)]
pub(crate) enum Decoder {
    Pgoutput,
    Wal2json(Box<Assembly>),
}

/// What a payload says.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// A message. [`Decoder::more`] gives the next one of the same payload.
    Message(Message<'a>),
    /// [`Decoder::ask`] comes first, then [`Decoder::more`].
    Ask,
    /// All was said.
    Nothing,
}

impl Decoder {
    /// The decoder of a session.
    pub(crate) fn new(plugin: Plugin, progress: &Progress) -> Self {
        match plugin {
            Plugin::Pgoutput => Self::Pgoutput,
            Plugin::Wal2json => {
                let tables = progress.tables.values();
                let oids: HashMap<_, _> = tables.map(|t| (t.table.clone(), t.oid)).collect();
                Self::Wal2json(Box::new(Assembly::new(oids)))
            }
        }
    }

    /// Decodes the payload of one `XLogData`: its first message.
    ///
    /// # Errors
    /// The payload is not what the plug-in writes, or lacks what cannot be done without.
    #[inline]
    pub(crate) fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<Decoded<'a>, Error> {
        match self {
            Self::Pgoutput => pgoutput::decode(payload)
                .map(Decoded::Message)
                .map_err(Error::stop),
            Self::Wal2json(assembly) => {
                assembly.read(payload).map_err(Error::stop)?;
                step(assembly)
            }
        }
    }

    /// The next message of the payload that was decoded last.
    ///
    /// # Errors
    /// As [`Self::decode`].
    #[inline]
    pub(crate) fn more(&mut self) -> Result<Decoded<'_>, Error> {
        match self {
            Self::Pgoutput => Ok(Decoded::Nothing),
            Self::Wal2json(assembly) => step(assembly),
        }
    }

    /// The table of this name is not the one, or not one of those, that it was: what is known of it is asked again.
    pub(crate) fn forget(&mut self, schema: &str, table: &str) {
        if let Self::Wal2json(assembly) = self {
            assembly.forget(schema, table);
        }
    }

    /// Asks the catalog what the payload lacks, after [`Decoded::Ask`].
    ///
    /// # Errors
    /// The server is away.
    pub(crate) async fn ask(&mut self, client: &Client, database: &Database) -> Result<(), Error> {
        match self {
            Self::Pgoutput => Ok(()),
            Self::Wal2json(assembly) => {
                let Some((schema, table, remembered)) = assembly.question() else {
                    return Ok(());
                };
                let facts = facts::read(client, database, (schema, table), remembered).await?;
                if facts.oid == 0 {
                    tracing::warn!(
                        table = format!("{schema}.{table}"),
                        "the table is gone, and was not published before: its changes are left out"
                    );
                }
                assembly.learn(facts);
                Ok(())
            }
        }
    }
}

fn step(assembly: &mut Assembly) -> Result<Decoded<'_>, Error> {
    Ok(match assembly.step().map_err(refused)? {
        Step::Message(message) => Decoded::Message(message),
        Step::Ask => Decoded::Ask,
        Step::Done => Decoded::Nothing,
    })
}

fn refused(refusal: Refusal) -> Error {
    let remedy = match refusal {
        Refusal::Doubtful { .. } => {
            "see docs/plugins.md: use postgres.plugin = \"pgoutput\" with a new slot, or take the table out"
        }
        Refusal::Read(_) | Refusal::Contradiction { .. } => {
            "report it, with the versions of the server and of wal2json; the slot keeps the changes"
        }
    };
    Error::stop(refusal).remedy(remedy)
}

/// The options of START_REPLICATION for the configured plug-in.
pub(crate) fn stream_options(
    config: &SourceConfig,
    publications: &str,
    streaming: bool,
) -> Vec<(&'static str, String)> {
    match config.postgres.plugin {
        Plugin::Pgoutput => {
            let mut options = vec![
                (
                    "proto_version",
                    if streaming { "2" } else { "1" }.to_owned(),
                ),
                ("publication_names", publications.to_owned()),
                // Ordinals count them, published or not.
                ("messages", "true".to_owned()),
            ];
            if streaming {
                options.push(("streaming", "on".to_owned()));
            }
            options
        }
        Plugin::Wal2json => wal2json::options(&config.postgres.tables, &[WATERMARK_PREFIX]),
    }
}
