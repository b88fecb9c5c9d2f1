//! What has happened where the registry gives a key schema another id than the topic's keys have.

use std::fmt;

use serde_json::Value;
use tributary_runtime::Error;
use tributary_runtime::registry::{Registry, Schema};

/// Why the id is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The registry has no such id any more, or another subject's schema has it.
    Lost,
    /// The schema is another one.
    TextChanged,
    /// The version that had it was deleted, softly.
    Deleted,
    /// The same schema has both ids: its text is another one, in what does not count, such as the order of members.
    Rewritten,
}

impl Cause {
    /// What to do about it, beside reading all rows again.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Self::Lost => "a registry that has lost its store is to be restored",
            Self::TextChanged => "undo the change of the key's columns",
            Self::Deleted => {
                "let the registry have that version again (in Apicurio set its state to ENABLED, or restore the store), and \
                 delete the newer one for good (permanent=true): one that is deleted softly still answers for its text"
            }
            Self::Rewritten => {
                "restore the registry from an export of the one before, which keeps texts and ids"
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => {
                "that id has no schema any more, or another subject's: the registry has lost its store, or is another one"
            }
            Self::TextChanged => "the text has changed: a column's type is another one",
            Self::Deleted => "the subject's version with that id was deleted, softly",
            Self::Rewritten => {
                "the id has changed and the schema has not: the registry holds it under both ids, in two texts"
            }
        })
    }
}

/// Finds out why a key's schema has not the id `before`.
///
/// # Errors
/// The registry does not answer.
pub(super) async fn why_another(
    registry: &Registry,
    subject: &str,
    schema: &str,
    before: u32,
) -> Result<Cause, Error> {
    let known = registry.schema(before).await?.and_then(Schema::avro);
    let cause = compare(known.as_deref(), schema);
    if cause == Cause::Rewritten && registry.is_deleted(subject, before).await? {
        return Ok(Cause::Deleted);
    }
    Ok(cause)
}

/// What the texts tell.
fn compare(known: Option<&str>, schema: &str) -> Cause {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let Some(known) = known.and_then(parsed) else {
        return Cause::Lost;
    };
    let ours = parsed(schema).unwrap_or_default();
    if known == ours {
        return Cause::Rewritten;
    }
    let is_named_alike = ["name", "namespace"]
        .iter()
        .all(|member| known.get(*member) == ours.get(*member));
    if is_named_alike {
        Cause::TextChanged
    } else {
        Cause::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, compare};

    #[test]
    fn the_texts_tell_what_has_happened() {
        let ours = r#"{"type":"record","name":"Key","namespace":"p.s.t","fields":[]}"#;
        for (known, cause) in [
            (None, Cause::Lost),
            (Some(r#"{"type":"fixed","name":"F","size":9}"#), Cause::Lost),
            (
                Some(
                    r#"{"type":"record","name":"Key","namespace":"p.s.t","fields":[{"name":"id","type":"int"}]}"#,
                ),
                Cause::TextChanged,
            ),
            (
                Some(r#"{"name": "Key", "namespace": "p.s.t", "type": "record", "fields": []}"#),
                Cause::Rewritten,
            ),
        ] {
            assert_eq!(compare(known, ours), cause, "{known:?}");
        }
    }
}
