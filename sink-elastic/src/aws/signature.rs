//! AWS Signature Version 4 of a request, in its headers.

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use reqwest::header::HeaderValue;
use reqwest::{Body, Request};
use tributary_runtime::{Error, Result};

use super::options::AwsService;

/// What one request is signed with.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    credentials: Credentials,
    region: Arc<str>,
    service: AwsService,
}

impl Signer {
    pub(super) fn new(credentials: Credentials, region: &Arc<str>, service: AwsService) -> Self {
        Self {
            credentials,
            region: Arc::clone(region),
            service,
        }
    }

    pub(super) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Signs a request with all its headers and its body, which is read where it lies. Nothing may be changed behind it.
    ///
    /// # Errors
    /// Stop: a header or the URL has letters that cannot be signed.
    pub(crate) fn sign(&self, request: &mut Request) -> Result<()> {
        let identity = self.credentials.clone().into();
        let mut settings = SigningSettings::default();
        // OpenSearch Serverless demands the body's hash in a header.
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.name())
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(unsigned)?
            .into();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| Ok((name.as_str(), value.to_str()?)));
        let headers: Result<Vec<_>, reqwest::header::ToStrError> = headers.collect();
        let body = request.body().and_then(Body::as_bytes).unwrap_or_default();
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.url().as_str(),
            headers.map_err(unsigned)?.into_iter(),
            SignableBody::Bytes(body),
        );
        let signed = sign(signable.map_err(unsigned)?, &params).map_err(unsigned)?;
        let (instructions, _) = signed.into_parts();
        let (headers, _) = instructions.into_parts();
        for header in headers {
            let mut value = HeaderValue::from_str(header.value()).map_err(unsigned)?;
            value.set_sensitive(header.sensitive());
            request.headers_mut().insert(header.name(), value);
        }
        Ok(())
    }
}

fn unsigned(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::stop(error).context("sign a request for AWS")
}
