//! By what the engine lets requests in: an HTTP client with its certificates, and credentials. Both follow their files, which
//! whoever renews them writes anew while the service runs.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::health::Health;
use tributary_runtime::{Error, Problem, Result};

use crate::aws::Signer;
use crate::config::ElasticConfig;
use crate::credentials::Credentials;
use crate::tls::{Material, TlsFiles};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Close idle connections before the engines or a load balancer do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How often the files are looked at: a few kilobytes, which are read with no thought of waiting for the disk.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long an engine that knew the service before may say that it does not, while it has lost its index of users perhaps, before that
/// is believed.
const UNKNOWN_FOR: Duration = Duration::from_secs(15 * 60);
/// The subject of the warning in the service's status.
const SUBJECT: &str = "certificates and secrets of the search engine";

/// What requests are sent by.
#[derive(Debug)]
pub(crate) struct Access {
    files: TlsFiles,
    request_timeout: Duration,
    /// Without https the system's certificates are not needed, and may be missing.
    is_tls: bool,
    /// Whether anything may change.
    has_files: bool,
    state: Mutex<Held>,
    known: Mutex<KnownBy>,
    health: OnceLock<Health>,
}

/// What the engine has said of who the service is.
#[derive(Debug, Default)]
struct KnownBy {
    was_let_in: bool,
    /// Since when it does not know the service.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    pass: Pass,
    material: Material,
    looked: Instant,
    /// What is wrong with the files as they are now; the pass is of those before.
    trouble: Option<String>,
}

/// What one request is sent by.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) http: reqwest::Client,
    pub(crate) credentials: Credentials,
    /// What signs it, where requests are signed.
    pub(crate) signer: Option<Signer>,
    pub(crate) has_identity: bool,
    /// One more with each change.
    edition: u64,
}

impl Pass {
    /// Whether what the engine knows the service by may be another one without a restart: it stands in files, or is asked for.
    pub(crate) fn may_change(&self) -> bool {
        match self.credentials {
            Credentials::None => self.has_identity,
            _ => self.credentials.may_change(),
        }
    }

    /// Whether it says who the service is.
    pub(crate) const fn shows_something(&self) -> bool {
        self.has_identity || !matches!(self.credentials, Credentials::None)
    }

    /// With what signs now, where requests are signed.
    async fn with_signer(mut self) -> Result<Self> {
        if let Credentials::Aws(aws) = &self.credentials {
            self.signer = Some(aws.signer().await?);
        }
        Ok(self)
    }

    /// With what signs otherwise than here, where this was refused.
    async fn with_other_signer(&self) -> Result<Option<Self>> {
        let (Credentials::Aws(aws), Some(refused)) = (&self.credentials, &self.signer) else {
            return Ok(None);
        };
        let other = aws.other_than(refused).await?;
        Ok(other.map(|signer| Self {
            signer: Some(signer),
            ..self.clone()
        }))
    }
}

impl Access {
    /// # Errors
    /// Stop: a file cannot be used, or the credentials cannot stand in a header.
    pub(crate) fn new(config: &ElasticConfig) -> Result<Self> {
        tributary_runtime::http::install_tls_provider();
        let files = config.tls_files();
        let material = files.read().map_err(|problems| joined(&problems))?;
        let request_timeout = Duration::from_millis(config.request_timeout_ms);
        let is_tls = config.has_scheme("https");
        let credentials = Credentials::new(config)?;
        Ok(Self {
            has_files: !files.is_empty() || credentials.is_from_file(),
            files,
            request_timeout,
            is_tls,
            state: Mutex::new(Held {
                pass: Pass {
                    http: http(&material, request_timeout, is_tls)?,
                    credentials,
                    signer: None,
                    has_identity: material.has_identity(),
                    edition: 0,
                },
                material,
                looked: Instant::now(),
                trouble: None,
            }),
            known: Mutex::default(),
            health: OnceLock::new(),
        })
    }

    /// The engine has done what it was asked.
    pub(crate) fn was_let_in(&self) {
        *self.known() = KnownBy {
            was_let_in: true,
            refused: None,
        };
    }

    /// The engine does not know the service; whether that may pass by itself, for it did before and the same credentials are used.
    pub(crate) fn is_let_out_for_now(&self) -> bool {
        let mut known = self.known();
        let since = *known.refused.get_or_insert_with(Instant::now);
        known.was_let_in && since.elapsed() < UNKNOWN_FOR
    }

    /// How long a request may take.
    pub(crate) const fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Says from now on in the service's status when changed files cannot be used.
    pub(crate) fn report_to(&self, health: Health) {
        // The first one stays: there is one service in a process.
        let _ = self.health.set(health);
    }

    /// By what a request is sent now.
    ///
    /// # Errors
    /// Retry: whoever gives the keys that requests are signed with does not.
    pub(crate) async fn pass(&self) -> Result<Pass> {
        self.of_files().with_signer().await
    }

    /// A newer one than that by which the engine did not let a request in; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub(crate) async fn newer(&self, than: &Pass) -> Result<Option<Pass>> {
        match self.newer_files(than) {
            Some(pass) => pass.with_signer().await.map(Some),
            None => than.with_other_signer().await,
        }
    }

    fn of_files(&self) -> Pass {
        let mut state = self.lock();
        if self.has_files && state.looked.elapsed() >= LOOK_EVERY {
            self.look(&mut state);
        }
        state.pass.clone()
    }

    fn newer_files(&self, than: &Pass) -> Option<Pass> {
        let mut state = self.lock();
        if self.has_files && state.pass.edition == than.edition {
            self.look(&mut state);
        }
        (state.pass.edition > than.edition).then(|| state.pass.clone())
    }

    fn known(&self) -> MutexGuard<'_, KnownBy> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, state: &mut Held) {
        state.looked = Instant::now();
        // One that cannot be used keeps no other one out.
        let taken = [
            self.renew_certificates(state),
            renew_credentials(&mut state.pass),
        ];
        if taken.iter().any(|taken| matches!(taken, Ok(true))) {
            state.pass.edition += 1;
            tracing::info!(
                "certificates or secrets of the search engine have changed on disk, and are used"
            );
        }
        let faults = taken.into_iter().filter_map(Result::err);
        let faults: Vec<_> = faults.map(|fault| fault.to_string()).collect();
        let trouble = (!faults.is_empty()).then(|| {
            format!(
                "certificates or secrets of the search engine have changed on disk and cannot be used, those before stay in use: {}",
                faults.join("; ")
            )
        });
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != state.trouble) {
            tracing::warn!("{trouble}");
        }
        if let Some(health) = self.health.get() {
            health.set_warning(SUBJECT, trouble.clone());
        }
        state.trouble = trouble;
    }

    /// Takes certificates over that have changed; whether any have.
    fn renew_certificates(&self, state: &mut Held) -> Result<bool> {
        let material = self.files.read().map_err(|problems| joined(&problems))?;
        if material == state.material {
            return Ok(false);
        }
        // Connections that were made with the certificates before end with the requests that use them.
        state.pass.http = http(&material, self.request_timeout, self.is_tls)?;
        state.pass.has_identity = material.has_identity();
        state.material = material;
        Ok(true)
    }
}

/// The same for the secret.
fn renew_credentials(pass: &mut Pass) -> Result<bool> {
    let renewed = pass.credentials.renewed()?;
    let is_other = renewed.is_some();
    if let Some(credentials) = renewed {
        pass.credentials = credentials;
    }
    Ok(is_other)
}

fn http(material: &Material, request_timeout: Duration, is_tls: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .timeout(request_timeout)
        .redirect(reqwest::redirect::Policy::none());
    if !is_tls {
        builder = builder.tls_certs_only([]);
    }
    material.apply_to(builder)?.build().map_err(|error| {
        Error::stop(error).context("set up the HTTP client").remedy(
            "install the system's certificates (ca-certificates), or set `elasticsearch.ca_file`",
        )
    })
}

/// All of them as one error.
fn joined(problems: &[Problem]) -> Error {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Error::stop_msg(problems.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Access;

    #[tokio::test(start_paused = true)]
    async fn who_was_known_before_is_not_let_out_at_once() {
        let config = toml::from_str("url = \"http://127.0.0.1:1\"").unwrap();
        let access = Access::new(&config).unwrap();
        assert!(!access.is_let_out_for_now());
        for _ in 0..2 {
            access.was_let_in();
            assert!(access.is_let_out_for_now());
            tokio::time::advance(Duration::from_secs(14 * 60)).await;
            assert!(access.is_let_out_for_now());
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!access.is_let_out_for_now());
    }
}
