//! The schema registry, by its Confluent API.

mod transport;

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{Error, Result, ResultExt};
use transport::{Answer, Transport};

/// The compatibility that value subjects are set to: every newer schema reads what any older one wrote.
pub const BACKWARD_TRANSITIVE: &str = "BACKWARD_TRANSITIVE";

/// The same, of the newest schema and the one before it.
pub const BACKWARD: &str = "BACKWARD";

/// How long a client waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of the registry. Cheap to clone; every request has a bounded time. It tries each request
/// once: [`until_ok`](crate::retry::until_ok) is for the rest.
#[derive(Debug, Clone)]
pub struct Registry {
    transport: Transport,
}

/// The newest version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Latest {
    /// The schema's id, as on the wire.
    pub id: u32,
    /// The version within the subject, from 1.
    pub version: u32,
    /// The schema as JSON text.
    pub schema: String,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType")]
    kind: Option<String>,
}

/// The API reads a level as `compatibilityLevel` and writes it as `compatibility`.
#[derive(Deserialize)]
struct Compatibility {
    #[serde(rename = "compatibilityLevel")]
    level: String,
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

    /// [`new`](Self::new) with time-outs of one's own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_timeouts(url: &str, connect: Duration, total: Duration) -> Result<Self> {
        let transport = Transport::new(url, connect, total)?;
        Ok(Self { transport })
    }

    /// Registers an Avro schema under a subject and returns its id; the same id when it is there already.
    ///
    /// # Errors
    /// Stop: incompatible with what the subject has, invalid, not allowed; retry: not reachable.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let doing = || format!("register a schema under subject '{subject}'");
        let answer = self
            .transport
            .send(
                Method::POST,
                &["subjects", subject, "versions"],
                Some(&json!({ "schema": schema })),
            )
            .await
            .doing(doing)?;
        if let Answer::Conflict(message) = answer {
            // Of two registrations at the same moment Apicurio refuses the second one.
            if let Some(id) = self.lookup(subject, schema).await? {
                return Ok(id);
            }
            let what = format!("the registry says that it is incompatible: {message}");
            let remedy = format!(
                "undo the change of the table; or set the compatibility of subject '{subject}' to NONE and start the \
                 source, which sets it back"
            );
            return Err(Error::stop_msg(what).remedy(remedy)).doing(doing);
        }
        let id: Id = self.transport.expect(answer).doing(doing)?;
        Ok(id.id)
    }

    /// The schema with an id; `None` if the registry has none.
    ///
    /// # Errors
    /// Stop: not allowed, or not an Avro schema; retry: not reachable.
    pub async fn schema(&self, id: u32) -> Result<Option<String>> {
        let doing = || format!("read the schema with id {id}");
        let path = ["schemas", "ids", &id.to_string()];
        let answer = self.transport.get(&path).await.doing(doing)?;
        let found: Option<Schema> = self.transport.find(answer).doing(doing)?;
        match found {
            Some(Schema {
                kind: Some(kind), ..
            }) if kind != "AVRO" => {
                let what = format!("the registry says that it is a {kind} schema, not an Avro one");
                Err(Error::stop_msg(what)).doing(doing)
            }
            found => Ok(found.map(|found| found.schema)),
        }
    }

    /// The id under which a subject has exactly this schema; `None` if it has not.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn lookup(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let doing = || format!("look a schema up under subject '{subject}'");
        let body = json!({ "schema": schema });
        let answer = self
            .transport
            .send(Method::POST, &["subjects", subject], Some(&body))
            .await
            .doing(doing)?;
        let found: Option<Id> = self.transport.find(answer).doing(doing)?;
        Ok(found.map(|found| found.id))
    }

    /// The newest version of a subject; `None` if there is no such subject.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn latest(&self, subject: &str) -> Result<Option<Latest>> {
        let doing = || format!("read the newest schema of subject '{subject}'");
        let path = ["subjects", subject, "versions", "latest"];
        let answer = self.transport.get(&path).await.doing(doing)?;
        self.transport.find(answer).doing(doing)
    }

    /// A subject's own compatibility; `None` if it has none and the registry's general one holds.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>> {
        let doing = || format!("read the compatibility of subject '{subject}'");
        let answer = self
            .transport
            .get(&["config", subject])
            .await
            .doing(doing)?;
        let found: Option<Compatibility> = self.transport.find(answer).doing(doing)?;
        Ok(found.map(|found| found.level))
    }

    /// Sets a subject's compatibility where it differs. Call it after the subject's first
    /// [`register`](Self::register): Apicurio takes the setting for a subject that does not exist, and
    /// forgets it.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        if self.compatibility(subject).await?.as_deref() == Some(level) {
            return Ok(());
        }
        let doing = || format!("set the compatibility of subject '{subject}' to {level}");
        let body = json!({ "compatibility": level });
        let answer = self
            .transport
            .send(Method::PUT, &["config", subject], Some(&body))
            .await
            .doing(doing)?;
        let _: serde_json::Value = self.transport.expect(answer).doing(doing)?;
        Ok(())
    }

    /// Asks whether the registry answers and lets us in; changes nothing.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn check(&self) -> Result<()> {
        let doing = || "ask the schema registry for its settings".to_owned();
        let answer = self.transport.get(&["config"]).await.doing(doing)?;
        let _: Compatibility = self.transport.expect(answer).doing(doing)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
