//! What the service of AWS in front of the engine says where it does not let a request in: a form of its own.

use serde::Deserialize;

/// The longest text that is told.
const LETTERS_MAX: usize = 300;

#[derive(Debug, Deserialize)]
struct Said {
    #[serde(alias = "Message")]
    message: String,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The clocks of the two differ by more than a signature is good for.
    Clock,
    /// The keys, or what was made with them.
    Keys,
    /// The service has no such request at all, whoever sends it.
    Request,
    /// The keys are good, and who has them may not do this.
    Policy,
}

/// Its words, up to the first line's end: behind it stands what should have been signed, with the session's token.
pub(crate) fn words(body: &[u8]) -> Option<String> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let line = said.message.lines().next().unwrap_or_default();
    Some(line.chars().take(LETTERS_MAX).collect())
}

impl Refusal {
    /// What the service's words mean. It has no codes.
    pub(crate) fn of(words: &str) -> Self {
        let says = |text: &str| words.contains(text);
        if says("Signature expired") || says("Signature not yet current") {
            Self::Clock
        } else if says("Your request: ") && says("is not allowed") {
            Self::Request
        } else if says("not authorized") {
            Self::Policy
        } else if says("ignature")
            || says("ecurity token")
            || says("Credential")
            || says("ccess Key")
        {
            Self::Keys
        } else {
            Self::Policy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, words};

    /// As they are told of the service.
    #[test]
    fn its_words_say_whether_keys_clock_or_policies_are_to_be_mended() {
        for (said, refusal) in [
            (
                "The security token included in the request is expired",
                Refusal::Keys,
            ),
            (
                "The security token included in the request is invalid.",
                Refusal::Keys,
            ),
            (
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
                Refusal::Keys,
            ),
            (
                "Credential should be scoped to a valid region, not 'us-east-1'. ",
                Refusal::Keys,
            ),
            (
                "Signature expired: 20261130T042000Z is now earlier than 20261130T043000Z (20261130T043500Z - 5 min.)",
                Refusal::Clock,
            ),
            (
                "Signature not yet current: 20261130T052000Z is still later than 20261130T043000Z (20261130T042500Z + 5 min.)",
                Refusal::Clock,
            ),
            (
                "User: arn:aws:sts::123456789012:assumed-role/search/i-0 is not authorized to perform: es:ESHttpPut because no resource-based policy allows the es:ESHttpPut action",
                Refusal::Policy,
            ),
            (
                "User: anonymous is not authorized to perform: es:ESHttpGet",
                Refusal::Policy,
            ),
            (
                "Your request: '/_security/user/_has_privileges' is not allowed.",
                Refusal::Request,
            ),
            (
                "Your request: '/_cluster/settings' payload is not allowed.",
                Refusal::Request,
            ),
            ("Forbidden", Refusal::Policy),
        ] {
            assert_eq!(Refusal::of(said), refusal, "{said}");
        }
    }

    #[test]
    fn the_first_line_is_told_and_no_token() {
        let body = br#"{"message": "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:hush'"}"#;
        assert_eq!(
            words(body).unwrap(),
            "The request signature we calculated does not match."
        );
        assert_eq!(words(br#"{"Message": "no"}"#).unwrap(), "no");
        assert_eq!(
            words(&format!("{{\"message\": \"{}\"}}", "ä".repeat(999)).into_bytes())
                .unwrap()
                .chars()
                .count(),
            300
        );
        for other in ["", "{}", "<html>", r#"{"error": {"type": "x"}}"#] {
            assert_eq!(words(other.as_bytes()), None);
        }
    }
}
