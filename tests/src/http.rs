//! The HTTP client of the tests.

/// A client; plain HTTP is all that the stack speaks, but reqwest wants a TLS provider chosen.
pub fn client() -> reqwest::Client {
    // Fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
