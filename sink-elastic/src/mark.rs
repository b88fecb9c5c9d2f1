//! The mark of an index, in its mapping. What never changes stands in `_meta`, which the request that makes the index sets: a later one
//! replaces all of `_meta`, whoever wrote it meanwhile. What becomes known later stands in the `meta` of a field of its own, for each partition
//! one, since an engine merges fields: no note of another instance is lost. Nothing is indexed for these fields.

use serde_json::{Map, Value, json};
use tributary_engine::{Mark, Note};

/// The version of what an index of ours says of itself (`_meta`).
pub(crate) const FORMAT: u64 = 2;
/// What the names of the fields begin with that carry notes.
const PARTITION_FIELD: &str = "_tributary_p";
/// What the names of the fields begin with that say of which schemas keys are.
const KEY_FIELD: &str = "_tributary_k";
/// The field that says that versions are offsets.
const OFFSETS_FIELD: &str = "_tributary_offsets";

/// The field that says which index it is.
const INDEX_FIELD: &str = "_tributary_index";

/// The engines give an index that they restore from a snapshot another one of these: this one where the index was there before, and
/// closed, and `index.uuid` else, with this one as it was. `elasticsearch-node unsafe-bootstrap` gives this one to every index, and who
/// imports a dangling index to that.
const HISTORY: &str = "index.history.uuid";

/// What an index says of the documents in it, in `_meta`.
pub(crate) const DOCUMENTS: &str = "documents";

/// `_meta` of an index that begins with this mark, and with documents of this shape.
pub(crate) fn meta(topic: &str, mark: &Mark, documents: Option<Value>) -> Value {
    let mut ours = json!({
        "format": FORMAT,
        "topic": topic,
        "generation": mark.generation,
        "topic_id": mark.topic_id,
        "partitions": mark.partitions,
    });
    if let (Some(documents), Value::Object(ours)) = (documents, &mut ours) {
        ours.insert(DOCUMENTS.to_owned(), documents);
    }
    json!({ "tributary": ours })
}

/// The mapping that carries these notes; nothing where there are none.
pub(crate) fn properties<'n>(notes: impl IntoIterator<Item = &'n Note>) -> Map<String, Value> {
    let mut properties = Map::new();
    for note in notes {
        let (name, meta) = match note {
            Note::CaughtUp { partition, at_ms } => (
                format!("{PARTITION_FIELD}{partition}"),
                json!({"caught_up_ms": at_ms.to_string()}),
            ),
            Note::KeySchema(id) => (
                format!("{KEY_FIELD}{id}"),
                json!({"schema": id.to_string()}),
            ),
            Note::VersionsAreOffsets => (OFFSETS_FIELD.to_owned(), json!({"versions": "offsets"})),
        };
        properties.insert(name, carrier(&meta));
    }
    properties
}

/// The mapping of a field that carries a note.
fn carrier(meta: &Value) -> Value {
    json!({"type": "long", "index": false, "doc_values": false, "meta": meta})
}

/// Which index it is that the engine holds: one that is restored from a snapshot is another one, of the same age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The engine's: another one for each index, and each time that one is restored.
    pub(crate) id: String,
    /// When it was made. A copy that somebody makes is younger.
    pub(crate) made: String,
}

impl Identity {
    /// What the mapping's properties say.
    pub(crate) fn noted(properties: &Map<String, Value>) -> Option<Self> {
        let meta = properties.get(INDEX_FIELD)?.get("meta")?;
        let text = |name: &str| meta.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            id: text("id")?,
            made: text("made")?,
        })
    }

    /// As the engine says, which describes the index with flat settings.
    pub(crate) fn told(index: &Value) -> Option<Self> {
        let settings = index.get("settings")?;
        let text = |name: &str| settings.get(name)?.as_str();
        let history = text(HISTORY).unwrap_or_default();
        Some(Self {
            id: format!("{}/{history}", text("index.uuid")?),
            made: text("index.creation_date")?.to_owned(),
        })
    }

    /// The mapping that says it.
    pub(crate) fn mapping(&self) -> Value {
        json!({"properties": {INDEX_FIELD: carrier(&json!({"id": self.id, "made": self.made}))}})
    }
}

/// Whether an index with these settings was restored from a snapshot since it noted which one it is, or its cluster was put together
/// again from what is left, so that it may lack what was written behind that.
pub(crate) fn has_come_back(
    noted: Option<&Identity>,
    now: Option<&Identity>,
    settings: &Map<String, Value>,
) -> bool {
    match (noted, now) {
        (Some(noted), Some(now)) => noted.id != now.id && noted.made == now.made,
        (None, Some(_)) => settings.contains_key(HISTORY),
        (_, None) => false,
    }
}

/// Those notes that say more than the mark does: an earlier time would replace a later one.
pub(crate) fn newer<'n>(notes: &'n [Note], mark: &Mark) -> Vec<&'n Note> {
    let says_more = |note: &&Note| match note {
        Note::CaughtUp { partition, at_ms } => {
            let known = mark.caught_up_ms.get(partition);
            known.is_none_or(|known| known < at_ms)
        }
        Note::KeySchema(id) => !mark.key_schemas.contains(id),
        Note::VersionsAreOffsets => !mark.versions_are_offsets,
    };
    notes.iter().filter(says_more).collect()
}

/// Whether a field carries notes, and no column.
pub(crate) fn is_note(field: &str) -> bool {
    let number = [PARTITION_FIELD, KEY_FIELD]
        .iter()
        .find_map(|prefix| field.strip_prefix(prefix));
    [OFFSETS_FIELD, INDEX_FIELD].contains(&field)
        || number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The mark of an index, from `_meta.tributary` and the mapping's properties; `None` where it has none of this form.
pub(crate) fn read(ours: &Value, properties: &Map<String, Value>) -> Option<Mark> {
    let text = |name: &str| ours.get(name).and_then(Value::as_str).map(str::to_owned);
    let partitions = ours.get("partitions").and_then(Value::as_i64);
    let mut mark = Mark {
        generation: text("generation")?,
        topic_id: text("topic_id"),
        partitions: i32::try_from(partitions?).ok()?,
        versions_are_offsets: properties.contains_key(OFFSETS_FIELD),
        key_schemas: properties
            .keys()
            .filter_map(|name| name.strip_prefix(KEY_FIELD)?.parse().ok())
            .collect(),
        caught_up_ms: std::collections::BTreeMap::new(),
    };
    for (name, field) in properties {
        let number = name.strip_prefix(PARTITION_FIELD);
        let partition = number.and_then(|number| number.parse().ok());
        let at_ms = field
            .pointer("/meta/caught_up_ms")
            .and_then(|at_ms| at_ms.as_str()?.parse().ok());
        if let (Some(partition), Some(at_ms)) = (partition, at_ms) {
            mark.add(&Note::CaughtUp { partition, at_ms });
        }
    }
    Some(mark)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Map;
    use tributary_engine::{Mark, Note};

    use super::{is_note, meta, properties, read};

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut mark = Mark {
            generation: "7-0a".to_owned(),
            topic_id: Some("id".to_owned()),
            partitions: 3,
            versions_are_offsets: false,
            key_schemas: BTreeSet::new(),
            caught_up_ms: BTreeMap::new(),
        };
        let meta = meta("t", &mark, None);
        let ours = &meta["tributary"];
        assert_eq!(read(ours, &Map::new()).as_ref(), Some(&mark));

        let notes = [
            Note::CaughtUp {
                partition: 12,
                at_ms: 1_700_000_000_000,
            },
            Note::VersionsAreOffsets,
            Note::KeySchema(41),
        ];
        let fields = properties(&notes);
        assert!(fields.keys().all(|name| is_note(name)));
        notes.iter().for_each(|note| mark.add(note));
        assert_eq!(read(ours, &fields), Some(mark));
        assert!(!is_note("_tributary_price") && !is_note("id"));
    }
}
