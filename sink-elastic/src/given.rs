//! A mapping that somebody gives, before the one that follows from the columns.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use tributary_runtime::{Error, Result};

const PROPERTIES: &str = "properties";
const FORM: &str =
    "give a mapping as the engines take it: {\"properties\": {\"FIELD\": {\"type\": …}}}";

/// Reads the file.
///
/// # Errors
/// Stop: it cannot be read, or is no mapping.
pub(crate) fn read(file: &Path) -> Result<Map<String, Value>> {
    let doing = format!("read the mapping {}", file.display());
    let bytes = fs::read(file).map_err(|error| Error::stop(error).context(doing.clone()))?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::stop(error).remedy(FORM).context(doing.clone()))?;
    check(value).map_err(|error| error.context(doing))
}

fn check(value: Value) -> Result<Map<String, Value>> {
    let Value::Object(given) = value else {
        return Err(Error::stop_msg("it is no object").remedy(FORM));
    };
    if let Some(key) = ["mappings", "settings", "_meta"]
        .iter()
        .find(|key| given.contains_key(**key))
    {
        return Err(
            Error::stop_msg(format_args!("it has '{key}'")).remedy(format!(
                "{FORM}; settings are those of the index that is replaced"
            )),
        );
    }
    let fields = given.get(PROPERTIES).and_then(Value::as_object);
    let Some(fields) = fields.filter(|fields| fields.values().all(Value::is_object)) else {
        return Err(
            Error::stop_msg("it has no 'properties', or one that is no object").remedy(FORM),
        );
    };
    match fields.keys().find(|name| name.starts_with("_tributary_")) {
        Some(name) => Err(
            Error::stop_msg(format_args!("the field '{name}' is the sink's own"))
                .remedy("leave it out"),
        ),
        None => Ok(given),
    }
}

/// The mapping with these fields, and what is given laid over them.
pub(crate) fn merged(
    fields: Map<String, Value>,
    given: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut mapping = Map::new();
    mapping.insert("dynamic".to_owned(), false.into());
    mapping.extend(given.cloned().unwrap_or_default());
    let mut properties = fields;
    if let Some(Value::Object(given)) = mapping.remove(PROPERTIES) {
        lay_over(&mut properties, given);
    }
    mapping.insert(PROPERTIES.to_owned(), properties.into());
    mapping
}

/// Lays what is given over fields: one with a type takes the place of ours, and so does an object of what is none; any other adds to it.
pub(crate) fn lay_over(fields: &mut Map<String, Value>, given: Map<String, Value>) {
    for (name, field) in given {
        match fields.get_mut(&name) {
            Some(ours) if !replaces(&field, ours) => add(ours, field),
            _ => {
                fields.insert(name, field);
            }
        }
    }
}

/// Whether this mapping is one by itself.
pub(crate) fn is_whole(mapping: &Value) -> bool {
    mapping.get("type").is_some() || mapping.get(PROPERTIES).is_some()
}

fn replaces(given: &Value, ours: &Value) -> bool {
    given.get("type").is_some() || (is_whole(given) && ours.get("type").is_some())
}

fn add(ours: &mut Value, more: Value) {
    match (ours, more) {
        (Value::Object(ours), Value::Object(more)) => {
            for (name, value) in more {
                add(ours.entry(name).or_insert(Value::Null), value);
            }
        }
        (ours, more) => *ours = more,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{check, merged};

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_field_with_a_type_replaces_ours_and_one_without_adds_to_it() {
        let ours = object(&json!({
            "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "place": {"properties": {"x": {"type": "double"}}},
            "n": {"type": "long"},
            "doc": {"type": "text"},
        }));
        let given = object(&json!({"dynamic": "strict", "properties": {
            "name": {"copy_to": "all", "fields": {"plain": {"type": "text", "analyzer": "simple"}}},
            "place": {"type": "geo_point"},
            "all": {"type": "text"},
            "doc": {"properties": {"a": {"type": "long"}}},
        }}));
        assert_eq!(
            Value::Object(merged(ours, Some(&given))),
            json!({"dynamic": "strict", "properties": {
                "name": {"type": "text", "copy_to": "all", "fields": {
                    "keyword": {"type": "keyword"}, "plain": {"type": "text", "analyzer": "simple"},
                }},
                "place": {"type": "geo_point"},
                "n": {"type": "long"},
                "all": {"type": "text"},
                "doc": {"properties": {"a": {"type": "long"}}},
            }})
        );
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_the_form_of_one() {
        for wrong in [
            json!([]),
            json!({}),
            json!({"properties": {"a": 1}}),
            json!({"mappings": {"properties": {}}}),
            json!({"properties": {"_tributary_seq": {"type": "long"}}}),
        ] {
            let error = check(wrong.clone()).unwrap_err();
            assert!(error.remedy_text().is_some(), "{wrong}: {error}");
        }
        assert!(check(json!({"properties": {"a": {"type": "long"}}})).is_ok());
    }
}
