//! One request to the registry and what its answer means.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::http::{client_builder, printable};
use crate::{Error, Result};

/// The media type of the Confluent API.
const JSON: &str = "application/vnd.schemaregistry.v1+json";
/// The most that an answer may have, in bytes. The largest schemas (a table of 1,600 columns) stay below 1 MiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most of a registry's message that an error repeats, in characters.
const MESSAGE_CHARS_MAX: usize = 1_000;

#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    base: Url,
    /// The base as it may stand in a message.
    shown: String,
}

/// An answer that is not an error in itself.
#[derive(Debug)]
pub(super) enum Answer {
    Found(Vec<u8>),
    /// 404, with the registry's message.
    Missing(String),
    /// 409, with the registry's message.
    Conflict(String),
}

/// The body of an error.
#[derive(Deserialize)]
struct Refusal {
    error_code: Option<u32>,
    message: String,
}

impl Transport {
    pub(super) fn new(url: &str, connect: Duration, total: Duration) -> Result<Self> {
        if let Some(problem) = crate::config::http_url_problems("kafka.registry", url).pop() {
            let error = Error::stop_msg(problem.what);
            return Err(error.remedy(problem.remedy.unwrap_or_default()));
        }
        let base = Url::parse(url).map_err(Error::stop)?;
        let shown = printable(&base);
        let client = client_builder(&base, connect, total)
            .build()
            .map_err(|error| {
                Error::stop(error).context(format!("set up the client of the registry {shown}"))
            })?;
        Ok(Self {
            client,
            base,
            shown,
        })
    }

    pub(super) async fn get(&self, path: &[&str]) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// Sends one request. 404 and 409 are answers; every other refusal is an error.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Encodes what a subject may contain: names of tables are arbitrary.
            segments.pop_if_empty().extend(path);
        }
        let mut request = self
            .client
            .request(method, url)
            .header(header::ACCEPT, JSON);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, JSON)
                .body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.broken(error))?;
        let status = response.status();
        let body = self.body(response).await?;
        match status {
            status if status.is_success() => Ok(Answer::Found(body)),
            StatusCode::NOT_FOUND => Ok(Answer::Missing(self.missing(&body)?)),
            StatusCode::CONFLICT => Ok(Answer::Conflict(message(&body))),
            status => Err(self.refused(status, &body)),
        }
    }

    /// The answer's content, where "not found" is not to be expected.
    pub(super) fn expect<T: DeserializeOwned>(&self, answer: Answer) -> Result<T> {
        match answer {
            Answer::Found(body) => serde_json::from_slice(&body).map_err(|_| self.not_the_api()),
            Answer::Missing(message) => Err(Error::stop_msg(format_args!(
                "the registry {} answers 404: {message}",
                self.shown
            ))),
            Answer::Conflict(message) => Err(self.refused_with(StatusCode::CONFLICT, &message)),
        }
    }

    /// The answer's content, or `None` for "not found".
    pub(super) fn find<T: DeserializeOwned>(&self, answer: Answer) -> Result<Option<T>> {
        match answer {
            Answer::Missing(_) => Ok(None),
            answer => self.expect(answer).map(Some),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Error::stop_msg(format_args!(
                    "the registry {} answers with more than {ANSWER_BYTES_MAX} bytes",
                    self.shown
                )));
            }
        }
        Ok(body)
    }

    /// No whole answer came: the server is away, restarts or is too slow.
    fn broken(&self, error: reqwest::Error) -> Error {
        let what = if error.is_timeout() {
            "does not answer in time"
        } else {
            "cannot be reached"
        };
        let what = format!("the registry {} {what}", self.shown);
        Error::retry(error.without_url()).context(what)
    }

    /// A 404 counts as "not found" only if it is the API's own: any web server answers 404 to a path that
    /// it does not know.
    fn missing(&self, body: &[u8]) -> Result<String> {
        match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal {
                error_code: Some(40_400..=40_499),
                message,
            }) => Ok(shorten(&message)),
            _ => Err(self.not_the_api()),
        }
    }

    fn not_the_api(&self) -> Error {
        let what = format!(
            "what answers at {} is not a schema registry's Confluent API",
            self.shown
        );
        Error::stop_msg(what).remedy(
            "set kafka.registry to the API's base URL: http://host:8081, with Apicurio \
             http://host:8080/apis/ccompat/v7",
        )
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        self.refused_with(status, &message(body))
    }

    fn refused_with(&self, status: StatusCode, message: &str) -> Error {
        let what = format!("the registry {} answers {status}: {message}", self.shown);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::stop_msg(what)
                .remedy("give kafka.registry a user and password that may do this"),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Error::retry_msg(what),
            status if status.is_server_error() => Error::retry_msg(what),
            _ => Error::stop_msg(what),
        }
    }
}

/// The registry's own words, if there are any.
fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => shorten(&refusal.message),
        Err(_) => "no message".to_owned(),
    }
}

fn shorten(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}
