//! Which index takes the place of which: what a reindex notes in the indices' `_meta`, beside the mark. Nobody else writes `_meta` of an
//! index that is there, and of an alias there is one reindex at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The setting by which writes to an index are blocked.
pub(crate) const BLOCK: &str = "index.blocks.write";

const OURS: &str = "tributary";
const BUILD: &str = "reindex";
const HANDOVER: &str = "handover";
const REPLACED_BY: &str = "replaced_by";
const KEPT: &str = "kept";
const MAPPING: &str = "mapping";

/// A reindex, in the index that it builds, until it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// The index whose place it is to take.
    pub(crate) of: String,
    /// The consumer group that reads for it.
    pub(crate) group: String,
    /// The alias by which it is written meanwhile.
    pub(crate) alias: String,
    /// The process that does it.
    pub(crate) runner: String,
    /// What the configuration says of the documents in it.
    #[serde(default)]
    pub(crate) documents: Option<Value>,
    /// The alias that this index has once it has taken the place, and only then.
    #[serde(default)]
    pub(crate) claim: Option<String>,
    /// All is read; what is left is to clear up.
    #[serde(default)]
    pub(crate) is_over: bool,
    /// The index was in use before, and was kept: it is read on from there, and never deleted for a reindex that is given up.
    #[serde(default)]
    pub(crate) is_back: bool,
    /// A service has begun it by itself: services go on with it.
    #[serde(default)]
    pub(crate) is_attended: bool,
}

/// Up to where an index was read when another one took its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// All that is below is in it, by partition.
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// When they were asked for: milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// That a reindex blocks writes to this index and is about to put another one in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The other one.
    pub(crate) to: String,
    /// The alias of which there can be one write index: who makes its index that may go on. Of the reindex that is the other index, of
    /// who gives up waiting this one.
    pub(crate) claim: String,
    /// What is to be known of this one if it is kept.
    #[serde(default)]
    pub(crate) kept: Option<Kept>,
}

impl Build {
    /// Whether rows may be written to the index by way of this alias.
    pub(crate) fn may_serve(&self, index: &Value, alias: &str) -> bool {
        let aliases = index.get("aliases").and_then(Value::as_object);
        let has = |name: &String| aliases.is_some_and(|aliases| aliases.contains_key(name));
        // Only where the index that had this name is gone, with the last request of the reindex, can it be an alias.
        let has_replaced = self.of == alias;
        self.alias == alias || self.is_over || has_replaced || self.claim.as_ref().is_some_and(has)
    }
}

/// The reindex that has built an index, by what it says of itself.
pub(crate) fn build(ours: &Value) -> Option<Build> {
    note(ours, BUILD)
}

/// The reindex that hands over.
pub(crate) fn handover(ours: &Value) -> Option<Handover> {
    note(ours, HANDOVER)
}

/// The index that has taken the place of this one.
pub(crate) fn replaced_by(ours: &Value) -> Option<&str> {
    ours.get(REPLACED_BY)?.as_str()
}

/// Up to where it was read then.
pub(crate) fn kept(ours: &Value) -> Option<Kept> {
    note(ours, KEPT)
}

/// Whether a reindex builds the index, or has replaced it.
pub(crate) fn is_beside(index: &Value) -> bool {
    let ours = index.pointer(&format!("/mappings/_meta/{OURS}"));
    ours.is_some_and(|ours| build(ours).is_some() || replaced_by(ours).is_some())
}

/// The mapping that somebody has given for it.
pub(crate) fn given_mapping(ours: &Value) -> Option<&Map<String, Value>> {
    ours.get(MAPPING)?.as_object()
}

/// The fields of which that says something.
pub(crate) fn given_fields(ours: &Value) -> Vec<String> {
    let fields = given_mapping(ours).and_then(|given| given.get("properties")?.as_object());
    fields.map_or_else(Vec::new, |fields| fields.keys().cloned().collect())
}

/// All of `_meta`, with another note in it.
#[derive(Debug, Clone)]
pub(crate) struct Notes(Map<String, Value>);

impl Notes {
    /// Of an index as the engine describes it.
    pub(crate) fn of(index: &Value) -> Self {
        let meta = index.pointer("/mappings/_meta").and_then(Value::as_object);
        Self(meta.cloned().unwrap_or_default())
    }

    pub(crate) fn with_build(self, build: Option<&Build>) -> Self {
        self.with(BUILD, build.map(|build| json!(build)))
    }

    pub(crate) fn with_handover(self, handover: Option<&Handover>) -> Self {
        self.with(HANDOVER, handover.map(|handover| json!(handover)))
    }

    pub(crate) fn with_replaced_by(self, index: Option<&str>) -> Self {
        self.with(REPLACED_BY, index.map(Value::from))
    }

    pub(crate) fn with_kept(self, kept: Option<&Kept>) -> Self {
        self.with(KEPT, kept.map(|kept| json!(kept)))
    }

    pub(crate) fn with_mapping(self, given: Option<&Map<String, Value>>) -> Self {
        self.with(MAPPING, given.map(|given| json!(given)))
    }

    /// What the index says of itself.
    pub(crate) fn ours(&self) -> Value {
        self.0.get(OURS).cloned().unwrap_or_default()
    }

    /// As the mapping that carries it.
    pub(crate) fn mapping(&self) -> Value {
        json!({ "_meta": self.0 })
    }

    fn with(mut self, name: &str, note: Option<Value>) -> Self {
        let ours = self.0.entry(OURS).or_insert_with(|| json!({}));
        if let Value::Object(ours) = ours {
            match note {
                Some(note) => ours.insert(name.to_owned(), note),
                None => ours.remove(name),
            };
        }
        self
    }
}

fn note<N: for<'d> Deserialize<'d>>(ours: &Value, name: &str) -> Option<N> {
    serde_json::from_value(ours.get(name)?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Build, Handover, Kept, Notes, build, given_fields, handover};

    #[test]
    fn notes_are_read_as_they_were_written_and_others_stay() {
        let index = json!({"mappings": {"_meta": {"mine": 1, "tributary": {"topic": "t"}}}});
        let made = Build {
            of: "a-1".to_owned(),
            group: "g".to_owned(),
            alias: "b".to_owned(),
            runner: "r".to_owned(),
            documents: None,
            claim: None,
            is_over: false,
            is_back: false,
            is_attended: false,
        };
        let kept = Kept {
            offsets: [(0, 7), (11, i64::MAX)].into(),
            at_ms: 1,
        };
        let over = Handover {
            to: "a-2".to_owned(),
            claim: "c".to_owned(),
            kept: Some(kept.clone()),
        };
        let given = json!({"properties": {"x": {"type": "geo_point"}}});
        let notes = Notes::of(&index)
            .with_build(Some(&made))
            .with_handover(Some(&over))
            .with_kept(Some(&kept))
            .with_mapping(given.as_object());
        let ours = notes.ours();
        assert_eq!(build(&ours), Some(made));
        assert_eq!(handover(&ours), Some(over));
        assert_eq!(super::kept(&ours), Some(kept));
        assert_eq!(given_fields(&ours), ["x"]);
        let cleared = notes
            .with_build(None)
            .with_handover(None)
            .with_kept(None)
            .with_mapping(None);
        assert_eq!(
            cleared.mapping(),
            json!({"_meta": {"mine": 1, "tributary": {"topic": "t"}}})
        );
    }

    #[test]
    fn what_is_being_built_serves_its_own_alias_and_the_topics_once_it_has_the_claim() {
        let made = Build {
            of: "a-1".to_owned(),
            group: "g".to_owned(),
            alias: "b".to_owned(),
            runner: "r".to_owned(),
            documents: None,
            claim: Some("c".to_owned()),
            is_over: false,
            is_back: false,
            is_attended: false,
        };
        let index = json!({"aliases": {"a": {}, "b": {}}});
        assert!(made.may_serve(&index, "b") && !made.may_serve(&index, "a"));
        assert!(made.may_serve(&json!({"aliases": {"a": {}, "c": {}}}), "a"));
        let taking_over = Build {
            of: "a".to_owned(),
            ..made
        };
        assert!(taking_over.may_serve(&json!({"aliases": {"a": {}}}), "a"));
    }
}
