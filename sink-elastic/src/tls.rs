//! TLS: whom the service trusts, and who it is by a certificate of its own. Both stand in files.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use tributary_runtime::{Error, Problem, Result};

const CA: &str = "elasticsearch.ca_file";
const CERTIFICATE: &str = "elasticsearch.client_certificate_file";
const KEY: &str = "elasticsearch.client_key_file";
/// A system's whole list of authorities has a twentieth of that.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The files that the configuration names.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// What the files held when they were read, and it can be used.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    /// Who is trusted; the system's authorities where there is no such file.
    authorities: Option<Vec<CertificateDer<'static>>>,
    /// The service's certificate, those between it and its authority, and the key: PEM, one after the other.
    identity: Option<Vec<u8>>,
}

/// The key stays unseen.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("authorities", &self.authorities.as_ref().map(Vec::len))
            .field("has_identity", &self.identity.is_some())
            .finish()
    }
}

impl TlsFiles {
    pub(crate) const fn is_empty(&self) -> bool {
        self.ca.is_none() && self.certificate.is_none() && self.key.is_none()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn read(&self) -> Result<Material, Vec<Problem>> {
        let authorities = self.ca.as_deref().map(authorities).transpose();
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => identity(certificate, key).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) => Err(alone(CERTIFICATE, KEY)),
            (None, Some(_)) => Err(alone(KEY, CERTIFICATE)),
        };
        match (authorities, identity) {
            (Ok(authorities), Ok(identity)) => Ok(Material {
                authorities,
                identity,
            }),
            (authorities, identity) => Err(authorities
                .err()
                .into_iter()
                .chain(identity.err())
                .collect()),
        }
    }
}

impl Material {
    /// Whether the service shows a certificate to an engine that asks for one.
    pub(crate) const fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// Has a client trust and show what the files say.
    ///
    /// # Errors
    /// Stop: the HTTP library finds something wrong that was not seen before.
    pub(crate) fn apply_to(&self, mut builder: ClientBuilder) -> Result<ClientBuilder> {
        let refused = |error| Error::stop(error).context("set up the certificates");
        if let Some(authorities) = &self.authorities {
            let certificates = authorities.iter().map(|der| Certificate::from_der(der));
            let certificates = certificates.collect::<reqwest::Result<Vec<_>>>();
            builder = builder.tls_certs_only(certificates.map_err(refused)?);
        }
        if let Some(identity) = &self.identity {
            let identity = Identity::from_pem(identity).map_err(|_| {
                Error::stop_msg(format_args!(
                    "the files that `{CERTIFICATE}` and `{KEY}` name hold more than certificates and one key"
                ))
                .remedy("take everything else out of them")
            })?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }
}

fn alone(given: &str, missing: &str) -> Problem {
    Problem::new(format_args!("`{given}` is set without `{missing}`"))
        .remedy(format!("set `{missing}`; it may name the same file"))
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let authorities = certificates(CA, &contents(CA, path)?)?;
    let mut store = RootCertStore::empty();
    for authority in &authorities {
        store.add(authority.clone()).map_err(|error| {
            broken(
                CA,
                format_args!("a certificate that cannot be used: {error}"),
            )
        })?;
    }
    Ok(authorities)
}

fn identity(certificate: &Path, key: &Path) -> Result<Vec<u8>, Problem> {
    let (mut pem, key_pem) = (contents(CERTIFICATE, certificate)?, contents(KEY, key)?);
    let chain = certificates(CERTIFICATE, &pem)?;
    let der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| {
        broken(KEY, "no private key in PEM form that is not encrypted")
            .remedy("convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW")
    })?;
    let signing = any_supported_type(&der)
        .map_err(|_| broken(KEY, "a key that is neither RSA, ECDSA nor Ed25519"))?;
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(broken(KEY, format_args!("the key of another certificate than `{CERTIFICATE}`"))
                .remedy("name the two files that belong together; the service's own certificate is the first in its file"));
        }
        Err(error) => {
            return Err(broken(
                CERTIFICATE,
                format_args!("a certificate that cannot be used: {error}"),
            ));
        }
    }
    if certificate != key {
        pem.push(b'\n');
        pem.extend(key_pem);
    }
    Ok(pem)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(broken(key, "no certificate in PEM form")
            .remedy("a PEM file has lines of -----BEGIN CERTIFICATE-----; convert: openssl x509 -inform der -in FILE -out NEW")),
        Ok(found) => Ok(found),
        // The library's error shows what the file holds, which may be a key.
        Err(_) => Err(broken(key, "damaged PEM")
            .remedy("each certificate stands between a line of -----BEGIN CERTIFICATE----- and one of -----END CERTIFICATE-----, and each of these is a line of its own")),
    }
}

/// Says nothing of the path: whoever wrote the key itself there would see it printed.
fn contents(key: &str, path: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(Problem::new(format_args!(
            "the file that `{key}` names cannot be read: {error}"
        ))
        .remedy("correct the path, or let the service's user read the file")),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(broken(
            key,
            format_args!("more than {FILE_BYTES_MAX} bytes"),
        )),
        Ok(_) => Ok(bytes),
    }
}

fn broken(key: &str, what: impl fmt::Display) -> Problem {
    Problem::new(format_args!("the file that `{key}` names has {what}"))
}
