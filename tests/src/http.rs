//! The HTTP client of the tests.

use std::time::Duration;

/// How long a server of the stack may be silent: a request that it never answers fails, and holds no run for ever.
const SILENCE: Duration = Duration::from_secs(30);

/// A client; plain HTTP is all that the stack speaks, but reqwest wants a TLS provider chosen.
pub fn client() -> reqwest::Client {
    builder()
        .build()
        .expect("a client with no settings but a timeout")
}

/// What makes one.
pub fn builder() -> reqwest::ClientBuilder {
    // Fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().read_timeout(SILENCE)
}
