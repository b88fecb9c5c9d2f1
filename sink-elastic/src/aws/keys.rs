//! The keys that requests are signed with: those of the configuration, or those that AWS gives the machine, the pod or the user,
//! which are asked for again before they expire.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use tokio::sync::Mutex;
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Result};

use super::connector;
use super::options::AwsConfig;
use crate::secrets;

const ID: &str = "elasticsearch.aws.access_key_id";
const SECRET: &str = "elasticsearch.aws.secret_access_key";
const TOKEN: &str = "elasticsearch.aws.session_token";
/// So long before they expire they are asked for again: a request that is signed last has that long to arrive.
const AHEAD: Duration = Duration::from_secs(10);
/// How long keys are used that do not say when they expire, which may have been changed where they come from.
const UNTIL_ASKED_AGAIN: Duration = Duration::from_secs(15 * 60);
/// All sources one after the other; each has deadlines of its own.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where keys come from.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    Given(Given),
    Asked(Arc<Asked>),
}

/// Those of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Given {
    id: Secret,
    secret: Secret,
    token: Option<Secret>,
}

/// Those that are asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// The one profile that they come from; without it all of AWS' sources in their order.
    profile: Option<String>,
    region: Region,
    held: Mutex<Option<HeldKeys>>,
}

#[derive(Debug)]
struct HeldKeys {
    credentials: Credentials,
    good_until: SystemTime,
}

impl Keys {
    pub(super) fn new(config: &AwsConfig, region: &str) -> Result<Self> {
        if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
            let (id, secret) = (id.clone(), secret.clone());
            return Given::new(id, secret, config.session_token.clone()).map(Self::Given);
        }
        Ok(Self::Asked(Arc::new(Asked {
            profile: config.profile.clone(),
            region: Region::new(region.to_owned()),
            held: Mutex::new(None),
        })))
    }

    /// The keys that are good now, others than `refused` if there are any.
    pub(super) async fn get(&self, refused: Option<&Credentials>) -> Result<Credentials> {
        match self {
            Self::Given(given) => Ok(given.credentials()),
            Self::Asked(asked) => asked.get(refused).await,
        }
    }

    pub(super) fn is_from_file(&self) -> bool {
        match self {
            Self::Given(given) => given.secrets().any(Secret::is_from_file),
            Self::Asked(_) => false,
        }
    }

    pub(super) fn renewed(&self) -> Result<Option<Self>> {
        match self {
            Self::Given(given) => Ok(given.renewed()?.map(Self::Given)),
            Self::Asked(_) => Ok(None),
        }
    }
}

impl Given {
    fn new(id: Secret, secret: Secret, token: Option<Secret>) -> Result<Self> {
        secrets::in_header(ID, id.expose())?;
        if let Some(token) = &token {
            secrets::in_header(TOKEN, token.expose())?;
        }
        Ok(Self { id, secret, token })
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        [&self.id, &self.secret].into_iter().chain(&self.token)
    }

    fn credentials(&self) -> Credentials {
        let token = self.token.as_ref().map(|token| token.expose().to_owned());
        Credentials::new(
            self.id.expose(),
            self.secret.expose(),
            token,
            None,
            "configuration",
        )
    }

    fn renewed(&self) -> Result<Option<Self>> {
        let id = secrets::renewed(ID, &self.id)?;
        let secret = secrets::renewed(SECRET, &self.secret)?;
        let token = match &self.token {
            Some(token) => secrets::renewed(TOKEN, token)?,
            None => None,
        };
        if id.is_none() && secret.is_none() && token.is_none() {
            return Ok(None);
        }
        let id = id.unwrap_or_else(|| self.id.clone());
        let secret = secret.unwrap_or_else(|| self.secret.clone());
        Self::new(id, secret, token.or_else(|| self.token.clone())).map(Some)
    }
}

impl Asked {
    /// One request asks, and all others wait for what it hears.
    async fn get(&self, refused: Option<&Credentials>) -> Result<Credentials> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| {
            SystemTime::now() < held.good_until && refused != Some(&held.credentials)
        }) {
            return Ok(held.credentials.clone());
        }
        // Seldom, and large.
        let credentials = Box::pin(self.ask()).await?;
        if held
            .as_ref()
            .is_some_and(|held| held.credentials != credentials)
        {
            tracing::info!("there are new keys of AWS, with which requests are signed from now on");
        }
        *held = Some(HeldKeys::new(credentials.clone()));
        Ok(credentials)
    }

    /// Asks, with the files as they are now: who has been asked once keeps what it has read.
    async fn ask(&self) -> Result<Credentials> {
        let config = ProviderConfig::without_region()
            .with_region(Some(self.region.clone()))
            .with_http_client(connector::client());
        let asked = async {
            match &self.profile {
                Some(profile) => {
                    let provider = ProfileFileCredentialsProvider::builder()
                        .configure(&config)
                        .profile_name(profile);
                    provider.build().provide_credentials().await
                }
                None => {
                    let chain = DefaultCredentialsChain::builder()
                        .region(self.region.clone())
                        .configure(config.clone());
                    chain.build().await.provide_credentials().await
                }
            }
        };
        let asked = tokio::time::timeout(DEADLINE, asked).await;
        let why = match asked {
            Ok(Ok(credentials)) => return Ok(credentials),
            Ok(Err(error)) => whole(&error),
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        let source = match &self.profile {
            Some(profile) => format!("the profile '{profile}'"),
            None => "the environment, a profile or a role".to_owned(),
        };
        Err(Error::retry_msg(format_args!(
            "there are no keys of AWS from {source}: {why}"
        ))
        .remedy("give the service a role, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set `elasticsearch.aws.profile`, or `access_key_id` and `secret_access_key`"))
    }
}

impl HeldKeys {
    fn new(credentials: Credentials) -> Self {
        let good_until = match credentials.expiry() {
            Some(expiry) => expiry - AHEAD,
            None => SystemTime::now() + UNTIL_ASKED_AGAIN,
        };
        Self {
            credentials,
            good_until,
        }
    }
}

/// An error with all that it comes from.
fn whole(error: &dyn StdError) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
