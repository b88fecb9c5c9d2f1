//! What every secret of the configuration is asked: whether its file has another one, and whether a header takes it.

use reqwest::header::HeaderValue;
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Result};

/// The secret that the file of `key` has now; `None` if that is the same.
///
/// # Errors
/// Stop: the file cannot be read, or has none.
pub(crate) fn renewed(key: &str, secret: &Secret) -> Result<Option<Secret>> {
    secret.renewed().map_err(|what| {
        Error::stop_msg(format_args!("{key}_file: {what}"))
            .remedy("put the secret into that file, as one line")
    })
}

/// A header's value that holds the secret of `key`.
///
/// # Errors
/// Stop: it cannot stand in a header.
pub(crate) fn in_header(key: &str, text: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(text).map_err(|_| {
        Error::stop_msg(format_args!("{key} has a letter that no HTTP header takes"))
            .remedy("look for a line break or a blank in it")
    })?;
    header.set_sensitive(true);
    Ok(header)
}
