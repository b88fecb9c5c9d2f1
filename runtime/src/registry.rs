//! The schema registry, by its Confluent API. The requests are schema_registry_converter's; what their answers mean
//! to a service, and the few that the crate lacks, are ours (docs/adr/0005-registry-client.md).

mod answer;
mod deleted;
mod fault;

use std::fmt;
use std::time::Duration;

use reqwest::{Method, header};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject_and_version, perform_sr_call, post_schema,
};
use schema_registry_converter::schema_registry_common::{SchemaType, SrCall, SuppliedSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use crate::http::{client_builder, printable};
use crate::{Error, Result, ResultExt};
use fault::{Fault, Kind};

/// The compatibility that value subjects are set to: every newer schema reads what any older one wrote.
pub const BACKWARD_TRANSITIVE: &str = "BACKWARD_TRANSITIVE";

/// The same, of the newest schema and the one before it.
pub const BACKWARD: &str = "BACKWARD";

/// How long a client waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The media type of the Confluent API.
const JSON: &str = "application/vnd.schemaregistry.v1+json";

/// A client of the registry. Cheap to clone; every request has a bounded time. It tries each request
/// once: [`until_ok`](crate::retry::until_ok) is for the rest.
#[derive(Clone)]
pub struct Registry {
    settings: SrSettings,
    /// For what the crate has no call for: the compatibility of a subject.
    client: ClientWithMiddleware,
    base: Url,
    /// The base as it may stand in a message.
    shown: String,
}

/// Only where it is: the settings hold the password.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.shown).finish()
    }
}

/// What the registry has under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// An Avro schema, as JSON text.
    Avro(String),
    /// A schema of this other kind.
    Other(String),
}

impl Schema {
    /// The text of an Avro schema.
    pub fn avro(self) -> Option<String> {
        match self {
            Self::Avro(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

/// The newest version of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The schema's id, as on the wire.
    pub id: u32,
    /// The version within the subject, from 1.
    pub version: u32,
    /// The schema as JSON text.
    pub schema: String,
}

/// The API reads a level as `compatibilityLevel` and writes it as `compatibility`.
#[derive(Deserialize)]
struct Compatibility {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

/// What became of a schema that was offered to the registry.
#[derive(Debug)]
pub enum Offered {
    /// It is there, with this id.
    Registered(u32),
    /// The subject's compatibility forbids it: the error with which [`Registry::register`] stops.
    Incompatible(Error),
}

impl Registry {
    /// A client for the base URL of a Confluent API, with time-outs of 5 s to connect and 15 s in all.
    /// User and password in the URL are sent as basic authentication and never printed.
    ///
    /// # Errors
    /// The URL is not a valid `http(s)://` URL, or TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self> {
        Self::with_timeouts(url, CONNECT_TIMEOUT, REQUEST_TIMEOUT)
    }

    fn with_timeouts(url: &str, connect: Duration, total: Duration) -> Result<Self> {
        if let Some(problem) = crate::config::http_url_problems("kafka.registry", url).pop() {
            return Err(problem.into());
        }
        let base = Url::parse(url).map_err(Error::stop)?;
        let shown = printable(&base);
        let doing = || format!("set up the client of the registry {shown}");
        let builder = || client_builder(&base, connect, total);
        let client = builder().build().map_err(Error::stop).doing(doing)?;
        let settings = SrSettings::new_builder(base.as_str().trim_end_matches('/').to_owned())
            .set_timeout(total)
            .with_middleware(answer::read)
            .build_with(builder())
            .map_err(|error| Error::stop_msg(error.cause.unwrap_or(error.error)))
            .doing(doing)?;
        let client = ClientBuilder::new(client).with(answer::read).build();
        Ok(Self {
            settings,
            client,
            base,
            shown,
        })
    }

    /// Registers an Avro schema under a subject, byte for byte as given, and returns its id; the same id when it is
    /// there already.
    ///
    /// # Errors
    /// Stop: incompatible with what the subject has, invalid, not allowed; retry: not reachable.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        match self.offer(subject, schema).await? {
            Offered::Registered(id) => Ok(id),
            Offered::Incompatible(error) => Err(error),
        }
    }

    /// [`register`](Self::register), for a caller who knows what to do about a schema that is refused.
    ///
    /// # Errors
    /// As [`register`](Self::register), but for incompatibility.
    pub async fn offer(&self, subject: &str, schema: &str) -> Result<Offered> {
        let doing = || format!("register a schema under subject '{subject}'");
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let fault = match post_schema(&self.settings, self.segment(subject), supplied).await {
            Ok(registered) => return Ok(Offered::Registered(registered.id)),
            Err(error) => Fault::from(error),
        };
        if fault.kind != Kind::Conflict {
            return Err(self.error(fault)).doing(doing);
        }
        // Of two registrations at the same moment Apicurio refuses the second one.
        match self.lookup(subject, schema).await? {
            Some(id) => Ok(Offered::Registered(id)),
            None => Ok(Offered::Incompatible(
                fault.incompatible(subject).context(doing()),
            )),
        }
    }

    /// The schema with an id; `None` if the registry has none.
    ///
    /// # Errors
    /// Stop: not allowed; retry: not reachable.
    pub async fn schema(&self, id: u32) -> Result<Option<Schema>> {
        let found = get_schema_by_id(id, &self.settings).await;
        let found = self.found(found.map_err(Fault::from));
        let found = found.doing(|| format!("read the schema with id {id}"))?;
        Ok(found.map(|found| match found.schema_type {
            SchemaType::Avro => Schema::Avro(found.schema),
            other => Schema::Other(format!("{other:?}")),
        }))
    }

    /// The id under which a subject has exactly this schema; `None` if it has not.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn lookup(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let doing = || format!("look a schema up under subject '{subject}'");
        let subject = self.segment(subject);
        let body = json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        let call = SrCall::PostForVersion(&subject, &body);
        let found = perform_sr_call(&self.settings, call).await;
        let found = found
            .map_err(Fault::from)
            .and_then(|found| found.id.ok_or_else(Fault::foreign));
        self.found(found).doing(doing)
    }

    /// The newest version of a subject; `None` if there is no such subject.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>> {
        let doing = || format!("read the newest schema of subject '{subject}'");
        let subject = self.segment(subject);
        let found = get_schema_by_subject_and_version(&self.settings, &subject, None).await;
        let found = found.map_err(Fault::from).and_then(|found| {
            Ok(Latest {
                id: found.id,
                version: found.version.ok_or_else(Fault::foreign)?,
                schema: found.schema,
            })
        });
        self.found(found).doing(doing)
    }

    /// A subject's own compatibility; `None` if it has none and the registry's general one holds.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        let doing = || format!("read the compatibility of subject '{subject}'");
        let found = self.ask(Method::GET, &["config", subject], None).await;
        let found: Option<Compatibility> = self.found(found).doing(doing)?;
        Ok(found.map(|found| found.level))
    }

    /// Sets a subject's compatibility. Call it after the subject's first
    /// [`register`](Self::register): Apicurio takes the setting for a subject that does not exist, and
    /// forgets it.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        let body = json!({ "compatibility": level }).to_string();
        self.ask(Method::PUT, &["config", subject], Some(body))
            .await
            .map(|_: serde_json::Value| ())
            .map_err(|fault| self.error(fault))
            .doing(|| format!("set the compatibility of subject '{subject}' to {level}"))
    }

    /// Asks whether the registry answers and lets us in; changes nothing.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn check(&self) -> Result<()> {
        self.ask(Method::GET, &["config"], None)
            .await
            .map(|_: Compatibility| ())
            .map_err(|fault| self.error(fault))
            .doing(|| "ask the schema registry for its settings")
    }

    /// One request that the crate has no call for.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<String>,
    ) -> Result<T, Fault> {
        self.request(method, self.url(path), body).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<String>,
    ) -> Result<T, Fault> {
        let mut request = self
            .client
            .request(method, url)
            .header(header::ACCEPT, JSON);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, JSON).body(body);
        }
        let answer = request.send().await?;
        answer.json().await.map_err(|_| Fault::foreign())
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// A subject as it stands in a path. Names of tables are arbitrary, and the crate encodes slashes alone.
    fn segment(&self, subject: &str) -> String {
        let url = self.url(&[subject]);
        let last = url.path().rsplit('/').next();
        last.unwrap_or_default().to_owned()
    }

    /// What was found, or `None` for what the registry says it does not have.
    fn found<T>(&self, found: Result<T, Fault>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.kind == Kind::Missing => Ok(None),
            Err(fault) => Err(self.error(fault)),
        }
    }

    fn error(&self, fault: Fault) -> Error {
        fault.into_error(&self.shown)
    }
}

#[cfg(test)]
mod tests;
