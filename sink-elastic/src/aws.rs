//! Requests that are signed for Amazon OpenSearch Service (AWS Signature Version 4).

mod connector;
mod keys;
mod options;
mod refusal;
mod signature;

use std::sync::Arc;

use tributary_runtime::Result;

use keys::Keys;
pub use options::{AwsConfig, AwsService};
pub(crate) use refusal::{Refusal, words};
pub(crate) use signature::Signer;

/// Who signs, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    keys: Keys,
    region: Arc<str>,
    service: AwsService,
}

impl Aws {
    /// # Errors
    /// Stop: the region is not known, or a key cannot stand in a header.
    pub(crate) fn new(config: &AwsConfig) -> Result<Self> {
        let region = config.region()?;
        Ok(Self {
            keys: Keys::new(config, &region)?,
            region: region.into(),
            service: config.service,
        })
    }

    /// What a request is signed with now.
    ///
    /// # Errors
    /// Retry: whoever gives the keys does not.
    pub(crate) async fn signer(&self) -> Result<Signer> {
        let credentials = self.keys.get(None).await?;
        Ok(Signer::new(credentials, &self.region, self.service))
    }

    /// Another one than that whose signature was refused; `None` if there is no other.
    ///
    /// # Errors
    /// As [`Self::signer`].
    pub(crate) async fn other_than(&self, refused: &Signer) -> Result<Option<Signer>> {
        let credentials = self.keys.get(Some(refused.credentials())).await?;
        let is_other = credentials != *refused.credentials();
        Ok(is_other.then(|| Signer::new(credentials, &self.region, self.service)))
    }

    /// Whether a key of the configuration stands in a file, which may change.
    pub(crate) fn is_from_file(&self) -> bool {
        self.keys.is_from_file()
    }

    /// Whether there may be other keys without a restart.
    pub(crate) fn may_change(&self) -> bool {
        self.is_from_file() || matches!(self.keys, Keys::Asked(_))
    }

    /// The same with the keys that their files have now; `None` if those are the same.
    ///
    /// # Errors
    /// Stop: a file cannot be read, or what it has cannot stand in a header.
    pub(crate) fn renewed(&self) -> Result<Option<Self>> {
        let renewed = self.keys.renewed()?;
        Ok(renewed.map(|keys| Self {
            keys,
            region: Arc::clone(&self.region),
            service: self.service,
        }))
    }

    /// What to do where the keys are refused.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self.keys {
            Keys::Given(_) => {
                "correct elasticsearch.aws.access_key_id, secret_access_key and session_token, which of temporary keys belong together; and region and service"
            }
            Keys::Asked(_) => {
                "see whether the profile or role that gives the keys still does (docs/search.md); and correct elasticsearch.aws.region and service"
            }
        }
    }
}
