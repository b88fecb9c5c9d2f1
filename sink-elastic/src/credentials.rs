//! How the service says who it is.

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Result};

use crate::config::ElasticConfig;

/// Who the service is to the engine, beside its certificate.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    None,
    Basic {
        user: String,
        password: Option<Secret>,
    },
    /// `Authorization: <scheme> <secret>`.
    Token {
        scheme: Scheme,
        secret: Secret,
        header: HeaderValue,
    },
}

/// What kind of token it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    ApiKey,
    Bearer,
}

impl Scheme {
    const fn word(self) -> &'static str {
        match self {
            Self::ApiKey => "ApiKey",
            Self::Bearer => "Bearer",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::ApiKey => "elasticsearch.api_key",
            Self::Bearer => "elasticsearch.bearer_token",
        }
    }
}

impl Credentials {
    /// # Errors
    /// Stop: a token cannot stand in a header.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
        if let Some(key) = &config.api_key {
            return Self::token(Scheme::ApiKey, key.clone());
        }
        if let Some(token) = &config.bearer_token {
            return Self::token(Scheme::Bearer, token.clone());
        }
        Ok(config
            .username
            .clone()
            .map_or(Self::None, |user| Self::Basic {
                user,
                password: config.password.clone(),
            }))
    }

    fn token(scheme: Scheme, secret: Secret) -> Result<Self> {
        let text = format!("{} {}", scheme.word(), secret.expose());
        let mut header = HeaderValue::from_str(&text).map_err(|_| {
            Error::stop_msg(format_args!(
                "{} has a letter that no HTTP header takes",
                scheme.key()
            ))
            .remedy("look for a line break or a blank in it")
        })?;
        header.set_sensitive(true);
        Ok(Self::Token {
            scheme,
            secret,
            header,
        })
    }

    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Basic { password, .. } => password.as_ref(),
            Self::Token { secret, .. } => Some(secret),
        }
    }

    /// Whether the secret stands in a file, which may change.
    pub(crate) fn is_from_file(&self) -> bool {
        self.secret().is_some_and(Secret::is_from_file)
    }

    /// The same with the secret that its file has now; `None` if that is the same.
    ///
    /// # Errors
    /// Stop: the file cannot be read, or what it has cannot stand in a header.
    pub(crate) fn renewed(&self) -> Result<Option<Self>> {
        let Some(secret) = self.secret() else {
            return Ok(None);
        };
        let renewed = secret.renewed().map_err(|what| {
            Error::stop_msg(format_args!("{}_file: {what}", self.key()))
                .remedy("put the secret into that file, as one line")
        })?;
        let Some(secret) = renewed else {
            return Ok(None);
        };
        match self {
            Self::None => Ok(None),
            Self::Basic { user, .. } => Ok(Some(Self::Basic {
                user: user.clone(),
                password: Some(secret),
            })),
            Self::Token { scheme, .. } => Self::token(*scheme, secret).map(Some),
        }
    }

    /// The key of the secret.
    const fn key(&self) -> &'static str {
        match self {
            Self::None | Self::Basic { .. } => "elasticsearch.password",
            Self::Token { scheme, .. } => scheme.key(),
        }
    }

    /// What to do where the engine refuses them.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::None => {
                "set elasticsearch.username and password, api_key or bearer_token, or give the engine's users that of the client certificate"
            }
            Self::Basic { .. } => "correct elasticsearch.username and password",
            Self::Token {
                scheme: Scheme::ApiKey,
                ..
            } => "set elasticsearch.api_key to a key that is valid, in its encoded form",
            Self::Token {
                scheme: Scheme::Bearer,
                ..
            } => {
                "set elasticsearch.bearer_token to a token that has not expired, and that the engine takes"
            }
        }
    }

    pub(crate) fn add_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic { user, password } => {
                request.basic_auth(user, password.as_ref().map(Secret::expose))
            }
            Self::Token { header, .. } => request.header(AUTHORIZATION, header.clone()),
        }
    }
}
