//! One interface for the output plug-ins: all end in the messages of pgoutput.

mod facts;
pub mod limits;

use std::collections::HashMap;

use tokio_postgres::Client;
use tributary_runtime::Error;

use crate::database::Database;
use crate::pgoutput;
use crate::pgoutput::Message;
use crate::plugin::Plugin;
use crate::wal2json;
use crate::wal2json::assembly::{Assembly, Refusal, Step};

/// Decodes what the slot's plug-in writes.
#[derive(Debug)]
pub struct Decoder {
    /// wal2json's records become messages there; pgoutput's are messages.
    assembly: Option<Box<Assembly>>,
}

/// What a payload says.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A message. [`Decoder::more`] gives the next one of the same payload.
    Message(Message<'a>),
    /// [`Decoder::ask`] comes first, then [`Decoder::more`].
    Ask,
    /// All was said.
    Nothing,
}

impl Decoder {
    /// The decoder of a session. `oids` are those of the tables that were published before, by name
    /// (`schema.table`).
    pub fn new(plugin: Plugin, oids: HashMap<String, u32>) -> Self {
        let assembled = plugin == Plugin::Wal2json;
        Self {
            assembly: assembled.then(|| Box::new(Assembly::new(oids))),
        }
    }

    /// Decodes the payload of one `XLogData`: its first message.
    ///
    /// # Errors
    /// The payload is not what the plug-in writes, or lacks what cannot be done without.
    #[inline]
    pub fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<Decoded<'a>, Error> {
        match &mut self.assembly {
            None => pgoutput::decode(payload)
                .map(Decoded::Message)
                .map_err(Error::stop),
            Some(assembly) => {
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
    pub fn more(&mut self) -> Result<Decoded<'_>, Error> {
        match &mut self.assembly {
            None => Ok(Decoded::Nothing),
            Some(assembly) => step(assembly),
        }
    }

    /// The table of this name is not the one, or not one of those, that it was: what is known of it is asked again.
    pub fn forget(&mut self, schema: &str, table: &str) {
        if let Some(assembly) = &mut self.assembly {
            assembly.forget(schema, table);
        }
    }

    /// Asks the catalog what the payload lacks, after [`Decoded::Ask`].
    ///
    /// # Errors
    /// The server is away.
    pub async fn ask(&mut self, client: &Client, database: &Database) -> Result<(), Error> {
        let Some(assembly) = &mut self.assembly else {
            return Ok(());
        };
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

/// What a stream is asked for.
pub struct StreamRequest<'a> {
    /// The slot's plug-in.
    pub plugin: Plugin,
    /// The publications, as the option `publication_names` wants them.
    pub publications: &'a str,
    /// The entries of `postgres.tables`.
    pub tables: &'a [String],
    /// The prefix of the logical messages that are watermarks.
    pub watermark_prefix: &'a str,
    /// Whether big transactions come before their commit.
    pub streaming: bool,
}

impl StreamRequest<'_> {
    /// The options of START_REPLICATION.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        if self.plugin == Plugin::Wal2json {
            return wal2json::options(self.tables, &[self.watermark_prefix]);
        }
        let version = if self.streaming { "2" } else { "1" };
        let mut options = vec![
            ("proto_version", version.to_owned()),
            ("publication_names", self.publications.to_owned()),
            // Ordinals count them, published or not.
            ("messages", "true".to_owned()),
        ];
        if self.streaming {
            options.push(("streaming", "on".to_owned()));
        }
        options
    }
}
