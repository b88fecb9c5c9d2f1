//! What an engine says about a failure, and how much of it may be told: its texts quote values and keys.

use serde::Deserialize;
use tributary_runtime::Error;

use crate::document::DocumentPlan;

/// The type of the failure where an index is closed.
pub(crate) const CLOSED: &str = "index_closed_exception";

/// The settings of an index whose documents pass through no ingest pipeline.
const NO_PIPELINE: &str = r#"{"index.default_pipeline": null, "index.final_pipeline": null}"#;

/// What to do where a shard is not there.
pub(crate) const ABSENT: &str =
    "GET /_cluster/allocation/explain says which shard is not there, and why";

/// The types of the failures where a document does not fit the mapping, or is not one.
const OF_THE_MAPPING: [&str; 4] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "parsing_exception",
];
/// How the engines begin what they say of a value that is too long for its field.
const IMMENSE: &str = "Document contains at least one immense term";

/// The `error` object of a response or of a bulk item.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Failure {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Failure>>,
}

/// A response's body where the request failed.
#[derive(Debug, Deserialize)]
struct FailureBody {
    error: Failure,
}

/// What is done about a bulk item that failed.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The engine has this version or a newer one already.
    Conflict,
    /// The engine is busy: this item again, a little later.
    Again,
    /// The document itself is refused.
    Refused,
    /// It concerns the index as a whole.
    Halt(Error),
}

impl Failure {
    /// Reads the body of a failed request; `None` if it is not the engines' form (a proxy's page).
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body)
            .ok()
            .map(|FailureBody { error }| error)
    }

    /// The whole text. Only for requests that carry no rows: about indices, mappings and settings.
    pub(crate) fn full(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{}: {reason}", self.kind),
            None => self.kind.clone(),
        }
    }

    /// The whole text with that of all causes, of such requests.
    pub(crate) fn whole(&self) -> String {
        let texts: Vec<String> = self.chain().map(Self::full).collect();
        texts.join(", caused by ")
    }

    /// The types of the failure and of its causes: what can be told of any failure. Of a request that is not let in the whole
    /// text: it names the user, the action and the index.
    pub(crate) fn kinds(&self) -> String {
        if self.kind == "security_exception" {
            return self.full();
        }
        let mut kinds: Vec<&str> = self.chain().map(|failure| failure.kind.as_str()).collect();
        kinds.dedup();
        kinds.join(", caused by ")
    }

    /// Why a document is refused: the failure's types, and the column where the engine names one. Everything
    /// else in the engine's text may be a value.
    pub(crate) fn of_document(&self, plan: Option<&DocumentPlan>) -> String {
        let column = plan.and_then(|plan| self.column(plan));
        match column {
            Some(column) => format!("{} in column \"{column}\"", self.kinds()),
            None => self.kinds(),
        }
    }

    /// Whether the engine turns a request away that it could not bear idle either: it has more bytes than may be under way together. The
    /// text that says so has numbers only.
    pub(crate) fn is_of_size(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        let number = |name| -> Option<u64> {
            let (_, rest) = reason.split_once(name)?;
            let digits = rest.find(|letter: char| !letter.is_ascii_digit());
            rest.get(..digits.unwrap_or(rest.len()))?.parse().ok()
        };
        let most = [
            "max_coordinating_and_primary_bytes=",
            "max_coordinating_bytes=",
        ];
        let most = most.into_iter().find_map(number);
        let asked = number("coordinating_operation_bytes=");
        self.kind.ends_with("rejected_execution_exception")
            && asked.zip(most).is_some_and(|(asked, most)| asked > most)
    }

    /// The failure of a bulk item with this status, for the alias `alias`.
    pub(crate) fn verdict(&self, status: u16, alias: &str) -> Verdict {
        match (status, self.kind.as_str()) {
            (409, "version_conflict_engine_exception") => Verdict::Conflict,
            (_, kind) if is_block(kind) => Verdict::Halt(blocked(alias, &self.full())),
            (_, CLOSED) => Verdict::Halt(closed(alias)),
            (_, "index_not_found_exception") => Verdict::Halt(vanished(alias)),
            (_, "security_exception") | (401 | 403, _) => Verdict::Halt(
                Error::stop_msg(format_args!("not allowed to write to '{alias}' ({})", self.kinds()))
                    .remedy(format!("grant the privileges index and delete on '{alias}*'")),
            ),
            (400, _) if self.has_no_pipeline() => Verdict::Halt(without_pipeline(alias, &self.full())),
            (400, kind) if self.is_about_the_index() => Verdict::Halt(
                Error::stop_msg(format_args!("'{alias}' takes no documents ({kind})")).remedy(
                    format!("see GET /{alias}: the alias needs one write index, and that index room for documents"),
                ),
            ),
            (400, _) => Verdict::Refused,
            _ => Verdict::Again,
        }
    }

    /// Two failures of an index have the type that a document's failures have; their texts have no values.
    fn is_about_the_index(&self) -> bool {
        self.kind == "illegal_argument_exception"
            && self.reason.as_deref().is_some_and(|reason| {
                reason.starts_with("no write index is defined for alias")
                    || reason.starts_with("Number of documents in the index can't exceed")
            })
    }

    /// The index names an ingest pipeline that there is not. The text has no value.
    fn has_no_pipeline(&self) -> bool {
        self.kind == "illegal_argument_exception"
            && self.reason.as_deref().is_some_and(|reason| {
                reason.starts_with("pipeline with id [") && reason.ends_with("] does not exist")
            })
    }

    /// Whether nothing in it says that the document does not fit the mapping: an ingest pipeline may have refused it, whatever is in
    /// it.
    pub(crate) fn may_be_of_a_pipeline(&self, plan: Option<&DocumentPlan>) -> bool {
        let is_named = plan.is_some_and(|plan| self.column(plan).is_some());
        let is_the_mappings = self.chain().any(|failure| {
            OF_THE_MAPPING.contains(&failure.kind.as_str())
                || failure
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reason.starts_with(IMMENSE))
        });
        !is_named && !is_the_mappings
    }

    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |failure| failure.caused_by.as_deref())
    }

    fn column<'p>(&self, plan: &'p DocumentPlan) -> Option<&'p str> {
        let mut reasons = self.chain().filter_map(|failure| failure.reason.as_deref());
        reasons.find_map(|reason| {
            let named = plan.columns().find(|(_, field)| {
                reason.contains(&format!("field [{field}] of type"))
                    || reason.contains(&format!("object mapping for [{field}]"))
            });
            named.map(|(column, _)| column)
        })
    }
}

/// That writes are blocked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Blocked(String);

/// Whether a failure of this type says that a block forbids what was asked: of an index, of the cluster, or of indices that are to be
/// made.
pub(crate) fn is_block(kind: &str) -> bool {
    kind.ends_with("block_exception")
}

/// Writes are blocked: by somebody, by a reindex that hands over, or by the engine when a disk is nearly full. `asked` is the alias or
/// index that was asked for, or what is none (`_aliases`).
pub(crate) fn blocked(asked: &str, what: &str) -> Error {
    let index = what
        .split_once("index [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let name = match index {
        Some((index, _)) if asked.starts_with('_') => index,
        _ => asked,
    };
    let lift = if index.is_some() {
        format!(
            "PUT /{name}/_settings {{\"index.blocks.write\": null, \"index.blocks.read_only\": null, \"index.blocks.read_only_allow_delete\": null, \"index.blocks.read\": null, \"index.blocks.metadata\": null}}"
        )
    } else {
        // OpenSearch lets a request through that changes this setting and no other.
        let key = if what.contains("allow delete") {
            "cluster.blocks.read_only_allow_delete"
        } else if what.contains("create-index") {
            "cluster.blocks.create_index"
        } else {
            "cluster.blocks.read_only"
        };
        format!("PUT /_cluster/settings {{\"persistent\": {{\"{key}\": null}}}}")
    };
    Error::retry(Blocked(format!("writes to '{name}' are blocked ({what})"))).remedy(format!(
        "free disk space if the disk is full; else lift the block: {lift}"
    ))
}

/// Documents pass through an ingest pipeline that there is not.
fn without_pipeline(alias: &str, what: &str) -> Error {
    Error::stop_msg(format_args!("'{alias}' takes no documents ({what})")).remedy(format!(
        "make the pipeline, or have documents pass through none: PUT /{alias}/_settings {NO_PIPELINE}"
    ))
}

/// Documents pass through these ingest pipelines, and `count` in a row were refused with this type of failure.
pub(crate) fn refused_by_pipelines(
    alias: &str,
    (count, kind): (u64, &str),
    pipelines: &[String],
) -> Error {
    let names = pipelines.join(",");
    Error::stop_msg(format_args!(
        "'{alias}' refuses every document, {count} in a row ({kind}), for a reason that is none of its mapping's: it may be what its ingest pipelines do ({names})"
    ))
    .remedy(format!(
        "see GET /_ingest/pipeline/{names}, and correct it, or give its processors an `on_failure`; or have documents pass through none: PUT /{alias}/_settings {NO_PIPELINE}"
    ))
}

/// An index, or the one behind an alias, is closed.
pub(crate) fn closed(name: &str) -> Error {
    Error::retry_msg(format_args!("the index behind '{name}' is closed"))
        .remedy(format!("POST /{name}/_open"))
}

/// Whether an error says that writes are blocked.
pub(crate) fn is_blocked(error: &Error) -> bool {
    error.cause().downcast_ref::<Blocked>().is_some()
}

/// The alias is gone while the service runs. New rows alone would make an index that lacks all older ones: it is built again from the
/// beginning of the topic, once the engine of the sink has seen that it is gone.
pub(crate) fn vanished(alias: &str) -> Error {
    Error::retry_msg(format_args!("the alias '{alias}' is gone, or its index"))
}

/// The index refuses rows, and another one is built that takes what a column has become: they wait for that.
pub(crate) fn outgrown(alias: &str) -> Error {
    Error::retry_msg(format_args!(
        "the index behind '{alias}' refuses rows as their columns are now: they wait until it is built again (on_unfit_mapping)"
    ))
}

/// That an index maps fields otherwise than documents were written for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct OtherwiseMapped(String);

/// Another index has taken the place of the one for which documents were written, and maps fields otherwise: they are to be written anew.
pub(crate) fn otherwise_mapped(alias: &str, index: &str) -> Error {
    Error::retry(OtherwiseMapped(format!(
        "'{index}' behind '{alias}' maps fields otherwise than the index before it"
    )))
}

/// Whether an error says that.
pub(crate) fn is_otherwise_mapped(error: &Error) -> bool {
    error.cause().downcast_ref::<OtherwiseMapped>().is_some()
}

/// The error for an index, of another connector's perhaps, that has the name of an alias of ours.
pub(crate) fn plain(alias: &str) -> Error {
    Error::stop_msg(is_an_index(alias)).remedy(to_have_the_alias(alias))
}

/// The same for one that says nothing, as a delete makes it that comes when the alias is gone. Whoever has sent that is about to take it
/// away.
pub(crate) fn bare(alias: &str) -> Error {
    Error::retry_msg(is_an_index(alias)).remedy(format!(
        "if it holds no document, DELETE /{alias}: a delete has made it, once the index behind the alias was gone. Else, {}",
        to_have_the_alias(alias)
    ))
}

fn is_an_index(alias: &str) -> String {
    format!("'{alias}' is an index, not an alias")
}

fn to_have_the_alias(alias: &str) -> String {
    format!(
        "to have the alias in its place, stop whoever else writes to it, and run `tributary-sink-elastic reindex --index {alias} --replace-index`: \
         it builds the topic's index beside this one, and then deletes this one, which nobody can take back; to keep it, set \
         elasticsearch.index_prefix to another prefix, and search there"
    )
}

/// The index that a reindex builds is gone.
pub(crate) fn unbuilt(alias: &str) -> Error {
    Error::stop_msg(format_args!(
        "the index behind '{alias}', which the reindex builds, is gone"
    ))
    .remedy("run `reindex` again: it begins anew")
}

/// The alias leads to `target`, and still what is written to it ends up in `other`.
pub(crate) fn elsewhere(alias: &str, target: &str, other: &str) -> Error {
    Error::retry_msg(format_args!(
        "the alias '{alias}' leads to '{target}', but what is written to it ends up in '{other}'"
    ))
    .remedy("leave the alias where it is, and take away the ingest pipeline that names another index, if there is one")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};
    use tributary_runtime::Policy;
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::{Failure, Verdict};
    use crate::document::DocumentPlan;
    use crate::shape::Shape;

    fn failure(error: &Value) -> Failure {
        Failure::parse(json!({ "error": error }).to_string().as_bytes()).unwrap()
    }

    /// As OpenSearch 3.8 and Elasticsearch 9.5 answer.
    #[test]
    fn a_refusal_names_the_column_and_no_value() {
        let row_type = RecordType {
            full_name: "t.Value".to_owned(),
            fields: vec![Field {
                name: "a.b".to_owned(),
                field_type: FieldType::Bool,
                nullable: true,
            }],
        };
        let plan = DocumentPlan::new(&row_type, &Shape::default(), &Map::new()).unwrap();
        let refused = failure(&json!({
            "type": "mapper_parsing_exception",
            "reason": "failed to parse field [a_u002eb] of type [boolean] in document with id 'secret'. Preview of field's value: 'secret'",
            "caused_by": {"type": "illegal_argument_exception", "reason": "Failed to parse value [secret]"}
        }));
        assert!(matches!(refused.verdict(400, "a"), Verdict::Refused));
        assert_eq!(
            refused.of_document(Some(&plan)),
            "mapper_parsing_exception, caused by illegal_argument_exception in column \"a.b\""
        );
        assert!(!refused.of_document(None).contains("secret"));
    }

    /// As OpenSearch 3.8 and Elasticsearch 9.5 answer.
    #[test]
    fn what_is_too_large_for_an_idle_engine_is_not_taken_for_load() {
        let is_of_size = |kind: &str, asked: u64, most: &str| {
            let under_way =
                "coordinating_and_primary_bytes=70000000, replica_bytes=0, all_bytes=70000000";
            let reason = format!(
                "rejected execution of coordinating operation [{under_way}, coordinating_operation_bytes={asked}, {most}=80530636]"
            );
            failure(&json!({"type": kind, "reason": reason})).is_of_size()
        };
        for (kind, most) in [
            (
                "rejected_execution_exception",
                "max_coordinating_and_primary_bytes",
            ),
            ("es_rejected_execution_exception", "max_coordinating_bytes"),
        ] {
            assert!(is_of_size(kind, 89_129_208, most));
            assert!(!is_of_size(kind, 20_000_000, most));
        }
        let full = failure(&json!({"type": "rejected_execution_exception", "reason": "full"}));
        assert!(!full.is_of_size());
    }

    #[test]
    fn failures_are_told_apart() {
        let busy = failure(&json!({"type": "es_rejected_execution_exception", "reason": "full"}));
        assert!(matches!(busy.verdict(429, "a"), Verdict::Again));
        let away =
            failure(&json!({"type": "unavailable_shards_exception", "reason": "source[secret]"}));
        assert!(matches!(away.verdict(503, "a"), Verdict::Again));
        let newer =
            failure(&json!({"type": "version_conflict_engine_exception", "reason": "[k]: ..."}));
        assert!(matches!(newer.verdict(409, "a"), Verdict::Conflict));
        let block = failure(
            &json!({"type": "cluster_block_exception", "reason": "index [a] blocked by: [...]"}),
        );
        for status in [403, 429] {
            assert!(
                matches!(block.verdict(status, "a"), Verdict::Halt(error) if error.policy() == Policy::Retry)
            );
        }
        let denied = failure(&json!({"type": "security_exception", "reason": "no"}));
        let gone = failure(&json!({"type": "index_not_found_exception", "reason": "no"}));
        let no_write_index = failure(&json!({
            "type": "illegal_argument_exception",
            "reason": "no write index is defined for alias [a]. The write index may be explicitly disabled"
        }));
        assert!(
            matches!(gone.verdict(404, "a"), Verdict::Halt(error) if error.policy() == Policy::Retry)
        );
        for (status, stop) in [(403, denied), (400, no_write_index)] {
            assert!(
                matches!(stop.verdict(status, "a"), Verdict::Halt(error) if error.policy() == Policy::Stop)
            );
        }
    }
}
