//! How the service says who it is.

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Result};

use crate::config::ElasticConfig;

/// Who the service is to the engine.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    None,
    Basic {
        user: String,
        password: Option<Secret>,
    },
    ApiKey(HeaderValue),
}

impl Credentials {
    /// # Errors
    /// Stop: the key cannot stand in a header.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
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

    pub(crate) fn add_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic { user, password } => {
                request.basic_auth(user, password.as_ref().map(Secret::expose))
            }
            Self::ApiKey(value) => request.header(AUTHORIZATION, value.clone()),
        }
    }
}
