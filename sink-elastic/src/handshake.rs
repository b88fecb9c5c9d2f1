//! Why no TLS connection comes about with a node, where somebody has to mend something first.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As what the node does: "has a certificate that has expired".
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// The fault that an error comes from; none for one that passes by itself. `has_identity`: the service has a certificate of
/// its own to show.
pub(crate) fn fault(error: &reqwest::Error, has_identity: bool) -> Option<Fault> {
    match cause(error)? {
        rustls::Error::InvalidCertificate(error) => Some(certificate(error)),
        rustls::Error::AlertReceived(alert) => refusal(*alert, has_identity),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Fault::new(
            "does not speak TLS",
            "begin `elasticsearch.url` with http://, or set up TLS at the engine",
        )),
        rustls::Error::PeerIncompatible(error) => Some(no_common_version(&format!("{error:?}"))),
        _ => None,
    }
}

impl Fault {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// What the TLS library says, below what wraps it.
fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // The source of such an error is what lies below the error that it holds.
    if let Some(held) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        return cause(held);
    }
    cause(error.source()?)
}

/// What the service finds wrong with the node's certificate.
fn certificate(error: &CertificateError) -> Fault {
    match error {
        CertificateError::UnknownIssuer => Fault::new(
            "has a certificate of an authority that is not trusted",
            "set `elasticsearch.ca_file` to the certificate of the authority that issued the engine's; if it is set, it names another one's",
        ),
        CertificateError::Expired => expired(""),
        CertificateError::ExpiredContext { time, not_after } => {
            let since = time.as_secs().saturating_sub(not_after.as_secs());
            expired(&format!(", {} ago", rounded(since)))
        }
        CertificateError::NotValidYet => not_yet(""),
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = not_before.as_secs().saturating_sub(time.as_secs());
            not_yet(&format!(", but in {}", rounded(until)))
        }
        CertificateError::NotValidForName => another_name(""),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names = if presented.is_empty() {
                "for none".to_owned()
            } else {
                format!("for {}", presented.join(", "))
            };
            another_name(&format!(" {} ({names})", expected.to_str()))
        }
        other => Fault::new(
            format!("has a certificate that cannot be accepted ({other})"),
            "give the engine a certificate for servers that an authority of `elasticsearch.ca_file` issued, not the authority's own",
        ),
    }
}

fn expired(since: &str) -> Fault {
    Fault::new(
        format!("has a certificate that has expired{since}"),
        "renew the engine's certificate; if it is valid, set this machine's clock",
    )
}

fn not_yet(until: &str) -> Fault {
    Fault::new(
        format!("has a certificate that is not valid yet{until}"),
        "set this machine's clock, or the engine's certificate is of the future",
    )
}

fn another_name(which: &str) -> Fault {
    Fault::new(
        format!("has a certificate for another name than that in the URL{which}"),
        "name the engine in `elasticsearch.url` as its certificate does, or give it a certificate for that name",
    )
}

/// What the node finds wrong, as far as it says.
fn refusal(alert: AlertDescription, has_identity: bool) -> Option<Fault> {
    match alert {
        AlertDescription::CertificateRequired => Some(wants_certificate()),
        AlertDescription::BadCertificate if !has_identity => Some(wants_certificate()),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => Some(Fault::new(
            format!("refuses the client certificate ({alert:?})"),
            "see the engine's log: the certificate of `elasticsearch.client_certificate_file` has expired, or the engine does not trust its authority",
        )),
        AlertDescription::HandshakeFailure if !has_identity => Some(Fault::new(
            "breaks off the TLS handshake (HandshakeFailure)",
            "set `elasticsearch.client_certificate_file` and `client_key_file` if the engine demands a client certificate; else see its log",
        )),
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity => Some(no_common_version(&format!("{alert:?}"))),
        AlertDescription::UnrecognisedName => Some(another_name("")),
        _ => None,
    }
}

fn wants_certificate() -> Fault {
    Fault::new(
        "demands a client certificate",
        "set `elasticsearch.client_certificate_file` and `elasticsearch.client_key_file`",
    )
}

fn no_common_version(detail: &str) -> Fault {
    Fault::new(
        format!("has no TLS version or cipher in common with the service ({detail})"),
        "let the engine speak TLS 1.2 or 1.3, with a cipher that has forward secrecy",
    )
}

fn rounded(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let (count, unit) = match seconds {
        DAY.. => (seconds / DAY, "day"),
        HOUR.. => (seconds / HOUR, "hour"),
        MINUTE.. => (seconds / MINUTE, "minute"),
        _ => return format!("{:?}", Duration::from_secs(seconds)),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}
