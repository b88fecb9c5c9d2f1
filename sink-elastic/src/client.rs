//! HTTP to the engine: a few endpoints that OpenSearch and Elasticsearch share.

mod reply;

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression as GzLevel;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tributary_runtime::health::Health;
use tributary_runtime::{Error, Result};
use url::{Url, form_urlencoded};

use crate::access::{Access, Pass};
use crate::aws::Refusal;
use crate::config::{Compression, ElasticConfig};
use crate::failure;
use crate::handshake::{self, Fault};
use crate::nodes::{Attempt, Node, Nodes, Work};
use crate::snapshot;
use crate::throttle::Signal;

pub(crate) use reply::Reply;

/// What a node answers where [`Reply::is_foreign`], behind its status.
const FOREIGN: &str = "with what no search engine says";
const OF_FOREIGN: &str = "see what stands in front of the engine at that address (a proxy, an ingress, a page for maintenance), and have it pass requests on; or correct elasticsearch.url";

/// Talks to the configured nodes in turn; goes to the next when one fails.
#[derive(Debug)]
pub(crate) struct Client {
    access: Arc<Access>,
    nodes: Nodes,
}

/// What is sent with a request.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Nothing,
    Json(Value),
    /// The lines of a `_bulk` request.
    Lines(Bytes),
    /// The same, compressed with gzip.
    Compressed(Bytes),
}

impl Content {
    /// The lines of a `_bulk` request, compressed if that is asked for; and how many bytes that are.
    pub(crate) fn lines(lines: Bytes, compression: Compression) -> (Self, usize) {
        match compression {
            Compression::None => {
                let bytes = lines.len();
                (Self::Lines(lines), bytes)
            }
            Compression::Gzip => {
                let compressed = gzip(&lines);
                let bytes = compressed.len();
                (Self::Compressed(compressed), bytes)
            }
        }
    }
}

/// With the level that costs least time: see docs/adr/0011-compression.md.
fn gzip(lines: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), GzLevel::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(lines);
    encoder.finish().unwrap_or_default().into()
}

impl Client {
    /// # Errors
    /// Stop: an address or the credentials are malformed, or the certificates cannot be used.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
        let nodes = config.url.iter().map(|url| {
            Url::parse(url).map_err(|error| Error::stop(error).context("read elasticsearch.url"))
        });
        Ok(Self {
            access: Arc::new(Access::new(config)?),
            nodes: Nodes::new(nodes.collect::<Result<Vec<_>>>()?),
        })
    }

    /// The deadline of a request, in the engines' notation: before that of the connection, so that the engine says what it has waited
    /// for.
    pub(crate) fn engine_timeout(&self) -> String {
        let timeout = self.access.request_timeout() * 4 / 5;
        format!("{}ms", timeout.as_millis())
    }

    /// Says from now on in the service's status which nodes fail, and whether certificates or secrets cannot be used.
    pub(crate) fn report_to(&self, health: Health) {
        self.access.report_to(health.clone());
        self.nodes.report_to(health);
    }

    /// One client per node, to try each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        self.nodes.iter().map(|node| Self {
            access: Arc::clone(&self.access),
            nodes: Nodes::new([node.url.clone()]),
        })
    }

    /// The first node's host and port.
    pub(crate) fn host(&self) -> &str {
        self.nodes.iter().next().map_or("", |node| &node.host)
    }

    /// Sends a request to the node whose turn it is, and to further ones while they fail.
    ///
    /// # Errors
    /// Retry: no node reached, time-out, 408, 429, 5xx, what no engine answers, writes blocked, a closed index, 401 where the secret or certificate is from a file, no keys to sign
    /// with, a signature that is refused where its keys may change or the clock is wrong. Stop: any other 401, 403.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> Result<Reply> {
        self.sound(method, path, query, content).await.0
    }

    /// The same, with what the answer says of the load.
    pub(crate) async fn sound(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: Content,
    ) -> (Result<Reply>, Signal) {
        let work = match content {
            Content::Lines(_) | Content::Compressed(_) => Work::Bulk,
            Content::Nothing | Content::Json(_) => Work::Other,
        };
        let mut turn = self.nodes.turn(work);
        let mut last = (
            Err(Error::stop_msg("elasticsearch.url is empty")),
            Signal::Fine,
        );
        while let Some(attempt) = turn.next() {
            let node = attempt.node;
            let pass = match self.access.pass().await {
                Ok(pass) => pass,
                Err(error) => return (Err(error), Signal::Away),
            };
            let sent = self.let_in(node, &pass, method.clone(), path, query, &content);
            let sent = match sent.await {
                Ok(sent) => sent,
                Err(error) => return (Err(error), Signal::Away),
            };
            let is_settled = match sent {
                Ok(reply) => match Shortfall::of(&reply) {
                    None => {
                        attempt.worked();
                        if reply.status.is_success() {
                            self.access.was_let_in();
                        }
                        let signal = if reply.is_too_large() {
                            Signal::TooLarge
                        } else {
                            Signal::Fine
                        };
                        return (self.judge(reply, path, &pass), signal);
                    }
                    Some(shortfall) => {
                        let why = format!("answers {}", reply.status.as_u16());
                        if reply.is_foreign() {
                            attempt.failed(&format!("{why} {FOREIGN}"), Some(OF_FOREIGN));
                        } else {
                            attempt.failed(&why, None);
                        }
                        let signal = shortfall.signal(reply.status);
                        last = (self.judge(reply, path, &pass), signal);
                        shortfall == Shortfall::Settled
                    }
                },
                Err(error) => {
                    let (error, signal, is_away) = unanswered(error, attempt, &pass);
                    last = (Err(error), signal);
                    is_away
                }
            };
            // The request may still be at work at this node: the loop decides when it is sent again.
            if !is_settled {
                break;
            }
        }
        last
    }

    /// Sends a request, and once more where the engine does not let it in and certificates, secrets or keys have changed.
    ///
    /// # Errors
    /// Of the request itself, and of what it would be signed with: no node has been asked.
    async fn let_in(
        &self,
        node: &Node,
        pass: &Pass,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        content: &Content,
    ) -> Result<reqwest::Result<Reply>> {
        let sent = send_to(node, pass, method.clone(), path, query, content.clone()).await?;
        let is_let_in = sent.as_ref().map_or(true, |reply| {
            reply.status != StatusCode::UNAUTHORIZED
                && reply.signature_refusal(pass) != Some(Refusal::Keys)
        });
        if is_let_in {
            return Ok(sent);
        }
        match self.access.newer(pass).await? {
            Some(pass) => send_to(node, &pass, method, path, query, content.clone()).await,
            None => Ok(sent),
        }
    }

    fn judge(&self, reply: Reply, path: &[&str], pass: &Pass) -> Result<Reply> {
        let host = &reply.host;
        match reply.status.as_u16() {
            // A request that OpenSearch Service has not at all: no fault of the credentials.
            401 if reply.aws_refusal() == Some(Refusal::Request) => Ok(reply),
            401 => Err(self.let_out("credentials", &reply, pass)),
            403 if reply.signature_refusal(pass) == Some(Refusal::Keys) => {
                Err(self.let_out("signature", &reply, pass))
            }
            403 if reply.signature_refusal(pass) == Some(Refusal::Clock) => {
                Err(Error::retry_msg(format_args!(
                    "{host} refuses the signature (403{})",
                    reply.told()
                ))
                .remedy("set this machine's clock: a signature is good for five minutes"))
            }
            403 | 429 if failure::is_block(&reply.failure_kind()) => Err(failure::blocked(
                path.first().copied().unwrap_or_default(),
                &reply.failure_text(),
            )),
            403 => Err(Error::stop_msg(format_args!(
                "{host} does not allow /{} (403{})",
                path.join("/"),
                reply.told()
            ))
            .remedy(if !reply.is_json_object() {
                "who answers is no search engine: see what stands in front of it"
            } else if pass.signer.is_some() {
                "have the policies of AWS (the domain's, the collection's, the role's) allow it to who signs, and grant that role the privileges that docs/search.md lists"
            } else {
                "grant the user the privileges that docs/search.md lists"
            })),
            400 if reply.failure_kind() == failure::CLOSED => {
                Err(failure::closed(path.first().copied().unwrap_or_default()))
            }
            400 if reply.failure_kind() == snapshot::RUNS => {
                Err(snapshot::awaited(&reply.failure_text()))
            }
            _ if reply.is_too_large() => Ok(reply),
            _ if reply.is_foreign() => Err(Error::retry_msg(format_args!(
                "{host} answers {} to /{} {FOREIGN}",
                reply.status,
                path.join("/")
            ))
            .remedy(OF_FOREIGN)),
            408 | 429 | 500..=599 => Err(Error::retry_msg(format_args!(
                "{host} answers {} to /{}{}",
                reply.status,
                path.join("/"),
                reply.told()
            ))),
            _ => Ok(reply),
        }
    }

    /// The engine does not know who asks.
    fn let_out(&self, what: &str, reply: &Reply, pass: &Pass) -> Error {
        let (host, status) = (&reply.host, reply.status.as_u16());
        let what = format!("{host} refuses the {what} ({status}{})", reply.told());
        // Whoever changes a secret or a certificate changes the engine's and the file one after the other. Elasticsearch says 401 also
        // while its index of users is not there.
        let may_pass = pass.may_change()
            || (reply.status == StatusCode::UNAUTHORIZED
                && pass.shows_something()
                && self.access.is_let_out_for_now());
        let error = if may_pass {
            Error::retry_msg(what)
        } else {
            Error::stop_msg(what)
        };
        error.remedy(pass.credentials.remedy())
    }
}

async fn send_to(
    node: &Node,
    pass: &Pass,
    method: Method,
    path: &[&str],
    query: &[(&str, &str)],
    content: Content,
) -> Result<reqwest::Result<Reply>> {
    let mut url = node.url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    if !query.is_empty() {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        url.set_query(Some(&as_signed(&query)));
    }
    let request = pass.credentials.add_to(pass.http.request(method, url));
    let request = match content {
        Content::Nothing => request,
        Content::Json(value) => request
            .header(CONTENT_TYPE, "application/json")
            .body(value.to_string()),
        Content::Lines(lines) => request
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(lines),
        Content::Compressed(lines) => request
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(CONTENT_ENCODING, "gzip")
            .body(lines),
    };
    let mut request = match request.build() {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(signer) = &pass.signer {
        signer.sign(&mut request)?;
    }
    Ok(answer_to(request, node, &pass.http).await)
}

async fn answer_to(
    request: reqwest::Request,
    node: &Node,
    http: &reqwest::Client,
) -> reqwest::Result<Reply> {
    let response = http.execute(request).await?;
    let status = response.status();
    let body = response.bytes().await?;
    Ok(Reply {
        status,
        body,
        host: Arc::clone(&node.host),
    })
}

/// A form's text as signatures have it. For the engines it is the same: where the two differ, a server may take the one or the other
/// to be what is signed.
fn as_signed(query: &str) -> String {
    query
        .replace('+', "%20")
        .replace('*', "%2A")
        .replace("%7E", "~")
}

/// What a request says of a node that gives no answer: the error, what it says of the load, and whether nothing has been asked.
fn unanswered(error: reqwest::Error, attempt: Attempt<'_>, pass: &Pass) -> (Error, Signal, bool) {
    let node = attempt.node;
    let fault = handshake::fault(&error, pass.has_identity);
    // Without a connection nothing has been asked.
    let is_away = error.is_connect() || fault.is_some();
    match &fault {
        Some(fault) => attempt.failed(&fault.what, Some(&fault.remedy)),
        None if is_away => attempt.failed("cannot be reached", None),
        None => attempt.failed("does not answer", None),
    }
    let signal = if is_away {
        Signal::Away
    } else if error.is_timeout() {
        Signal::Busy
    } else {
        Signal::Cut
    };
    (transport_error(error, fault, node), signal, is_away)
}

/// What an answer says of the node that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortfall {
    /// It has not done what it was asked, another node may.
    Settled,
    /// Some server behind it may still be at work.
    Unsettled,
}

impl Shortfall {
    /// Whether another node could have answered better. An engine that is overloaded or away as a whole says the same:
    /// its nodes are all left alone then, and asked one at a time.
    fn of(reply: &Reply) -> Option<Self> {
        match reply.status.as_u16() {
            _ if reply.is_too_large() => None,
            // By the engine: writes are blocked, whichever node is asked.
            429 if failure::is_block(&reply.failure_kind()) => None,
            408 | 504 => Some(Self::Unsettled),
            429 | 500..=599 => Some(Self::Settled),
            _ if reply.is_foreign() => Some(Self::Settled),
            _ => None,
        }
    }

    /// What it says of the load, where no other node does better.
    fn signal(self, status: StatusCode) -> Signal {
        match (self, status) {
            (Self::Unsettled, _) | (_, StatusCode::TOO_MANY_REQUESTS) => Signal::Busy,
            // Something in the engine has failed, which may be a document.
            (_, StatusCode::INTERNAL_SERVER_ERROR) => Signal::Fine,
            _ => Signal::Away,
        }
    }
}

/// A certificate, too, is renewed while the service runs, at the engine or in a file: it tries again.
fn transport_error(error: reqwest::Error, fault: Option<Fault>, node: &Node) -> Error {
    let host = &node.host;
    match fault {
        Some(fault) => Error::retry_msg(format_args!("{host} {}", fault.what)).remedy(fault.remedy),
        None => {
            Error::retry(error.without_url()).context(format!("reach the search engine at {host}"))
        }
    }
}
