//! HTTP clients as every service builds them, so that building one cannot panic.

use std::time::Duration;

use reqwest::redirect;
use url::Url;

/// Installs the one TLS implementation of the process. May be called any number of times; without it
/// the first TLS client of a process panics.
pub fn install_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A builder for a client of the server at `base`, with bounds for connecting and for a whole request.
///
/// Redirects are not followed: credentials go to the configured server and nowhere else. The system's
/// certificates are loaded for `https` only, so that plain HTTP works where there are none.
pub fn client_builder(base: &Url, connect: Duration, total: Duration) -> reqwest::ClientBuilder {
    install_tls_provider();
    let builder = reqwest::Client::builder()
        .connect_timeout(connect)
        .timeout(total)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("tributary/", env!("CARGO_PKG_VERSION")));
    if base.scheme() == "https" {
        builder
    } else {
        builder.tls_certs_only([])
    }
}

/// The URL as it may stand in a message: without user and password.
pub fn printable(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot hold credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::{client_builder, printable};

    #[test]
    fn neither_scheme_panics() {
        let second = Duration::from_secs(1);
        let plain = Url::parse("http://registry:8081").unwrap();
        assert!(client_builder(&plain, second, second).build().is_ok());
        let tls = Url::parse("https://registry:8081").unwrap();
        // Whether it works depends on the machine's certificates; that it returns is the point.
        let _ = client_builder(&tls, second, second).build();
    }

    #[test]
    fn credentials_are_not_printed() {
        let url = Url::parse("http://user:hunter2@registry:8081/apis/ccompat/v7").unwrap();
        assert_eq!(printable(&url), "http://registry:8081/apis/ccompat/v7");
    }
}
