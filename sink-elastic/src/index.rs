//! A topic's index behind its alias: found, made, and kept in step with the row types.

mod generation;
mod handover;
mod needs;
mod options;
mod pipelines;
mod plain;
mod plans;
mod saying;
mod unnoted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tributary_engine::Mark;
use tributary_runtime::{Error, Policy, Result, ResultExt};
use tributary_schemas::record::RecordType;

use crate::announced::Announced;
use crate::client::{Client, Content, Reply};
use crate::config::ElasticConfig;
use crate::document::DocumentPlan;
use crate::failure;
use crate::found::{self, Found};
use crate::naming;
use crate::renewals::Renewals;
use crate::requests::{self, Request};
use crate::shape::Shape;
use crate::succession;
use crate::suspects::Suspects;
use crate::target::WriteTarget;
use crate::throttle::Throttle;
use plans::Plans;
use unnoted::Unnoted;

/// A topic's index, shared by the writers of all its partitions.
#[derive(Debug)]
pub(crate) struct Index {
    client: Arc<Client>,
    alias: String,
    shape: Shape,
    settings: Map<String, Value>,
    live: Mutex<Option<Found>>,
    /// The highest number of an index behind the alias that was seen.
    last_number: AtomicU32,
    /// Where writes go, once that was seen to be an index of ours.
    target: WriteTarget,
    suspects: Suspects,
    throttle: Throttle,
    /// How many operations were passed over because it had their version or a newer one.
    conflicts: AtomicU64,
    plans: Plans,
    announced: Arc<Announced>,
    renewals: Arc<Renewals>,
    /// Which reindex was seen to hand over, and since when.
    handing_over: Mutex<Option<(String, Instant)>>,
    /// Which index cannot say which one it is.
    unnoted: Unnoted,
    /// It is built by a reindex, which makes it.
    is_given: bool,
}

impl Index {
    pub(crate) fn new(client: Arc<Client>, config: &ElasticConfig, topic: &str) -> Self {
        let alias = naming::alias(&config.index_prefix, topic);
        let shape = Shape::of(config, topic);
        Self {
            client,
            throttle: Throttle::new(&alias, config.in_flight, config.bulk_bytes),
            alias,
            settings: requests::settings(config, &shape),
            shape,
            live: Mutex::new(None),
            last_number: AtomicU32::new(0),
            target: WriteTarget::default(),
            suspects: Suspects::default(),
            conflicts: AtomicU64::new(0),
            plans: Plans::default(),
            announced: Arc::default(),
            renewals: Arc::default(),
            handing_over: Mutex::new(None),
            unnoted: Unnoted::default(),
            is_given: false,
        }
    }

    /// The same, which says there how the index differs from what is asked for, and that it is to be built again.
    pub(crate) fn announcing_to(self, announced: Arc<Announced>, renewals: Arc<Renewals>) -> Self {
        Self {
            announced,
            renewals,
            ..self
        }
    }

    /// The index behind an alias of its own, which is there.
    pub(crate) fn given(self, alias: &str, config: &ElasticConfig) -> Self {
        Self {
            throttle: Throttle::new(alias, config.in_flight, config.bulk_bytes),
            alias: alias.to_owned(),
            is_given: true,
            ..self
        }
    }

    pub(crate) fn alias(&self) -> &str {
        &self.alias
    }

    /// The operations that the engine fails at.
    pub(crate) const fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// How many requests may be under way.
    pub(crate) const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// The index had the versions of so many operations, or newer ones.
    pub(crate) fn note_conflicts(&self, operations: u64) {
        self.conflicts.fetch_add(operations, Ordering::Relaxed);
    }

    /// How many operations that were by now.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// The name of the index that writes go to, as far as is known.
    pub(crate) fn target_name(&self) -> Option<Arc<str>> {
        self.target.get().map(|target| target.name)
    }

    /// The compiled form of a row type.
    ///
    /// # Errors
    /// Stop: two columns would be one field.
    pub(crate) fn plan(&self, row_type: &RecordType) -> Result<Arc<DocumentPlan>> {
        self.plans.get(row_type, &self.shape)
    }

    /// Looks the index up anew, since the alias may have moved; the concrete index that writes go to, or `None` if there is none yet.
    ///
    /// # Errors
    /// Stop: something of this name is not ours, or lacks a write index; otherwise as [`Client::send`].
    pub(crate) async fn find(&self) -> Result<Option<String>> {
        let mut live = self.live.lock().await;
        *live = self.look_up().await?;
        Ok(live.as_ref().map(|found| {
            self.target.set(&found.write_index);
            found.write_index.clone()
        }))
    }

    /// As [`found::preference`], of the index as it was seen last.
    pub(crate) async fn preference(&self) -> Option<(&'static str, &'static str)> {
        found::preference(&self.live.lock().await.as_ref()?.settings)
    }

    /// Makes sure that the index behind the alias maps the columns of `plans`. Returns its name.
    ///
    /// # Errors
    /// Retry: it maps fields otherwise than the documents were written for. Else as [`Index::find`].
    pub(crate) async fn prepare(&self, plans: &[Arc<DocumentPlan>]) -> Result<Arc<str>> {
        if let Some(target) = self.target.get()
            && plans.iter().all(|plan| plan.is_mapped(target.generation))
        {
            return Ok(target.name);
        }
        let mut live = self.live.lock().await;
        let found = self.found(&mut live).await?;
        loop {
            let target = self.target.set(&found.write_index);
            for plan in plans
                .iter()
                .filter(|plan| !plan.is_mapped(target.generation))
            {
                let missing = found.missing(plan.properties());
                let refused = self.add_what_it_takes(found, missing).await?;
                if *found.write_index != *target.name {
                    break;
                }
                if !plan.suits(&found.properties) {
                    return Err(failure::otherwise_mapped(&self.alias, &target.name));
                }
                self.announce(found, plan.properties(), refused).await?;
                plan.set_mapped(target.generation);
            }
            if *found.write_index == *target.name {
                return Ok(target.name);
            }
        }
    }

    /// Looks the index up anew, since writes to the alias went to another one than `before`, which no one has told of: it must
    /// be ours, and gets the settings that one of ours needs. What was written to it is to be written again.
    ///
    /// # Errors
    /// Stop: it is not ours, with how to move the alias back. Otherwise as [`Index::find`].
    pub(crate) async fn follow(&self, before: &str) -> Result<()> {
        let mut live = self.live.lock().await;
        let found = match self.look_up().await {
            Ok(found) => found.ok_or_else(|| failure::vanished(&self.alias))?,
            Err(error) if error.policy() == Policy::Stop => {
                return Err(found::moved_and_unfit(&self.alias, before, &error));
            }
            Err(error) => return Err(error),
        };
        let known = self.target_name();
        if known.is_some_and(|known| *known == *found.write_index) {
            // Another write was faster.
        } else if found.build.as_ref().is_some_and(|build| build.of == before) {
            let now = found.write_index.as_str();
            tracing::info!(
                alias = self.alias,
                before,
                now,
                "a reindex has put another index in the place of this one"
            );
        } else {
            tracing::warn!(
                alias = self.alias,
                before,
                now = found.write_index,
                "the alias was moved by somebody else, to another index of ours: rows go there from now on. Rows that were written to the one before after they had been copied are only there: if that may be, run `reindex`"
            );
        }
        self.target.set(&found.write_index);
        *live = Some(found);
        Ok(())
    }

    async fn found<'l>(&self, live: &'l mut Option<Found>) -> Result<&'l mut Found> {
        let found = match live.take() {
            Some(found) => found,
            None => {
                let found = self.look_up().await?;
                found.ok_or_else(|| failure::vanished(&self.alias))?
            }
        };
        Ok(live.insert(found))
    }

    /// Whether what stands behind the alias, if anything, is ours; changes nothing.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn inspect(&self) -> Result<()> {
        self.read().await.map(drop)
    }

    async fn read(&self) -> Result<Option<Found>> {
        let doing = format!("read the index behind '{}'", self.alias);
        let reply = self
            .request(
                Method::GET,
                &[&self.alias],
                &[("flat_settings", "true")],
                Content::Nothing,
            )
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Found::read(&reply.json(&doing)?, &self.alias, self.shape.topic()).map(Some)
    }

    /// Reads what is there, and sets what an index of ours needs.
    async fn look_up(&self) -> Result<Option<Found>> {
        let Some(found) = self.read().await? else {
            return Ok(None);
        };
        if found.async_translog {
            tracing::warn!(
                index = found.write_index,
                "index.translog.durability is async: rows that the engine has confirmed are lost if it dies; set it to request"
            );
        }
        if let Some(request) = requests::remembering(&found) {
            let reply = self.send(&request).await?;
            self.json(
                &reply,
                &format!("set index.gc_deletes of '{}'", found.write_index),
            )?;
        }
        self.plans.fit(&found.properties);
        Ok(Some(found))
    }

    async fn create(&self, mark: &Mark, fields: Map<String, Value>) -> Result<Found> {
        if self.is_given {
            return Err(failure::unbuilt(&self.alias));
        }
        let number = self.last_number.load(Ordering::Relaxed) + 1;
        let index = naming::index(&self.alias, number);
        let reply = self.send(&self.creation(&index, mark, &fields)).await?;
        let doing = format!("create the index '{index}'");
        if reply.failure_kind() == "resource_already_exists_exception" {
            if let Some(found) = self.look_up().await? {
                return Ok(found);
            }
            return Err(self.taken(&index, number).await?.context(doing));
        }
        if reply.failure_kind() == "invalid_index_name_exception"
            && let Some(found) = self.look_up().await?
        {
            return Ok(found);
        }
        if reply.failure_kind() == "invalid_alias_name_exception" {
            // An index has the alias' name since it was looked for: a delete has made it, which another instance has sent.
            return Err(failure::vanished(&self.alias).context(doing));
        }
        reply.json(&doing)?;
        self.target.begin(&index);
        self.plans.fit(&fields);
        tracing::info!(
            index,
            alias = self.alias,
            topic = self.shape.topic(),
            "created an index"
        );
        let mut found = Found::created(index, Some(mark.clone()), fields);
        found.settings.clone_from(&self.settings);
        found.documents = self.shape.note();
        Ok(found)
    }

    /// Why an index of this name cannot be made: another one has it, and is not behind the alias.
    async fn taken(&self, index: &str, number: u32) -> Result<Error> {
        let reply = self
            .request(Method::GET, &[index], &[], Content::Nothing)
            .await?;
        let answer = reply.json(&format!("look at the index '{index}'"))?;
        if !answer.get(index).is_some_and(succession::is_beside) {
            return Ok(found::without_alias(index, &self.alias));
        }
        self.last_number.fetch_max(number, Ordering::Relaxed);
        Ok(Error::retry_msg(format_args!(
            "'{index}' is a reindex', the next number is free"
        )))
    }

    async fn add_fields(&self, found: &mut Found, missing: Map<String, Value>) -> Result<()> {
        let names: Vec<&str> = missing.keys().map(String::as_str).collect();
        tracing::info!(index = found.write_index, fields = ?names, "maps new fields");
        let doing = format!("map new fields of '{}'", found.write_index);
        let mut all = found.properties.clone();
        all.extend(missing.clone());
        let requests = requests::additions(found, &missing);
        let Some((mapping, limits)) = requests.split_last() else {
            return Ok(());
        };
        for limit in limits {
            self.json(&self.send(limit).await?, &doing)?;
        }
        let reply = self.send(mapping).await?;
        if reply.status == StatusCode::BAD_REQUEST {
            // Another writer, at another version of the schema, may have mapped a field first.
            let now = self.look_up().await?;
            if let Some(now) = now.filter(|now| now.missing(&all).is_empty()) {
                *found = now;
                return Ok(());
            }
        }
        self.json(&reply, &doing)?;
        found.properties = all;
        Ok(())
    }

    /// The request that makes the index of this name behind the alias.
    fn creation(&self, index: &str, mark: &Mark, fields: &Map<String, Value>) -> Request {
        let names = (index, self.alias.as_str());
        requests::creation(names, &self.settings, (mark, &self.shape), fields)
    }

    async fn send(&self, request: &Request) -> Result<Reply> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let content = request.content.clone();
        let content = content.map_or(Content::Nothing, Content::Json);
        self.request(request.method.clone(), &path, &[], content)
            .await
    }

    /// The body of a 2xx answer about the index, which may be gone since it was found.
    fn json(&self, reply: &Reply, doing: &str) -> Result<Value> {
        if reply.status == StatusCode::NOT_FOUND {
            return Err(failure::vanished(&self.alias).context(doing.to_owned()));
        }
        reply.json(doing)
    }

    async fn put(&self, path: &[&str], content: Value) -> Result<Reply> {
        self.request(Method::PUT, path, &[], Content::Json(content))
            .await
    }

    async fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Reply> {
        self.client
            .send(method, path, query, content)
            .await
            .doing(|| format!("prepare the index of '{}'", self.alias))
    }
}
