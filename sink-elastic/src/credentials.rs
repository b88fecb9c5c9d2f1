//! How the service says who it is.

use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tributary_runtime::Result;
use tributary_runtime::config::Secret;

use crate::aws::Aws;
use crate::config::ElasticConfig;
use crate::secrets;

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
    /// Each request is signed.
    Aws(Aws),
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
    /// Stop: a token or key cannot stand in a header, or there is no region to sign for.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
        if let Some(aws) = &config.aws {
            return Aws::new(aws).map(Self::Aws);
        }
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
        Ok(Self::Token {
            header: secrets::in_header(scheme.key(), &text)?,
            scheme,
            secret,
        })
    }

    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None | Self::Aws(_) => None,
            Self::Basic { password, .. } => password.as_ref(),
            Self::Token { secret, .. } => Some(secret),
        }
    }

    /// Whether the secret stands in a file, which may change.
    pub(crate) fn is_from_file(&self) -> bool {
        match self {
            Self::Aws(aws) => aws.is_from_file(),
            _ => self.secret().is_some_and(Secret::is_from_file),
        }
    }

    /// Whether there may be others without a restart.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Self::Aws(aws) => aws.may_change(),
            _ => self.is_from_file(),
        }
    }

    /// The same with the secret that its file has now; `None` if that is the same.
    ///
    /// # Errors
    /// Stop: the file cannot be read, or what it has cannot stand in a header.
    pub(crate) fn renewed(&self) -> Result<Option<Self>> {
        match self {
            Self::None => Ok(None),
            Self::Basic { user, password } => {
                let Some(password) = password else {
                    return Ok(None);
                };
                let renewed = secrets::renewed("elasticsearch.password", password)?;
                Ok(renewed.map(|password| Self::Basic {
                    user: user.clone(),
                    password: Some(password),
                }))
            }
            Self::Token { scheme, secret, .. } => {
                let renewed = secrets::renewed(scheme.key(), secret)?;
                renewed
                    .map(|secret| Self::token(*scheme, secret))
                    .transpose()
            }
            Self::Aws(aws) => Ok(aws.renewed()?.map(Self::Aws)),
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
            Self::Aws(aws) => aws.remedy(),
        }
    }

    /// A signature comes last, behind all else that a request has.
    pub(crate) fn add_to(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None | Self::Aws(_) => request,
            Self::Basic { user, password } => {
                request.basic_auth(user, password.as_ref().map(Secret::expose))
            }
            Self::Token { header, .. } => request.header(AUTHORIZATION, header.clone()),
        }
    }
}
