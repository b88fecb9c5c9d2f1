//! The requests that make an index, and that give an index what it lacks. Who sends them, and who only says what would be
//! sent, have them from here.

use reqwest::Method;
use serde_json::{Map, Value, json};
use tributary_engine::Mark;

use crate::config::ElasticConfig;
use crate::found::Found;
use crate::shape::Shape;
use crate::{mapping, mark};

/// The engines' default for `index.mapping.total_fields.limit`.
const DEFAULT_FIELDS: usize = 1000;
pub(crate) const FIELD_LIMIT: &str = "index.mapping.total_fields.limit";
/// Settings that an index has only once it serves, and that are its operator's from then on: a reindex takes them over.
pub(crate) const OF_SERVICE: [&str; 3] = [
    "index.refresh_interval",
    "index.number_of_replicas",
    "index.auto_expand_replicas",
];
/// How long the version of a deleted document is remembered: far above every deadline of a request.
pub(crate) const GC_DELETES: &str = "1h";

/// A request with a JSON body, or none.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) content: Option<Value>,
}

impl Request {
    pub(crate) fn put(path: &[&str], content: Value) -> Self {
        Self {
            method: Method::PUT,
            path: path.iter().map(|&part| part.to_owned()).collect(),
            content: Some(content),
        }
    }

    /// Changes aliases, all at once.
    pub(crate) fn aliases(actions: &[Value]) -> Self {
        Self {
            method: Method::POST,
            path: vec!["_aliases".to_owned()],
            content: Some(json!({ "actions": actions })),
        }
    }

    /// Makes this index the write index of an alias. The engines refuse it where another one is that.
    pub(crate) fn claim(index: &str, alias: &str) -> Self {
        Self::aliases(&[written_by(index, alias)])
    }

    /// Deletes an index.
    pub(crate) fn deletion(index: &str) -> Self {
        Self {
            method: Method::DELETE,
            path: vec![index.to_owned()],
            content: None,
        }
    }
}

/// The action that makes this index the write index of an alias.
pub(crate) fn written_by(index: &str, alias: &str) -> Value {
    json!({"add": {"index": index, "alias": alias, "is_write_index": true}})
}

/// Makes an index with this mark and these fields, and its alias with it.
pub(crate) fn creation(
    (index, alias): (&str, &str),
    settings: &Map<String, Value>,
    (mark, shape): (&Mark, &Shape),
    fields: &Map<String, Value>,
) -> Request {
    let mut settings = settings.clone();
    if let Some(limit) = field_limit(mark.partitions, fields) {
        settings.entry(FIELD_LIMIT).or_insert(limit.into());
    }
    let content = json!({
        "aliases": {(alias): {"is_write_index": true}},
        "settings": settings,
        "mappings": {"dynamic": false, "_meta": mark::meta(shape.topic(), mark, shape.note()), "properties": fields},
    });
    Request::put(&[index], content)
}

/// Maps fields that an index lacks, behind the limit that they need.
pub(crate) fn additions(found: &Found, missing: &Map<String, Value>) -> Vec<Request> {
    let index = found.write_index.as_str();
    let mut all = found.properties.clone();
    all.extend(missing.clone());
    // One that somebody has set higher stays.
    let limit = field_limit(found.partitions(), &all);
    let limit = limit.filter(|&limit| set_limit(&found.settings).is_none_or(|set| set < limit));
    let limit = limit.map(|limit| Request::put(&[index, "_settings"], json!({FIELD_LIMIT: limit})));
    let mapping = Request::put(&[index, "_mapping"], json!({"properties": missing}));
    limit.into_iter().chain([mapping]).collect()
}

/// Has an index remember deletes for long enough, where it does not.
pub(crate) fn remembering(found: &Found) -> Option<Request> {
    (!found.remembers_deletes).then(|| {
        Request::put(
            &[&found.write_index, "_settings"],
            json!({"index.gc_deletes": GC_DELETES}),
        )
    })
}

/// The settings of an index of ours, with those that the configuration has for such documents.
pub(crate) fn settings(config: &ElasticConfig, shape: &Shape) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("index.gc_deletes".to_owned(), GC_DELETES.into());
    settings.insert(
        "index.number_of_shards".to_owned(),
        config.number_of_shards.into(),
    );
    if let Some(replicas) = config.number_of_replicas {
        settings.insert("index.number_of_replicas".to_owned(), replicas.into());
    }
    if let Some(interval) = &config.refresh_interval {
        settings.insert(
            "index.refresh_interval".to_owned(),
            interval.as_str().into(),
        );
    }
    settings.extend(shape.settings());
    settings
}

/// The limit of fields, where somebody has set one.
pub(crate) fn set_limit(settings: &Map<String, Value>) -> Option<usize> {
    match settings.get(FIELD_LIMIT)? {
        // An engine tells it as a text, the configuration may have it as a number.
        Value::String(limit) => limit.parse().ok(),
        limit => usize::try_from(limit.as_u64()?).ok(),
    }
}

/// The limit to set where the default would refuse the mapping, with a note for each partition: twice what is needed.
pub(crate) fn field_limit(partitions: i32, properties: &Map<String, Value>) -> Option<usize> {
    let notes = usize::try_from(partitions).unwrap_or_default() + 2;
    let count = mapping::field_count(properties) + notes;
    (count > DEFAULT_FIELDS * 9 / 10).then_some(count * 2)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{FIELD_LIMIT, Found, additions};

    #[test]
    fn a_limit_of_fields_that_somebody_has_set_higher_stays() {
        let fields: Map<_, _> = (0..950)
            .map(|number| (format!("f{number}"), json!({"type": "long"})))
            .collect();
        let more = Map::from_iter([("more".to_owned(), json!({"type": "long"}))]);
        let mut found = Found::created("t-1".to_owned(), None, fields);
        for (set, requests) in [(None, 2), (Some("1000"), 2), (Some("5000"), 1)] {
            let set = set.map(|set| (FIELD_LIMIT.to_owned(), Value::from(set)));
            found.settings = set.into_iter().collect();
            assert_eq!(additions(&found, &more).len(), requests);
        }
    }
}
