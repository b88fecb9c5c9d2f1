//! An answer of the engine, or of what stands in front of it.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::Value;
use tributary_runtime::{Error, Result};

use crate::access::Pass;
use crate::aws::{self, Refusal};
use crate::failure::Failure;

/// A response that says something about the request itself: 2xx, or what the caller has to judge.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Whose it is: host and port.
    pub(crate) host: Arc<str>,
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

    /// Whether it comes from something in front of the engine that has not asked it: an engine answers JSON. A 404 of a proxy or a
    /// gateway says nothing of an index. What proxies say in the engine's stead of a request (too large, not let in, not understood) counts as the
    /// engine's.
    pub(super) fn is_foreign(&self) -> bool {
        let is_heeded = matches!(
            self.status.as_u16(),
            400 | 401 | 403 | 408 | 413 | 415 | 429
        );
        let is_engines = match self.status {
            StatusCode::NOT_FOUND => self.tells_of_an_absence(),
            _ => self.is_json_object(),
        };
        !is_heeded && !is_engines && !self.status.is_server_error()
    }

    /// Whether an engine says that it has not what is asked for: an index or a search that goes on, a document, searches to be ended.
    fn tells_of_an_absence(&self) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = body.pointer("/error/type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.ends_with("_exception"))
            || ["found", "num_freed"]
                .iter()
                .any(|name| body.get(name).is_some())
    }

    pub(super) fn is_json_object(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"{")
    }

    /// Whether the request is larger than the engine, or what stands in front of it, ever takes.
    pub(crate) fn is_too_large(&self) -> bool {
        match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => true,
            StatusCode::TOO_MANY_REQUESTS => {
                Failure::parse(&self.body).is_some_and(|failure| failure.is_of_size())
            }
            _ => false,
        }
    }

    /// All that the body tells of a failure; empty if it tells none.
    pub(super) fn failure_text(&self) -> String {
        Failure::parse(&self.body).map_or_else(String::new, |failure| failure.full())
    }

    /// The type of the failure that the body tells; empty if it tells none.
    pub(crate) fn failure_kind(&self) -> String {
        Failure::parse(&self.body).map_or_else(String::new, |failure| failure.kind)
    }

    pub(crate) fn refusal(&self) -> String {
        let told = Failure::parse(&self.body).map(|failure| failure.full());
        format!(
            "the engine answers {}{}",
            self.status,
            self.with_words(told)
        )
    }

    /// The same of a request that carries rows or their keys, which the engine's words may quote.
    pub(crate) fn refusal_in_short(&self) -> String {
        format!("the engine answers {}{}", self.status, self.told())
    }

    /// What may be told of any failure.
    pub(super) fn told(&self) -> String {
        self.with_words(Failure::parse(&self.body).map(|failure| failure.kinds()))
    }

    /// What the engine says, or else a service of AWS in front of it.
    fn with_words(&self, told: Option<String>) -> String {
        let told = told.or_else(|| self.words_of_aws());
        told.map_or_else(String::new, |told| format!(" ({told})"))
    }

    /// What a service of AWS says where it does not let a request in.
    fn words_of_aws(&self) -> Option<String> {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => aws::words(&self.body),
            _ => None,
        }
    }

    /// Why it does not, if that is what the answer says.
    pub(super) fn aws_refusal(&self) -> Option<Refusal> {
        self.words_of_aws().map(|words| Refusal::of(&words))
    }

    /// Why a service of AWS did not take what a request was signed with, where it was.
    pub(super) fn signature_refusal(&self, pass: &Pass) -> Option<Refusal> {
        pass.signer.as_ref().and_then(|_| self.aws_refusal())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::StatusCode;

    use super::Reply;

    #[test]
    fn what_is_said_in_short_quotes_no_key() {
        let body = br#"{"error":{"type":"some_exception","reason":"[secret]"},"status":400}"#;
        let reply = Reply {
            status: StatusCode::BAD_REQUEST,
            body: Bytes::from_static(body),
            host: "h:1".into(),
        };
        let short = reply.refusal_in_short();
        assert_eq!(short, "the engine answers 400 Bad Request (some_exception)");
    }

    /// As OpenSearch 3.8 and Elasticsearch 9.5 answer, and gateways.
    #[test]
    fn a_404_is_an_engines_only_in_the_form_that_engines_have_for_it() {
        let is_foreign = |body: &'static str| {
            let reply = Reply {
                status: StatusCode::NOT_FOUND,
                body: Bytes::from_static(body.as_bytes()),
                host: "h:1".into(),
            };
            reply.is_foreign()
        };
        for engines in [
            r#"{"error":{"root_cause":[],"type":"index_not_found_exception","reason":"no such index [t]","index":"t"},"status":404}"#,
            r#"{"error":{"type":"search_context_missing_exception"},"status":404}"#,
            r#"{"_index":"t-1","_id":"1","found":false}"#,
            r#"{"succeeded":true,"num_freed":0}"#,
        ] {
            assert!(!is_foreign(engines), "{engines}");
        }
        for gateways in [
            "<html>not found</html>",
            "",
            "{}",
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"timestamp":"2026-11-30","status":404,"error":"Not Found","path":"/t"}"#,
            r#"{"error":{"code":404,"message":"not found","type":"not_found"}}"#,
        ] {
            assert!(is_foreign(gateways), "{gateways}");
        }
    }
}
