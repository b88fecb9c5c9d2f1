//! A topic's index, as it is compared with its table.

use reqwest::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tributary_engine::{Ends, KeyRow, Log};
use tributary_postgres::verify::{Encoder, Held, Image, Line, Named, Replica};
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Result, ResultExt};
use tributary_schemas::table::Table;

use super::key_text;
use crate::client::{Client, Content, Reply};
use crate::config::Config;
use crate::document::{Document, DocumentPlan};
use crate::found::{self, Found};
use crate::id;
use crate::naming;
use crate::shape::Shape;
use crate::stored;
use crate::sweep::{self, Page};
use crate::tries::Tries;

/// Documents per page.
const PAGE: usize = 2_000;
/// How long the engine keeps the search between two pages: what differs is settled between them.
const KEEP_ALIVE: &str = "10m";

/// The index behind a topic's alias.
#[derive(Debug)]
pub(super) struct IndexReplica {
    client: Client,
    log: Log,
    alias: String,
    topic: String,
    encoder: Encoder,
    plan: DocumentPlan,
    listing: Listing,
}

/// How far the names of all documents are listed.
#[derive(Debug)]
enum Listing {
    Unbegun,
    /// What the engine calls the search.
    At(String),
    Over,
}

impl IndexReplica {
    /// The index of a topic, whose rows come from this table.
    ///
    /// # Errors
    /// Stop: nothing is published yet, the table has other columns than the topic, there is no index, or it is not ours.
    pub(super) async fn open(
        config: &Config,
        topic: &str,
        log: Log,
        table: &Table,
    ) -> Result<Self> {
        let form = log.form().await?.ok_or_else(|| {
            Error::stop_msg(format_args!(
                "the registry has no schemas of a table's changes for topic '{topic}'"
            ))
            .remedy("start the source, and run the command again when it has published the table")
        })?;
        let key_type = form.key_type.ok_or_else(|| {
            Error::stop_msg(format_args!("the records of topic '{topic}' have no key, so its documents are not those of rows"))
                .remedy("see whether the source has published the table with its key: `tributary-source plan`")
        })?;
        let encoder = Encoder::new(topic, table, &key_type, &form.row_type)?;
        let client = Client::new(&config.elasticsearch)?;
        let alias = naming::alias(&config.elasticsearch.index_prefix, topic);
        let found = look(&client, &alias, topic).await?;
        let shape = Shape::of(&config.elasticsearch, topic);
        let plan = DocumentPlan::new(encoder.row_type(), &shape, &found.properties)?;
        Ok(Self {
            client,
            log,
            alias,
            topic: topic.to_owned(),
            encoder,
            plan,
            listing: Listing::Unbegun,
        })
    }

    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// Stands for the fields of a document that are columns'. One that is not there is null: it was written before the column was.
    fn digest(&self, document: &Document) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (_, field) in self.plan.columns() {
            let value = document.get(field).map_or("null", |value| value.get());
            hash.update(value.as_bytes());
            // JSON has it in no value.
            hash.update([0]);
        }
        hash.finalize().into()
    }

    async fn page(&self) -> Result<Reply> {
        let doing = || format!("list the documents of '{}'", self.alias);
        if let Listing::At(scroll_id) = &self.listing {
            let reply = sweep::next(&self.client, scroll_id, KEEP_ALIVE)
                .await
                .doing(doing)?;
            if reply.status == StatusCode::NOT_FOUND {
                return Err(Error::retry_msg("the search is gone").context(doing()));
            }
            return Ok(reply);
        }
        let found = look(&self.client, &self.alias, &self.topic).await?;
        let index = found.write_index.as_str();
        sweep::present(&self.client, index).await.doing(doing)?;
        // A search sees only what was refreshed.
        let path = [index, "_refresh"];
        let refreshed = self.client.send(Method::POST, &path, &[], Content::Nothing);
        let refreshed = refreshed.await.doing(doing)?.json(&doing())?;
        sweep::complete(&refreshed).doing(doing)?;
        let query =
            json!({"size": PAGE, "query": {"match_all": {}}, "sort": ["_doc"], "_source": false});
        let mut parameters = vec![("scroll", KEEP_ALIVE)];
        parameters.extend(found::preference(&found.settings));
        let path = [index, "_search"];
        let sent = self
            .client
            .send(Method::POST, &path, &parameters, Content::Json(query));
        sent.await.doing(doing)
    }

    async fn list_once(&mut self) -> Result<Vec<String>> {
        if matches!(self.listing, Listing::Over) {
            return Ok(Vec::new());
        }
        let doing = format!("list the documents of '{}'", self.alias);
        let reply = self.page().await?;
        sweep::complete(&reply.json(&doing)?).doing(|| doing.clone())?;
        let page: Page<'_> = serde_json::from_slice(&reply.body)
            .map_err(|error| Error::retry(error).context(doing))?;
        let hits = page.hits.hits.iter();
        let ids: Vec<String> = hits
            .map(|hit| serde_json::from_str(hit.id.get()))
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::stop)?;
        if ids.is_empty() {
            self.listing = Listing::Over;
            sweep::close(&self.client, &page.scroll_id).await?;
        } else {
            self.listing = Listing::At(page.scroll_id);
        }
        Ok(ids)
    }
}

impl Replica for IndexReplica {
    type Ends = (Ends, String);

    fn image(&self, line: &Line) -> Option<Image> {
        self.encoder.read(&line.text, |key, row| {
            let key_type = self.encoder.key_type();
            let mut name = String::new();
            id::of_key(&KeyRow { key_type, row: key }, &mut name).ok()?;
            let digest = row.and_then(|row| {
                let mut written = Vec::new();
                self.plan.write(&row, None, 0, &mut written).ok()?;
                let document = serde_json::from_slice(&written).ok()?;
                Some(self.digest(&document))
            });
            Some(Image { id: name, digest })
        })
    }

    async fn read(&mut self, ids: &[&str]) -> Result<Vec<Option<Held>>> {
        let mut tries = Tries::new(Backoff::default());
        let mut stored = loop {
            let read = stored::documents(&self.client, &self.alias, ids).await;
            match tries.pause(&read) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break read?,
            }
        };
        let mut held = Vec::with_capacity(ids.len());
        for id in ids {
            held.push(match stored.remove(*id) {
                None => None,
                Some(stored) => {
                    let source = stored.source.ok_or_else(|| {
                        Error::stop_msg(format_args!(
                            "'{}' does not keep what its documents were made of (_source)",
                            self.alias
                        ))
                        .remedy("build it without that setting: `reindex`")
                    })?;
                    Some(Held {
                        version: stored.version,
                        digest: self.digest(&source),
                    })
                }
            });
        }
        Ok(held)
    }

    async fn list(&mut self) -> Result<Vec<String>> {
        let mut tries = Tries::new(Backoff::default());
        loop {
            let listed = self.list_once().await;
            match tries.pause(&listed) {
                Some(pause) => {
                    // Which page the engine would give next is not known.
                    self.listing = Listing::Unbegun;
                    tokio::time::sleep(pause).await;
                }
                None => return listed,
            }
        }
    }

    fn named(&self, id: &str) -> Named {
        key_text::named(id, self.encoder.key_type())
    }

    async fn ends(&mut self) -> Result<(Ends, String)> {
        let found = look(&self.client, &self.alias, &self.topic).await?;
        if !self.plan.suits(&found.properties) {
            return Err(Error::stop_msg(format_args!(
                "'{}' maps fields otherwise than when the comparison began",
                self.alias
            ))
            .remedy("run the command again"));
        }
        let generation = found.generation().unwrap_or_default().to_owned();
        let mut tries = Tries::new(Backoff::default());
        loop {
            let ends = self.log.ends().await;
            match tries.pause(&ends) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok((ends?, generation)),
            }
        }
    }

    async fn unread(&mut self, (ends, generation): &(Ends, String)) -> Result<u64> {
        let mut tries = Tries::new(Backoff::default());
        loop {
            let unread = self.log.unread(generation, ends).await;
            match tries.pause(&unread) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return unread,
            }
        }
    }
}

/// What stands behind the alias.
async fn look(client: &Client, alias: &str, topic: &str) -> Result<Found> {
    let mut tries = Tries::new(Backoff::default());
    let query = [("flat_settings", "true")];
    let reply = loop {
        let sent = client
            .send(Method::GET, &[alias], &query, Content::Nothing)
            .await;
        match tries.pause(&sent) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => break sent?,
        }
    };
    if reply.status == StatusCode::NOT_FOUND {
        return Err(Error::stop_msg(format_args!("there is no alias '{alias}'"))
            .remedy("start the service, which builds the index of a topic that has none"));
    }
    Found::read(
        &reply.json(&format!("read the index behind '{alias}'"))?,
        alias,
        topic,
    )
}
