//! AWS Signature Version 4 as AWS describes it, from the other side: whether a request that has come is signed. It shares nothing with
//! the product, and is shown by AWS' own examples.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far two clocks may differ, in seconds.
const SKEW_MAX: i64 = 300;

/// A request as it comes.
#[derive(Debug, Clone)]
pub(super) struct Come {
    pub(super) method: String,
    /// As it stands on the wire, percent-encoded.
    pub(super) path: String,
    pub(super) query: String,
    /// With names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// A key that requests may be signed with, and what for.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
    pub(super) region: String,
    pub(super) service: String,
}

impl Come {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Lock {
    /// Whether a request is signed with this key, in the words of the service where it is not. `now` in seconds since 1970.
    pub(super) fn try_open(&self, come: &Come, now: i64) -> Result<(), String> {
        let authorization = come
            .header("authorization")
            .ok_or("Missing Authentication Token")?;
        let parts = authorization
            .strip_prefix(ALGORITHM)
            .ok_or("another algorithm")?;
        let part = |name: &str| {
            let mut parts = parts.split(',').map(str::trim);
            parts
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| format!("no {name} in the Authorization header"))
        };
        let at = come.header("x-amz-date").ok_or("no x-amz-date")?;
        let scope = format!("{}/{}/{}/aws4_request", &at[..8], self.region, self.service);
        if part("Credential")? != format!("{}/{scope}", self.id) {
            return Err("The security token included in the request is invalid.".to_owned());
        }
        if come.header("x-amz-security-token") != self.token.as_deref() {
            return Err("The security token included in the request is expired".to_owned());
        }
        let behind = now - seconds(at);
        if behind.abs() > SKEW_MAX {
            let how = if behind > 0 {
                "expired"
            } else {
                "not yet current"
            };
            return Err(format!("Signature {how}: {at} (+- 5 min.)"));
        }
        let signed: Vec<_> = part("SignedHeaders")?.split(';').collect();
        let needed = |name: &str| {
            name.starts_with("x-amz-")
                || ["host", "content-type", "content-encoding"].contains(&name)
        };
        let mut unsigned = come
            .headers
            .iter()
            .filter(|(name, _)| needed(name) && !signed.contains(&name.as_str()));
        if let Some((name, _)) = unsigned.next() {
            return Err(format!("'{name}' is not signed"));
        }
        let expected = signature(come, &signed, (at, &scope), &self.secret);
        if part("Signature")? == expected {
            // OpenSearch Serverless demands it.
            let hash = come.header("x-amz-content-sha256");
            return hash
                .map(|_| ())
                .ok_or_else(|| "no x-amz-content-sha256".to_owned());
        }
        // As the service does: with all that it would have signed, a token too.
        Err(format!(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String for this request should have been\n'{}'",
            canonical(come, &signed)
        ))
    }
}

fn signature(come: &Come, signed: &[&str], (at, scope): (&str, &str), secret: &str) -> String {
    let digest = hex(&Sha256::digest(canonical(come, signed)));
    let text = format!("{ALGORITHM}\n{at}\n{scope}\n{digest}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    hex(&mac(&key, &text))
}

/// "Task 1: Create a canonical request".
fn canonical(come: &Come, signed: &[&str]) -> String {
    let mut text = format!(
        "{}\n{}\n{}\n",
        come.method,
        encoded(&come.path, b"/"),
        canonical_query(&come.query)
    );
    for name in signed {
        let value = come.header(name).unwrap_or_default();
        let words: Vec<_> = value.split_whitespace().collect();
        let _ = writeln!(text, "{name}:{}", words.join(" "));
    }
    text + "\n" + &signed.join(";") + "\n" + &hex(&Sha256::digest(&come.body))
}

/// Sorted by name, and by value where names are alike.
fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recoded(name), recoded(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn recoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| first == b'%');
        let escaped = escaped
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() {
            &behind[2..]
        } else {
            behind
        };
    }
    encoded_bytes(&bytes, b"")
}

fn encoded(text: &str, kept: &[u8]) -> String {
    encoded_bytes(text.as_bytes(), kept)
}

/// `UriEncode()`: all but what RFC 3986 calls unreserved.
fn encoded_bytes(bytes: &[u8], kept: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of `20260131T235959Z`, since 1970.
fn seconds(at: &str) -> i64 {
    let number = |from: usize, to: usize| at[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    // Days of a calendar whose years begin in March: a leap day is a year's last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    days * 86_400 + number(9, 11) * 3600 + number(11, 13) * 60 + number(13, 15)
}

/// Of "AWS Signature Version 4 test suite": method, path and query, and the signature.
const EXAMPLES: &str = "\
GET / 5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31
POST / 5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b
GET /?Param2=value2&Param1=value1 b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500
GET /ሴ 8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85
GET /example space/ 652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741
GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz 07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f";
/// Likewise, of requests with a body, and with a token.
const OF_FORM: &str = "POST / ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
const WITH_TOKEN: &str = "POST / 85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead";
const EXAMPLE_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

#[track_caller]
fn has_its_signature(example: &str, more: &[(&str, &str)], body: &str) {
    const AT: &str = "20150830T123600Z";
    let (method, rest) = example.split_once(' ').unwrap();
    let (target, expected) = rest.rsplit_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = [("host", "example.amazonaws.com"), ("x-amz-date", AT)];
    let mut headers: Vec<_> = headers.iter().chain(more).copied().collect();
    headers.sort_unstable();
    let signed: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let come = Come {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
    };
    let scope = "20150830/us-east-1/service/aws4_request";
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let signature = signature(&come, &signed, (AT, scope), secret);
    assert_eq!(signature, expected, "{come:?}");
}

#[test]
fn the_published_examples_have_the_published_signatures() {
    for example in EXAMPLES.lines() {
        has_its_signature(example, &[], "");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    has_its_signature(OF_FORM, &form, "Param1=value1");
    let token = [("x-amz-security-token", EXAMPLE_TOKEN)];
    has_its_signature(WITH_TOKEN, &token, "");
    // Of a path that is encoded on the wire the signature has what is encoded twice, other than with S3.
    let wire = "/test/@connections/JBDvjfGEIAMCERw%3D";
    let signed = "/test/%40connections/JBDvjfGEIAMCERw%253D";
    assert_eq!(encoded(wire, b"/"), signed);
}

#[test]
fn a_time_is_read() {
    assert_eq!(seconds("19700101T000000Z"), 0);
    assert_eq!(seconds("20240229T120000Z"), 1_709_208_000);
    assert_eq!(seconds("20261130T043000Z"), 1_796_013_000);
}
