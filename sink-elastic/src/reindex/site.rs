//! The engine, as a reindex of one topic uses it.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tributary_engine::Note;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Result, ResultExt};

use super::standing::Standing;
use crate::client::{Client, Content, Reply};
use crate::config::Config;
use crate::found::Found;
use crate::requests::Request;
use crate::succession::{BLOCK, Notes};
use crate::tries::Tries;
use crate::{mark, naming};

/// What a search is called among the engine's tasks.
const SEARCHES: &str = "indices:data/read/search*";

/// A topic's alias, and the engine that has it.
#[derive(Debug)]
pub(super) struct Site {
    client: Client,
    pub(super) alias: String,
    pub(super) topic: String,
}

/// The indices of the topic.
#[derive(Debug)]
pub(super) struct View {
    /// The one that rows are written to by the alias; or the one that has its name.
    pub(super) current: Standing,
    /// All others.
    pub(super) others: Vec<Standing>,
}

impl View {
    /// The index of this name.
    pub(super) fn index(&self, name: &str) -> Option<&Standing> {
        std::iter::once(&self.current)
            .chain(&self.others)
            .find(|index| index.name == name)
    }
}

impl Site {
    /// # Errors
    /// Stop: an address or the credentials are malformed.
    pub(super) fn new(config: &Config, topic: &str) -> Result<Self> {
        Ok(Self {
            client: Client::new(&config.elasticsearch)?,
            alias: naming::alias(&config.elasticsearch.index_prefix, topic),
            topic: topic.to_owned(),
        })
    }

    /// What there is now.
    ///
    /// # Errors
    /// Stop: the alias is not there, or leads to an index that is not ours.
    pub(super) async fn look(&self) -> Result<View> {
        let alias = self.alias.as_str();
        let doing = format!("read the index behind '{alias}'");
        let reply = self.get(&[alias], &[("flat_settings", "true")]).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(Error::stop_msg(format_args!("there is no alias '{alias}'"))
                .remedy("start the service, which builds the index of a topic that has none"));
        }
        let answer = reply.json(&doing)?;
        let name = match answer.get(alias) {
            Some(_) => alias.to_owned(),
            None => Found::read(&answer, alias, &self.topic)?.write_index,
        };
        let current = self.standing(&name, &answer);
        let current =
            current.ok_or_else(|| Error::retry_msg(format_args!("'{alias}' leads nowhere")))?;
        let mut others = self.list().await?;
        others.retain(|standing| standing.name != current.name);
        Ok(View { current, others })
    }

    /// Waits until the engine has done what it was asked for before: a reindex that was killed may have left a request for an index
    /// behind.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(super) async fn settle(&self) -> Result<()> {
        let asked_before = [("wait_for_events", "high"), ("timeout", "5s")];
        let reply = self.get(&["_cluster", "health"], &asked_before).await?;
        let settled = reply.json("wait for what the engine was asked for before");
        settled.map(drop)
    }

    /// The indices of the topic that have the names of its alias'.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(super) async fn list(&self) -> Result<Vec<Standing>> {
        let all = format!("{}-*", self.alias);
        let query = [("flat_settings", "true"), ("expand_wildcards", "all")];
        let reply = self.get(&[&all], &query).await?;
        let listed = reply.json(&format!("read the indices '{all}'"))?;
        let indices = listed.as_object().into_iter().flatten();
        let of_topic = indices.filter_map(|(name, index)| Standing::of(name, index, &self.topic));
        Ok(of_topic.collect())
    }

    /// An index, as it is now; `None` where it is gone.
    pub(super) async fn index(&self, name: &str) -> Result<Option<Standing>> {
        let reply = self.get(&[name], &[("flat_settings", "true")]).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = reply.json(&format!("read the index '{name}'"))?;
        Ok(self.standing(name, &answer))
    }

    /// The index of this name in the engine's answer; that of the alias' name is anybody's.
    fn standing(&self, name: &str, answer: &Value) -> Option<Standing> {
        let index = answer.get(name)?;
        if name == self.alias {
            return Some(Standing::plain(name, index));
        }
        Standing::of(name, index, &self.topic)
    }

    /// Makes an index; whether there was none of the name.
    pub(super) async fn create(&self, name: &str, content: Value) -> Result<bool> {
        let reply = self.send(&Request::put(&[name], content)).await?;
        if reply.failure_kind() == "resource_already_exists_exception" {
            return Ok(false);
        }
        reply.json(&format!("create the index '{name}'"))?;
        Ok(true)
    }

    pub(super) async fn note(&self, index: &str, notes: &Notes) -> Result<()> {
        let request = Request::put(&[index, "_mapping"], notes.mapping());
        self.done(
            &request,
            &format!("note in '{index}' how far the reindex is"),
        )
        .await
    }

    /// Says that these partitions are read to their ends.
    pub(super) async fn note_caught_up(
        &self,
        index: &str,
        partitions: i32,
        at_ms: i64,
    ) -> Result<()> {
        let notes: Vec<_> = (0..partitions)
            .map(|partition| Note::CaughtUp { partition, at_ms })
            .collect();
        let content = json!({"properties": mark::properties(&notes)});
        let request = Request::put(&[index, "_mapping"], content);
        self.done(&request, &format!("note in '{index}' how far it has come"))
            .await
    }

    pub(super) async fn set(&self, index: &str, settings: Value) -> Result<()> {
        let request = Request::put(&[index, "_settings"], settings);
        self.done(&request, &format!("set up the index '{index}'"))
            .await
    }

    pub(super) async fn unblock(&self, index: &str) -> Result<()> {
        self.set(index, json!({ (BLOCK): null })).await
    }

    pub(super) async fn change_aliases(&self, actions: &[Value]) -> Result<()> {
        self.done(
            &Request::aliases(actions),
            &format!("change aliases of '{}'", self.alias),
        )
        .await
    }

    /// Deletes an index; one that is gone is fine. Of one that is in a snapshot which is being taken see [`snapshot::is_awaited`].
    pub(super) async fn delete(&self, index: &str) -> Result<()> {
        let reply = self.send(&Request::deletion(index)).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        reply.json(&format!("delete the index '{index}'")).map(drop)
    }

    /// Has no write go to an index any more; those under way are finished. Tried once: the caller is in a hurry.
    pub(super) async fn block(&self, index: &str) -> Result<()> {
        let reply = self
            .client
            .send(
                Method::PUT,
                &[index, "_block", "write"],
                &[],
                Content::Nothing,
            )
            .await?;
        let doing = format!("block writes to '{index}'");
        let answer = reply.json(&doing)?;
        // Not of all shards it was said that their writes are over.
        if answer.get("shards_acknowledged") == Some(&Value::Bool(false)) {
            return Err(Error::retry_msg("not all shards have confirmed it").context(doing));
        }
        Ok(())
    }

    /// Moves aliases. Tried once: whoever does not get an answer looks whether it was done.
    pub(super) async fn move_aliases(&self, actions: &[Value]) -> Result<()> {
        let request = Request::aliases(actions);
        let reply = self.once(&request).await?;
        reply.json(&format!("move '{}'", self.alias)).map(drop)
    }

    /// Makes what is written visible to searches, on all shards, and counts the documents.
    pub(super) async fn count(&self, index: &Standing) -> Result<u64> {
        let name = index.name.as_str();
        self.refresh(name).await?;
        let doing = format!("count the documents of '{name}'");
        let (path, of_primaries) = ([name, "_count"], index.preference());
        let reply = self
            .client
            .send(
                Method::GET,
                &path,
                of_primaries.as_slice(),
                Content::Nothing,
            )
            .await
            .doing(|| doing.clone())?;
        let answer = whole(reply.json(&doing)?, &doing)?;
        let count = answer.get("count").and_then(Value::as_u64);
        count.ok_or_else(|| Error::retry_msg("no count").context(doing))
    }

    pub(super) async fn refresh(&self, index: &str) -> Result<()> {
        let doing = format!("refresh the index '{index}'");
        let reply = self
            .client
            .send(Method::POST, &[index, "_refresh"], &[], Content::Nothing)
            .await
            .doing(|| doing.clone())?;
        whole(reply.json(&doing)?, &doing).map(drop)
    }

    /// As [`Site::refresh`], and tried again where the engine is away or busy: for where no writes wait.
    pub(super) async fn refresh_patiently(&self, index: &str) -> Result<()> {
        let mut tries = Tries::new(Backoff::default());
        loop {
            let refreshed = self.refresh(index).await;
            match tries.pause(&refreshed) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return refreshed,
            }
        }
    }

    /// Of an index: its health, and how many of its shards are being set up.
    pub(super) async fn health(&self, index: &str) -> Result<(String, u64)> {
        let doing = format!("ask for the health of '{index}'");
        let reply = self.get(&["_cluster", "health", index], &[]).await?;
        let answer = reply.json(&doing)?;
        let status = answer.get("status").and_then(Value::as_str);
        let initializing = answer.get("initializing_shards").and_then(Value::as_u64);
        Ok((
            status.unwrap_or("red").to_owned(),
            initializing.unwrap_or(0),
        ))
    }

    /// The searches that the engine is at.
    pub(super) async fn searches(&self) -> Result<BTreeSet<String>> {
        let doing = "ask the engine for its searches".to_owned();
        let reply = self.get(&["_tasks"], &[("actions", SEARCHES)]).await?;
        let answer = reply.json(&doing)?;
        let nodes = answer.get("nodes").and_then(Value::as_object);
        let tasks = nodes.into_iter().flat_map(|nodes| nodes.values());
        let tasks = tasks.filter_map(|node| node.get("tasks")?.as_object());
        Ok(tasks.flat_map(|tasks| tasks.keys().cloned()).collect())
    }

    /// How many searches an index has begun that are not over, scrolls included; 0 of one that is gone.
    pub(super) async fn open_contexts(&self, index: &str) -> Result<u64> {
        let reply = self.get(&[index, "_stats", "search"], &[]).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(0);
        }
        let answer = reply.json(&format!("ask for the searches of '{index}'"))?;
        let open = answer.pointer("/_all/total/search/open_contexts");
        Ok(open.and_then(Value::as_u64).unwrap_or(0))
    }

    async fn done(&self, request: &Request, doing: &str) -> Result<()> {
        self.send(request).await?.json(doing).map(drop)
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Reply> {
        self.ask(Method::GET, path, query, Content::Nothing).await
    }

    /// For what changes nothing: tried again where the engine is away or busy.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Reply> {
        let mut tries = Tries::new(Backoff::default());
        loop {
            let sent = self
                .client
                .send(method.clone(), path, query, content.clone());
            let sent = sent.await;
            match tries.pause(&sent) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return sent,
            }
        }
    }

    pub(super) async fn ask_once(
        &self,
        method: Method,
        path: &[&str],
        content: Content,
    ) -> Result<Reply> {
        self.client.send(method, path, &[], content).await
    }

    /// For requests that may be repeated.
    async fn send(&self, request: &Request) -> Result<Reply> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 2.0);
        let mut tries = Tries::new(backoff);
        loop {
            let sent = self.once(request).await;
            match tries.pause(&sent) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return sent,
            }
        }
    }

    async fn once(&self, request: &Request) -> Result<Reply> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let content = request.content.clone();
        let content = content.map_or(Content::Nothing, Content::Json);
        self.client
            .send(request.method.clone(), &path, &[], content)
            .await
    }
}

/// The answer, where all shards have given theirs.
pub(super) fn whole(answer: Value, doing: &str) -> Result<Value> {
    match answer.pointer("/_shards/failed").and_then(Value::as_u64) {
        None | Some(0) => Ok(answer),
        Some(failed) => {
            let error = Error::retry_msg(format_args!("{failed} shards do not answer"));
            Err(error.context(doing.to_owned()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::http::{StatusCode, Uri};
    use serde_json::json;

    use super::Site;
    use crate::config::Config;

    /// The topic `t` on an engine that answers like this.
    pub(in crate::reindex) async fn site(engine: Router) -> Site {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, engine).await.unwrap() });
        site_at(&url, "t")
    }

    /// A topic on the engine there.
    pub(in crate::reindex) fn site_at(url: &str, topic: &str) -> Site {
        Site::new(&config(url, topic), topic).unwrap()
    }

    /// A service's, with no Kafka.
    pub(in crate::reindex) fn config(url: &str, topic: &str) -> Config {
        let config = format!(
            "name = \"s\"\ntopics = [\"{topic}\"]\n[kafka]\nbrokers = [\"localhost:9\"]\nregistry = \"http://localhost:9\"\n[elasticsearch]\nurl = \"{url}\"\n"
        );
        toml::from_str(&config).unwrap()
    }

    /// A real engine takes its requests one after the other, and this long only where it is busy.
    #[tokio::test]
    async fn an_index_that_is_still_being_made_is_listed_once_the_engine_has_settled() {
        let is_done = Arc::new(AtomicBool::new(false));
        let engine = Router::new().fallback(async move |uri: Uri| {
            if uri.path() == "/_cluster/health" {
                let waits = uri
                    .query()
                    .is_some_and(|query| query.contains("wait_for_events"));
                is_done.fetch_or(waits, Ordering::SeqCst);
                return json!({"timed_out": false}).to_string();
            }
            let index = json!({"mappings": {"_meta": {"tributary": {"topic": "t"}}}});
            let made = is_done.load(Ordering::SeqCst);
            let listed = if made {
                json!({"t-000002": index})
            } else {
                json!({})
            };
            listed.to_string()
        });
        let site = site(engine).await;
        assert!(site.list().await.unwrap().is_empty());
        site.settle().await.unwrap();
        let listed = site.list().await.unwrap();
        let names: Vec<_> = listed.iter().map(|index| index.name.as_str()).collect();
        assert_eq!(names, ["t-000002"]);
    }

    #[tokio::test]
    async fn a_refresh_that_an_engine_is_too_busy_for_is_tried_again() {
        let is_asked = Arc::new(AtomicBool::new(false));
        let engine = Router::new().fallback(async move || {
            let status = match is_asked.swap(true, Ordering::SeqCst) {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, json!({"_shards": {"failed": 0}}).to_string())
        });
        let site = site(engine).await;
        site.refresh_patiently("t-000002").await.unwrap();
    }
}
