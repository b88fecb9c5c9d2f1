//! What `check` tries on the engine. It changes nothing.

use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tributary_engine::Log;
use tributary_runtime::{Error, Policy, Problem, Result, ResultExt};

use crate::client::{Client, Content};
use crate::config::{Config, ElasticConfig};
use crate::index::Index;

/// The oldest versions whose answers are known: OpenSearch 2, Elasticsearch 8.
const OPENSEARCH_MAJOR: u64 = 2;
const ELASTICSEARCH_MAJOR: u64 = 8;
/// What the service needs on its indices, in Elasticsearch's names.
const INDEX_PRIVILEGES: [&str; 7] = [
    "create_index",
    "index",
    "delete",
    "read",
    "view_index_metadata",
    "manage",
    "maintenance",
];

/// Every problem with the engine: nodes, version, health, blocks, privileges, and existing indices of the topics
/// that are configured by their whole name.
pub(crate) async fn engine(config: &Config) -> Vec<Problem> {
    let client = match Client::new(&config.elasticsearch) {
        Ok(client) => Arc::new(client),
        Err(error) => return vec![Problem::from(&error)],
    };
    let (found, reached) = nodes(&client).await;
    let mut problems = config.elasticsearch.notes();
    problems.extend(found);
    if !reached {
        return problems;
    }
    let mut keep = |found: Result<Option<Problem>>| match found {
        Ok(found) => problems.extend(found),
        Err(error) => problems.push(Problem::from(&error)),
    };
    keep(health(&client).await);
    keep(blocks(&client).await);
    keep(privileges(&client, &config.elasticsearch.index_prefix).await);
    for topic in config
        .topics
        .iter()
        .filter(|topic| !topic.contains(['*', '?']))
    {
        let index = Index::new(Arc::clone(&client), &config.elasticsearch, topic);
        keep(index.inspect().await.map(|()| None));
    }
    let found = documents(config, &client).await;
    let known = |problem: &Problem| problems.contains(problem);
    let found: Vec<_> = found.into_iter().filter(|found| !known(found)).collect();
    problems.extend(found);
    problems
}

/// What is to be said of `elasticsearch.documents`, by the topics and schemas that there are. What is wrong with Kafka and the
/// registry the sink's engine says.
async fn documents(config: &Config, client: &Arc<Client>) -> Vec<Problem> {
    let elastic = &config.elasticsearch;
    if elastic.documents.is_empty() {
        return Vec::new();
    }
    let sink = config.engine();
    let Ok(topics) = Log::topics(&sink).await else {
        return Vec::new();
    };
    let mut problems = unused(elastic, &topics);
    for topic in topics
        .iter()
        .filter(|topic| elastic.documents_of(topic).is_some())
    {
        let form = match Log::of(&sink, topic) {
            Ok(log) => log.form().await.ok().flatten(),
            Err(_) => None,
        };
        let index = Index::new(Arc::clone(client), elastic, topic);
        match index.notes(form.as_ref().map(|form| &form.row_type)).await {
            Ok(notes) => {
                let notes = notes.into_iter();
                problems
                    .extend(notes.map(|note| Problem::note(format_args!("topic {topic}: {note}"))));
            }
            Err(error) => problems.push(Problem::from(&error)),
        }
    }
    problems
}

/// The entries that say nothing of any topic.
fn unused(config: &ElasticConfig, topics: &[String]) -> Vec<Problem> {
    let entries = (1..).zip(&config.documents);
    let unused = entries.filter(|(_, options)| {
        let mut of = topics.iter().filter_map(|topic| config.documents_of(topic));
        !of.any(|of| std::ptr::eq(of, *options))
    });
    let note = |(number, _)| {
        Problem::note(format_args!(
            "entry {number} of `elasticsearch.documents` is about no topic: there is none that its `topics` and the sink's match, or earlier entries have them"
        ))
        .remedy("correct its `topics`, or put it before the others")
    };
    unused.map(note).collect()
}

/// What is wrong with each node, and whether any answers. One that is away while another one works is worth a note:
/// the service leaves it alone.
async fn nodes(client: &Client) -> (Vec<Problem>, bool) {
    let mut found = Vec::new();
    for node in client.each() {
        found.push(version(&node).await);
    }
    let works = found.iter().any(|found| matches!(found, Ok(None)));
    let reached = found.iter().any(Result::is_ok);
    let problems = found.into_iter().filter_map(|found| match found {
        Ok(found) => found,
        Err(error) if works && error.policy() == Policy::Retry => {
            let note = Problem::note(format_args!("{:#}; the other nodes work", error.cause()));
            let remedy = error.remedy_text();
            Some(note.remedy(remedy.unwrap_or("mend it, or take it out of `elasticsearch.url`")))
        }
        Err(error) => Some(Problem::from(&error)),
    });
    (problems.collect(), reached)
}

async fn version(node: &Client) -> Result<Option<Problem>> {
    let answer = get(node, &[], &[]).await?.unwrap_or_default();
    let number = answer.pointer("/version/number").and_then(Value::as_str);
    let major = number.and_then(|number| number.split('.').next()?.parse::<u64>().ok());
    let is_opensearch = answer
        .pointer("/version/distribution")
        .and_then(Value::as_str)
        == Some("opensearch");
    let (name, least) = if is_opensearch {
        ("OpenSearch", OPENSEARCH_MAJOR)
    } else {
        ("Elasticsearch", ELASTICSEARCH_MAJOR)
    };
    Ok(match major {
        Some(major) if major >= least => None,
        Some(_) => Some(
            Problem::new(format_args!(
                "{} is {name} {}",
                node.host(),
                number.unwrap_or_default()
            ))
            .remedy(format!("use {name} {least} or newer")),
        ),
        None => Some(
            Problem::new(format_args!(
                "{} is no search engine: GET / tells no version",
                node.host()
            ))
            .remedy("correct `elasticsearch.url`"),
        ),
    })
}

async fn health(client: &Client) -> Result<Option<Problem>> {
    let answer = get(client, &["_cluster", "health"], &[])
        .await?
        .unwrap_or_default();
    let is_red = answer.get("status").and_then(Value::as_str) == Some("red");
    Ok(is_red.then(|| {
        Problem::new("the cluster's health is red: some shards have no primary")
            .remedy("see GET /_cluster/allocation/explain")
    }))
}

async fn blocks(client: &Client) -> Result<Option<Problem>> {
    let answer = get(
        client,
        &["_cluster", "settings"],
        &[("flat_settings", "true")],
    )
    .await?
    .unwrap_or_default();
    let is_set = |name: &str| {
        ["persistent", "transient"]
            .iter()
            .filter_map(|kind| answer.get(kind)?.get(name)?.as_str())
            .any(|value| value == "true")
    };
    let block = [
        "cluster.blocks.read_only",
        "cluster.blocks.read_only_allow_delete",
        "cluster.blocks.create_index",
    ]
    .into_iter()
    .find(|name| is_set(name));
    Ok(block.map(|name| {
        Problem::new(format_args!(
            "the cluster takes no writes, or no new indices: {name} is set"
        ))
        .remedy(format!(
            "PUT /_cluster/settings {{\"persistent\": {{\"{name}\": null}}}}"
        ))
    }))
}

/// Only Elasticsearch with its security features says what a user may do; elsewhere the first write shows it.
async fn privileges(client: &Client, prefix: &str) -> Result<Option<Problem>> {
    let names = format!("{prefix}*");
    let wanted = json!({"index": [{"names": [names], "privileges": INDEX_PRIVILEGES}]});
    let reply = client
        .send(
            Method::POST,
            &["_security", "user", "_has_privileges"],
            &[],
            Content::Json(wanted),
        )
        .await
        .doing(|| "ask for the user's privileges")?;
    if !reply.status.is_success() {
        return Ok(None);
    }
    let answer = reply.json("ask for the user's privileges")?;
    let granted = answer.get("index").and_then(|index| index.get(&names));
    let missing: Vec<_> = INDEX_PRIVILEGES
        .into_iter()
        .filter(|privilege| {
            granted.and_then(|granted| granted.get(privilege)?.as_bool()) == Some(false)
        })
        .collect();
    Ok((!missing.is_empty()).then(|| {
        Problem::new(format_args!(
            "the user lacks privileges on '{names}': {}",
            missing.join(", ")
        ))
        .remedy("grant them to a role of the user")
    }))
}

/// The answer to a GET; nothing for a 404.
async fn get(client: &Client, path: &[&str], query: &[(&str, &str)]) -> Result<Option<Value>> {
    let reply = client
        .send(Method::GET, path, query, Content::Nothing)
        .await
        .map_err(|error| match error.remedy_text() {
            Some(_) => error,
            None => error.remedy("start the engine, or correct `elasticsearch.url`"),
        })?;
    if reply.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !reply.status.is_success() {
        return Err(Error::stop_msg(format_args!(
            "{} answers {} to GET /{}",
            reply.host,
            reply.status,
            path.join("/")
        ))
        .remedy("correct `elasticsearch.url`"));
    }
    // What is not JSON is not an engine's: the caller finds nothing in it.
    Ok(Some(
        serde_json::from_slice(&reply.body).unwrap_or_default(),
    ))
}
