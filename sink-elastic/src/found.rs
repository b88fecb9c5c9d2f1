//! What stands behind an alias, as the engine describes it.

use serde_json::{Map, Value};
use tributary_engine::{Known, Mark};
use tributary_runtime::{Error, Result};

use crate::failure;
use crate::mark::{self, FORMAT, Identity};
use crate::succession::{self, Build, Handover};

/// `index.gc_deletes` below this is raised.
const GC_DELETES_SECONDS: f64 = 3600.0;

/// The index that writes to an alias go to.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) write_index: String,
    /// What it says of the log that it was made from; `None` for an index of an older version of ours.
    pub(crate) mark: Option<Mark>,
    /// The mapping's top-level `properties`, without those that carry notes.
    pub(crate) properties: Map<String, Value>,
    /// Whether `index.gc_deletes` is at least an hour.
    pub(crate) remembers_deletes: bool,
    /// Whether confirmed writes may still be lost.
    pub(crate) async_translog: bool,
    /// Whether writes to it are blocked.
    pub(crate) is_blocked: bool,
    /// The reindex that has built it.
    pub(crate) build: Option<Build>,
    /// The reindex that hands over to another index.
    pub(crate) handover: Option<Handover>,
    /// Its settings, as `index.…`.
    pub(crate) settings: Map<String, Value>,
    /// Which index it is; `None` where the engine has not said so.
    identity: Option<Identity>,
    /// Which one it says to be.
    noted: Option<Identity>,
    /// What it says of the documents in it.
    pub(crate) documents: Option<Value>,
    /// The fields of which somebody has said to a reindex how they are mapped.
    given_fields: Vec<String>,
}

impl Found {
    /// The index that was just made with all that it needs.
    pub(crate) fn created(
        write_index: String,
        mark: Option<Mark>,
        properties: Map<String, Value>,
    ) -> Self {
        Self {
            write_index,
            mark,
            properties,
            remembers_deletes: true,
            async_translog: false,
            is_blocked: false,
            build: None,
            handover: None,
            settings: Map::new(),
            identity: None,
            noted: None,
            documents: None,
            given_fields: Vec::new(),
        }
    }

    /// Reads the answer to `GET /<alias>?flat_settings=true`.
    ///
    /// # Errors
    /// Stop: the name is an index's and not an alias', the alias has no write index, or that index is not ours. Retry: it is the name of
    /// an index that says nothing.
    pub(crate) fn read(answer: &Value, alias: &str, topic: &str) -> Result<Self> {
        let nothing = Map::new();
        let indices = answer.as_object().unwrap_or(&nothing);
        if let Some(index) = indices.get(alias) {
            return Err(if is_bare(index) {
                failure::bare(alias)
            } else {
                failure::plain(alias)
            });
        }
        let (write_index, index) = write_index(indices, alias)?;
        let ours = owner(index, write_index, alias, topic)?;
        let build = succession::build(ours);
        check_succession((index, ours), write_index, alias, build.as_ref())?;
        let mut properties = index
            .pointer("/mappings/properties")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let mark = mark::read(ours, &properties);
        let noted = Identity::noted(&properties);
        properties.retain(|name, _| !mark::is_note(name));
        let setting = |name: &str| index.pointer(&format!("/settings/{name}"))?.as_str();
        Ok(Self {
            write_index: write_index.clone(),
            mark,
            properties,
            remembers_deletes: setting("index.gc_deletes")
                .and_then(seconds)
                .is_some_and(|seconds| seconds >= GC_DELETES_SECONDS),
            async_translog: setting("index.translog.durability")
                .is_some_and(|durability| durability.eq_ignore_ascii_case("async")),
            is_blocked: setting(succession::BLOCK) == Some("true"),
            build,
            handover: succession::handover(ours),
            settings: index
                .get("settings")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            identity: Identity::told(index),
            noted,
            documents: ours.get(mark::DOCUMENTS).cloned(),
            given_fields: succession::given_fields(ours),
        })
    }

    /// Which generation it is, as far as it says so.
    pub(crate) fn generation(&self) -> Option<&str> {
        self.mark.as_ref().map(|mark| mark.generation.as_str())
    }

    /// How many partitions may leave notes in it.
    pub(crate) fn partitions(&self) -> i32 {
        self.mark.as_ref().map_or(0, |mark| mark.partitions)
    }

    /// Those of `properties` that the index does not map.
    pub(crate) fn missing(&self, properties: &Map<String, Value>) -> Map<String, Value> {
        let mut missing = Map::new();
        for (name, wanted) in properties {
            match self.properties.get(name) {
                None => {
                    missing.insert(name.clone(), wanted.clone());
                }
                Some(mapped) => {
                    if let Some(inside) = missing_inside(mapped, wanted) {
                        missing.insert(name.clone(), inside);
                    }
                }
            }
        }
        missing
    }

    /// What it says of the log that it was made from.
    pub(crate) fn known(&self) -> Known {
        match &self.mark {
            Some(mark) if self.is_restored() => Known::Unfit {
                generation: Some(mark.generation.clone()),
                reason: format!(
                    "the index '{}' was restored from a snapshot, or its cluster's state was (unsafe-bootstrap, dangling index): what was written since that was taken may not be in it",
                    self.write_index
                ),
            },
            Some(mark) => Known::Marked(mark.clone()),
            None => Known::Unfit {
                generation: None,
                reason: format!(
                    "the index '{}' was made by an older version, which did not note what it was made from",
                    self.write_index
                ),
            },
        }
    }

    /// Whether it was restored from a snapshot since it said which index it is, or its cluster was put together again from what is
    /// left, so that it may lack what was written behind that.
    fn is_restored(&self) -> bool {
        mark::has_come_back(self.noted.as_ref(), self.identity.as_ref(), &self.settings)
    }

    /// What it is yet to say of itself.
    pub(crate) fn unsaid(&self) -> Option<&Identity> {
        let identity = self.identity.as_ref();
        identity.filter(|now| !self.is_restored() && self.noted.as_ref() != Some(now))
    }

    /// Whether somebody has said to a reindex how this field is mapped.
    pub(crate) fn is_given(&self, field: &str) -> bool {
        self.given_fields.iter().any(|given| given == field)
    }
}

/// What a search asks for that must find all that was refreshed, by the settings of the index. With segment replication (OpenSearch's) a
/// refresh makes it visible on the primary shards alone: copies get it later. Elasticsearch has neither that nor this preference.
pub(crate) fn preference(settings: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    let replication = settings.get("index.replication.type")?.as_str()?;
    replication
        .eq_ignore_ascii_case("SEGMENT")
        .then_some(("preference", "_primary"))
}

/// Whether an index has neither a mapping nor aliases. One that somebody has prepared (`dynamic`, templates) has the one.
pub(crate) fn is_bare(index: &Value) -> bool {
    ["aliases", "mappings"]
        .iter()
        .all(|part| match index.get(part) {
            Some(Value::Object(part)) => part.is_empty(),
            part => part.is_none(),
        })
}

/// The error for an index that has the name of ours and no alias.
pub(crate) fn without_alias(index: &str, alias: &str) -> Error {
    Error::stop_msg(format_args!("the index '{index}' is there, but not behind '{alias}'")).remedy(
        format!("delete it, or add the alias: POST /_aliases {{\"actions\": [{{\"add\": {{\"index\": \"{index}\", \"alias\": \"{alias}\", \"is_write_index\": true}}}}]}}"),
    )
}

/// The error for an alias that was moved while the service runs, to an index that it cannot write to.
pub(crate) fn moved_and_unfit(alias: &str, before: &str, why: &Error) -> Error {
    Error::stop_msg(format_args!(
        "the alias '{alias}' was moved away from '{before}' while the service runs: {:#}",
        why.cause()
    ))
    .remedy(format!(
        "move it back, and start the service again: POST /_aliases {{\"actions\": [{{\"remove\": {{\"index\": \"*\", \"alias\": \"{alias}\"}}}}, {{\"add\": {{\"index\": \"{before}\", \"alias\": \"{alias}\", \"is_write_index\": true}}}}]}}; an index takes the place of '{before}' if it has the whole mapping of that, `_meta` included"
    ))
}

/// The part of an object's mapping that is not there yet.
fn missing_inside(mapped: &Value, wanted: &Value) -> Option<Value> {
    let wanted = wanted.get("properties")?.as_object()?;
    let inner = Found::created(
        String::new(),
        None,
        mapped.get("properties")?.as_object()?.clone(),
    );
    let missing = inner.missing(wanted);
    let mut inside = Map::new();
    // A nested object stays one only if it is said again.
    inside.extend(
        mapped
            .get("type")
            .map(|kind| ("type".to_owned(), kind.clone())),
    );
    (!missing.is_empty()).then(|| {
        inside.insert("properties".to_owned(), missing.into());
        inside.into()
    })
}

fn write_index<'a>(
    indices: &'a Map<String, Value>,
    alias: &str,
) -> Result<(&'a String, &'a Value)> {
    let flag = |index: &Value| {
        index
            .get("aliases")
            .and_then(|aliases| aliases.get(alias)?.get("is_write_index")?.as_bool())
    };
    let marked = indices.iter().find(|(_, index)| flag(index) == Some(true));
    let only = || {
        let mut all = indices.iter();
        all.next()
            .filter(|(_, index)| all.len() == 0 && flag(index).is_none())
    };
    marked.or_else(only).ok_or_else(|| {
        Error::stop_msg(format_args!("the alias '{alias}' has no write index")).remedy(format!(
            "mark one: POST /_aliases {{\"actions\": [{{\"add\": {{\"index\": \"…\", \"alias\": \"{alias}\", \"is_write_index\": true}}}}]}}"
        ))
    })
}

/// What an index says of itself.
fn owner<'a>(index: &'a Value, name: &str, alias: &str, topic: &str) -> Result<&'a Value> {
    let Some(ours) = index.pointer("/mappings/_meta/tributary") else {
        return Err(foreign(
            alias,
            &format!("leads to the index '{name}', which Tributary did not make"),
        ));
    };
    if ours.get("topic").and_then(Value::as_str) != Some(topic) {
        return Err(foreign(
            alias,
            &format!("leads to the index '{name}' of another topic"),
        ));
    }
    match ours.get("format").and_then(Value::as_u64) {
        Some(0..=FORMAT) => Ok(ours),
        format => Err(Error::stop_msg(format_args!(
            "the index '{name}' has the format {format:?}, this version writes {FORMAT}"
        ))
        .remedy("run the version that made the index, or delete it: it is built again then")),
    }
}

/// Refuses an index that lacks rows which the group has committed: one that a reindex has not finished, or has replaced.
fn check_succession(
    (index, ours): (&Value, &Value),
    name: &str,
    alias: &str,
    build: Option<&Build>,
) -> Result<()> {
    let unfinished = build.filter(|build| !build.may_serve(index, alias));
    let (what, other) = match (succession::replaced_by(ours), unfinished) {
        (Some(by), _) => ("has replaced: what was written since is not in it", by),
        (None, Some(build)) => ("has not finished: it lacks rows", build.of.as_str()),
        (None, None) => return Ok(()),
    };
    let error = format!("'{alias}' leads to the index '{name}', which a reindex {what}");
    Err(Error::stop_msg(error).remedy(format!(
        "move it back, and start the service again: POST /_aliases {{\"actions\": [{{\"remove\": {{\"index\": \"{name}\", \"alias\": \"{alias}\"}}}}, {{\"add\": {{\"index\": \"{other}\", \"alias\": \"{alias}\", \"is_write_index\": true}}}}]}}"
    )))
}

fn foreign(alias: &str, what: &str) -> Error {
    Error::stop_msg(format_args!("'{alias}' {what}"))
        .remedy("set elasticsearch.index_prefix to another prefix, or remove what has that name")
}

/// A time value of the engines, `60s`, in seconds.
fn seconds(value: &str) -> Option<f64> {
    let digits = value.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = value.split_at(digits);
    let factor = match unit {
        "d" => 86_400.0,
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "micros" => 1e-6,
        "nanos" => 1e-9,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tributary_engine::Known;

    use super::{Found, Identity};
    use crate::failure;

    fn index(aliases: &Value, settings: &Value) -> Value {
        json!({
            "aliases": aliases,
            "mappings": {"_meta": {"tributary": {"format": 1, "topic": "T"}}, "properties": {
                "id": {"type": "long"}, "p": {"properties": {"x": {"type": "double"}}},
                "n": {"type": "nested", "properties": {}}
            }},
            "settings": settings,
        })
    }

    #[test]
    fn the_write_index_is_the_marked_one_or_the_only_one() {
        let settings = json!({"index.gc_deletes": "60s", "index.translog.durability": "async"});
        let only = json!({"t-1": index(&json!({"t": {}}), &settings)});
        let found = Found::read(&only, "t", "T").unwrap();
        assert_eq!(found.write_index, "t-1");
        assert!(!found.remembers_deletes && found.async_translog);

        let settings = json!({"index.gc_deletes": "1d"});
        let marked = json!({
            "t-1": index(&json!({"t": {}}), &json!({})),
            "t-2": index(&json!({"t": {"is_write_index": true}}), &settings),
        });
        let found = Found::read(&marked, "t", "T").unwrap();
        assert_eq!(found.write_index, "t-2");
        assert!(found.remembers_deletes && !found.async_translog);
    }

    #[test]
    fn what_is_not_ours_is_refused_with_a_remedy() {
        let cases = [
            (
                json!({"t": index(&json!({}), &json!({}))}),
                "is an index, not an alias",
            ),
            (
                json!({"t-1": {"aliases": {"t": {}}, "mappings": {}}}),
                "did not make",
            ),
            (
                json!({"t-1": index(&json!({"t": {"is_write_index": false}}), &json!({}))}),
                "no write index",
            ),
            (
                json!({"a": index(&json!({"t": {}}), &json!({})), "b": index(&json!({"t": {}}), &json!({}))}),
                "no write index",
            ),
        ];
        for (answer, expected) in cases {
            let error = Found::read(&answer, "t", "T").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.remedy_text().is_some());
        }
        let remedy = failure::plain("t").remedy_text().unwrap().to_owned();
        assert!(remedy.contains("`tributary-sink-elastic reindex --index t --replace-index`"));
        let other = json!({"t-1": index(&json!({"t": {}}), &json!({}))});
        let error = Found::read(&other, "t", "U").unwrap_err();
        assert!(error.to_string().contains("of another topic"), "{error}");
    }

    /// It has the mark that it had when the snapshot was taken, and the group's offsets are those of today.
    #[test]
    fn an_index_that_was_restored_from_a_snapshot_is_not_gone_on_with() {
        let found = |settings: Value, noted: Option<&Identity>| {
            let mut index = index(&json!({"t": {}}), &settings);
            let mappings = &mut index["mappings"];
            mappings["_meta"]["tributary"] =
                json!({"format": 1, "topic": "T", "generation": "g", "partitions": 1});
            if let Some(noted) = noted {
                mappings["properties"] = noted.mapping()["properties"].clone();
            }
            Found::read(&json!({ "t-1": index }), "t", "T").unwrap()
        };
        let of = |id: &str, made: &str| json!({"index.uuid": id, "index.creation_date": made});
        let new = found(of("a", "1"), None);
        assert!(matches!(new.known(), Known::Marked(_)));
        let first = new.unsaid().unwrap();
        let same = found(of("a", "1"), Some(first));
        assert!(matches!(same.known(), Known::Marked(_)) && same.unsaid().is_none());
        let copy = found(of("b", "2"), Some(first));
        assert!(matches!(copy.known(), Known::Marked(_)) && copy.unsaid().is_some());

        let over = |id| {
            let mut over = of(id, "1");
            over["index.history.uuid"] = "h".into();
            over
        };
        // As somebody says who knows that it has all rows.
        let accepted = Identity {
            id: "a/h".to_owned(),
            made: "1".to_owned(),
        };
        for restored in [
            found(of("b", "1"), Some(first)),
            found(over("a"), Some(first)),
            found(over("a"), None),
            found(over("b"), Some(&accepted)),
        ] {
            let Known::Unfit { generation, reason } = restored.known() else {
                panic!("it is gone on with");
            };
            assert_eq!(generation.as_deref(), Some("g"));
            assert!(reason.contains("restored from a snapshot"), "{reason}");
            assert!(restored.unsaid().is_none());
        }
        let known = found(over("a"), Some(&accepted)).known();
        assert!(matches!(known, Known::Marked(_)));
    }

    #[test]
    fn missing_fields_are_found_inside_objects_too() {
        let answer = json!({"t-1": index(&json!({"t": {}}), &json!({}))});
        let found = Found::read(&answer, "t", "T").unwrap();
        let wanted = json!({
            "id": {"type": "keyword"}, "new": {"type": "long"},
            "p": {"properties": {"x": {"type": "double"}, "y": {"type": "double"}}},
            "n": {"type": "nested", "properties": {"z": {"type": "long"}}},
        });
        assert_eq!(
            Value::Object(found.missing(wanted.as_object().unwrap())),
            json!({
                "new": {"type": "long"}, "p": {"properties": {"y": {"type": "double"}}},
                "n": {"type": "nested", "properties": {"z": {"type": "long"}}},
            })
        );
    }
}
