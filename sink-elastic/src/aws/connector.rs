//! How AWS' sources of keys are asked over HTTP: by the client that everything else uses, so that there is one TLS library with one
//! provider in the service.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use reqwest::{Method, Url};

/// Where a source has none of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What AWS' sources of keys send by.
pub(super) fn client() -> SharedHttpClient {
    http_client_fn(|settings, _| SharedHttpConnector::new(Connector(settings.clone())))
}

#[derive(Debug, Clone)]
struct Connector(HttpConnectorSettings);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.send(request).await })
    }
}

impl Connector {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let url = Url::parse(request.uri()).map_err(user)?;
        let method = Method::from_bytes(request.method().as_bytes()).map_err(user)?;
        let mut asked = self.http(&url)?.request(method, url);
        for (name, value) in request.headers() {
            asked = asked.header(name, value);
        }
        // The bodies of such requests are short texts.
        let body = request.body().bytes().unwrap_or_default().to_vec();
        let response = asked.body(body).send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(failed)?;
        let status = status.as_u16().try_into().map_err(user)?;
        let mut answer = HttpResponse::new(status, SdkBody::from(body));
        for (name, value) in &headers {
            if let Ok(value) = value.to_str() {
                answer
                    .headers_mut()
                    .append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }

    /// A client for one request: there are few. Without https the system's certificates are not needed, and may be missing.
    fn http(&self, url: &Url) -> Result<reqwest::Client, ConnectorError> {
        tributary_runtime::http::install_tls_provider();
        let builder = reqwest::Client::builder()
            .connect_timeout(self.0.connect_timeout().unwrap_or(CONNECT_TIMEOUT))
            .timeout(self.0.read_timeout().unwrap_or(READ_TIMEOUT))
            .redirect(reqwest::redirect::Policy::none());
        let builder = match url.scheme() {
            // Addresses of this machine or next to it, which no proxy reaches.
            "http" => builder.tls_certs_only([]).no_proxy(),
            _ => builder,
        };
        builder.build().map_err(user)
    }
}

fn user(error: impl Error + Send + Sync + 'static) -> ConnectorError {
    ConnectorError::user(error.into())
}

/// AWS' sources tell by the kind whether there is nothing to be asked: no metadata service answers outside of EC2.
fn failed(error: reqwest::Error) -> ConnectorError {
    let is_timeout = error.is_timeout();
    let error = error.without_url().into();
    if is_timeout {
        ConnectorError::timeout(error)
    } else {
        ConnectorError::io(error)
    }
}
