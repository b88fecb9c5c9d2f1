//! HTTP to the engine: a few endpoints that OpenSearch and Elasticsearch share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Result};
use url::Url;

use crate::config::ElasticConfig;
use crate::failure::{self, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Close idle connections before the engines or a load balancer do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Talks to one of the configured nodes; goes to the next when one cannot be reached.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    credentials: Credentials,
    nodes: Vec<Url>,
    current: AtomicUsize,
    request_timeout: Duration,
}

/// What is sent with a request.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Nothing,
    Json(Value),
    /// The lines of a `_bulk` request.
    Lines(Bytes),
}

/// A response that says something about the request itself: 2xx, or what the caller has to judge.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body of a 2xx response.
    ///
    /// # Errors
    /// Stop: the engine refused (its words are told: not for requests that carry rows). Retry: the body is cut.
    pub(crate) fn json(&self, doing: &str) -> Result<Value> {
        if !self.status.is_success() {
            return Err(Error::stop_msg(self.refusal()).context(doing.to_owned()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::retry(error).context(doing.to_owned()))
    }

    /// The type of the failure that the body tells; empty if it tells none.
    pub(crate) fn failure_kind(&self) -> String {
        Failure::parse(&self.body).map_or_else(String::new, |failure| failure.kind)
    }

    fn refusal(&self) -> String {
        let told = Failure::parse(&self.body).map(|failure| format!(" ({})", failure.full()));
        format!(
            "the engine answers {}{}",
            self.status,
            told.unwrap_or_default()
        )
    }
}

impl Client {
    /// # Errors
    /// Stop: an address or the credentials are malformed, or the TLS roots cannot be read.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
        // Another part of the process may have installed it already: that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request_timeout = Duration::from_millis(config.request_timeout_ms);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(request_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::stop(error).context("set up the HTTP client"))?;
        let nodes = config.url.iter().map(|url| {
            Url::parse(url).map_err(|error| Error::stop(error).context("read elasticsearch.url"))
        });
        Ok(Self {
            http,
            credentials: Credentials::new(config)?,
            nodes: nodes.collect::<Result<_>>()?,
            current: AtomicUsize::new(0),
            request_timeout,
        })
    }

    /// The deadline of a request, in the engines' notation.
    pub(crate) fn engine_timeout(&self) -> String {
        format!("{}ms", self.request_timeout.as_millis())
    }

    /// One client per node, to try each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        self.nodes.iter().map(|node| Self {
            http: self.http.clone(),
            credentials: self.credentials.clone(),
            nodes: vec![node.clone()],
            current: AtomicUsize::new(0),
            request_timeout: self.request_timeout,
        })
    }

    /// The current node's host and port.
    pub(crate) fn host(&self) -> String {
        let current = self.current.load(Ordering::Relaxed);
        self.nodes
            .get(current % self.nodes.len().max(1))
            .map_or_else(String::new, host)
    }

    /// Sends a request to the current node, or to the next one that can be reached.
    ///
    /// # Errors
    /// Retry: no node reached, time-out, 408, 429, 5xx, writes blocked. Stop: 401, 403.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Reply> {
        let first = self.current.load(Ordering::Relaxed);
        let mut last = Error::stop_msg("elasticsearch.url is empty");
        for turn in 0..self.nodes.len() {
            let index = (first + turn) % self.nodes.len();
            let Some(node) = self.nodes.get(index) else {
                break;
            };
            match self
                .send_to(node, method.clone(), path, query, content.clone())
                .await
            {
                Ok(reply) => {
                    self.current.store(index, Ordering::Relaxed);
                    return judge(reply, node, path);
                }
                Err(error) => {
                    let unreachable = error.is_connect();
                    last = transport_error(error, node);
                    // After a time-out the request may still be at work: the loop decides when it is sent again.
                    if !unreachable {
                        self.current.store(index + 1, Ordering::Relaxed);
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    async fn send_to(
        &self,
        node: &Url,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> reqwest::Result<Reply> {
        let mut url = node.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.credentials.add_to(self.http.request(method, url));
        let request = match content {
            Content::Nothing => request,
            Content::Json(value) => request
                .header(CONTENT_TYPE, "application/json")
                .body(value.to_string()),
            Content::Lines(lines) => request
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(lines),
        };
        let response = request.send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        Ok(Reply { status, body })
    }
}

/// Who the service is to the engine.
#[derive(Debug, Clone)]
enum Credentials {
    None,
    Basic {
        user: String,
        password: Option<Secret>,
    },
    ApiKey(HeaderValue),
}

impl Credentials {
    fn new(config: &ElasticConfig) -> Result<Self> {
        if let Some(key) = &config.api_key {
            let mut value =
                HeaderValue::from_str(&format!("ApiKey {}", key.expose())).map_err(|_| {
                    Error::stop_msg("elasticsearch.api_key has a letter that no HTTP header takes")
                })?;
            value.set_sensitive(true);
            return Ok(Self::ApiKey(value));
        }
        Ok(config
            .username
            .clone()
            .map_or(Self::None, |user| Self::Basic {
                user,
                password: config.password.clone(),
            }))
    }

    fn add_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic { user, password } => {
                request.basic_auth(user, password.as_ref().map(Secret::expose))
            }
            Self::ApiKey(value) => request.header(AUTHORIZATION, value.clone()),
        }
    }
}

fn judge(reply: Reply, node: &Url, path: &[&str]) -> Result<Reply> {
    let told = || {
        let failure = Failure::parse(&reply.body);
        failure.map_or_else(String::new, |failure| format!(" ({})", failure.kinds()))
    };
    let host = host(node);
    match reply.status.as_u16() {
        401 => Err(Error::stop_msg(format_args!(
            "{host} refuses the credentials (401{})",
            told()
        ))
        .remedy("set elasticsearch.username and password, or elasticsearch.api_key")),
        403 | 429 if reply.failure_kind() == "cluster_block_exception" => Err(failure::blocked(
            path.first().copied().unwrap_or_default(),
            &Failure::parse(&reply.body).map_or_else(String::new, |failure| failure.full()),
        )),
        403 => Err(Error::stop_msg(format_args!(
            "{host} does not allow /{} (403{})",
            path.join("/"),
            told()
        ))
        .remedy("grant the user the privileges that docs/search.md lists")),
        408 | 429 | 500..=599 => Err(Error::retry_msg(format_args!(
            "{host} answers {} to /{}{}",
            reply.status,
            path.join("/"),
            told()
        ))),
        _ => Ok(reply),
    }
}

fn transport_error(error: reqwest::Error, node: &Url) -> Error {
    Error::retry(error.without_url()).context(format!("reach the search engine at {}", host(node)))
}

/// Host and port; the rest of a URL may hold secrets.
fn host(node: &Url) -> String {
    let host = node.host_str().unwrap_or_default();
    match node.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
