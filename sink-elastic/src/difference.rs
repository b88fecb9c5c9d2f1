//! How an index differs from what the configuration and the columns ask for. Nothing of that can be changed where it is: an engine
//! keeps a field's mapping, and a change that it does take would hold for later documents alone.

use std::fmt;

use serde_json::{Map, Value};
use tributary_runtime::Error;

use crate::config::OnUnfitMapping;
use crate::found::Found;
use crate::given;
use crate::mapping;
use crate::requests::OF_SERVICE;
use crate::shape::Shape;

/// What follows where a field has another type than its column.
const OTHER_TYPE: &str = "the column's type changed, the field's cannot: values that do not fit it are kept but not searchable";
/// What follows where the configuration asks for something else.
const OTHERWISE: &str = "what is there stays as it is, and rows are written to fit it";

/// All differences, each with what to do. `normal` are those of the wanted fields that the configuration gives, as the engine tells
/// them: what it leaves out there is its default.
pub(crate) fn all(
    found: &Found,
    shape: &Shape,
    wanted: &Map<String, Value>,
    normal: Option<&Map<String, Value>>,
) -> Vec<String> {
    let mut all = Vec::new();
    for (field, wanted) in wanted {
        let Some(mapped) = found.properties.get(field) else {
            continue;
        };
        if found.is_given(field) {
            continue;
        }
        if shape.given_fields().contains_key(field) {
            let normal = normal.and_then(|normal| normal.get(field));
            if normal != Some(mapped) && !contains(mapped, wanted, normal.is_none()) {
                all.push(format!(
                    "field '{field}' is mapped as {mapped}, and `elasticsearch.documents` asks for {wanted}: {OTHERWISE}; {}",
                    remedy(shape)
                ));
            }
        } else {
            let remedy = by_renewal(shape);
            let others = other_types(field, mapped, wanted).into_iter();
            all.extend(others.map(|other| format!("{other}; {remedy}")));
        }
    }
    let others = other_settings(found, shape);
    if !others.is_empty() {
        all.push(format!(
            "'{}' has not the settings that `elasticsearch.documents` has ({}): they are those of an index that is created; {}",
            found.write_index,
            others.join(", "),
            remedy(shape)
        ));
    }
    if found.documents != shape.note() {
        all.push(format!(
            "'{}' was made with other `include`, `exclude` or `rename` in `elasticsearch.documents`: documents that were written before have other fields; {}",
            found.write_index,
            remedy(shape)
        ));
    }
    all
}

/// The settings of the configuration that the index has not.
fn other_settings(found: &Found, shape: &Shape) -> Vec<String> {
    let wanted = shape.settings().into_iter();
    let others = wanted.filter(|(name, wanted)| {
        let set = found.settings.get(name);
        !OF_SERVICE.contains(&name.as_str()) && !set.is_some_and(|set| is_same(set, wanted))
    });
    others.map(|(name, _)| name).collect()
}

/// That an index does not take fields which the configuration gives.
pub(crate) fn refused(shape: &Shape, why: &Error) -> String {
    format!(
        "the index does not take new fields as `elasticsearch.documents` gives them ({:#}): documents hold them, and they are not searchable; {}",
        why.cause(),
        remedy(shape)
    )
}

fn remedy(shape: &Shape) -> String {
    format!("run `reindex --topic {}`", shape.topic())
}

/// How an index comes to have the types of the columns.
fn by_renewal(shape: &Shape) -> &'static str {
    match shape.on_unfit_mapping() {
        OnUnfitMapping::Warn => {
            "run `reindex` to build the index again with the new type, or have the service do that by elasticsearch.on_unfit_mapping = \"reindex\""
        }
        OnUnfitMapping::Reindex => {
            "the service has the index built again with the new type (on_unfit_mapping)"
        }
    }
}

/// Whether columns have got types that the index maps otherwise, so that only another index can take them. Not where the configuration,
/// or who has run a reindex, says how a field is mapped: that follows no column.
pub(crate) fn is_outgrown(found: &Found, shape: &Shape, wanted: &Map<String, Value>) -> bool {
    let is_given = |field: &String| {
        found.is_given(field) || shape.given_fields().get(field).is_some_and(given::is_whole)
    };
    let mut by_columns = wanted.iter().filter(|(field, _)| !is_given(field));
    by_columns.any(|(field, wanted)| {
        let mapped = found.properties.get(field);
        mapped.is_some_and(|mapped| !other_types(field, mapped, wanted).is_empty())
    })
}

/// The field, or those inside it, of another type than is wanted.
fn other_types(field: &str, mapped: &Value, wanted: &Value) -> Vec<OtherType> {
    if kind(mapped) != kind(wanted) {
        return vec![OtherType {
            field: field.to_owned(),
            mapped: kind(mapped).to_owned(),
            wanted: kind(wanted).to_owned(),
        }];
    }
    let inside = |mapping: &Value| {
        mapping
            .get("properties")
            .and_then(Value::as_object)
            .cloned()
    };
    let (mapped, wanted) = (inside(mapped).unwrap_or_default(), inside(wanted));
    let inner = wanted.iter().flatten().filter_map(|(name, wanted)| {
        let mapped = mapped.get(name)?;
        Some(other_types(&format!("{field}.{name}"), mapped, wanted))
    });
    inner.flatten().collect()
}

/// The type of a field. An object that is only kept is another one than an object with fields.
fn kind(mapping: &Value) -> &str {
    match mapping.get("enabled") {
        Some(Value::Bool(false)) => "an object that is only kept",
        Some(Value::String(enabled)) if enabled == "false" => "an object that is only kept",
        _ => mapping::type_of(mapping),
    }
}

/// A field whose column has got another type.
struct OtherType {
    field: String,
    mapped: String,
    wanted: String,
}

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            mapped,
            wanted,
        } = self;
        write!(
            f,
            "field '{field}' is {mapped}, and {wanted} is asked for: {OTHER_TYPE}"
        )
    }
}

/// Whether a mapping has all that is wanted. What it lacks may be a default: `lenient` takes it for one.
fn contains(mapped: &Value, wanted: &Value, lenient: bool) -> bool {
    match (mapped, wanted) {
        (Value::Object(mapped), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match mapped.get(name) {
                Some(mapped) => contains(mapped, wanted, lenient),
                // The engines leave it out where an object has fields.
                None if name == "type" => wanted == "object",
                None => lenient,
            })
        }
        (mapped, wanted) => is_same(mapped, wanted),
    }
}

/// Whether two values say the same: the engines tell numbers and truth as texts, one item as a list.
fn is_same(told: &Value, wanted: &Value) -> bool {
    match (told, wanted) {
        (Value::Array(told), Value::Array(wanted)) => {
            told.len() == wanted.len()
                && told
                    .iter()
                    .zip(wanted)
                    .all(|(told, wanted)| is_same(told, wanted))
        }
        (Value::Array(told), wanted) => matches!(told.as_slice(), [told] if is_same(told, wanted)),
        (told, Value::Array(wanted)) => {
            matches!(wanted.as_slice(), [wanted] if is_same(told, wanted))
        }
        (told, wanted) => {
            let text = |value: &Value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            };
            let number = |value: &Value| text(value).parse::<f64>().ok();
            text(told) == text(wanted)
                || number(told).is_some_and(|told| Some(told) == number(wanted))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{all, contains, is_outgrown, is_same};
    use crate::config::ElasticConfig;
    use crate::found::Found;
    use crate::shape::Shape;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn shape(options: &str) -> Shape {
        let config = format!("url = \"http://s:1\"\n[[documents]]\ntopics = [\"t\"]\n{options}");
        let config: ElasticConfig = toml::from_str(&config).unwrap();
        Shape::of(&config, "t")
    }

    fn found(properties: &Value) -> Found {
        Found::created("t-1".to_owned(), None, object(properties))
    }

    #[test]
    fn what_the_engine_tells_otherwise_is_no_difference() {
        let shape = shape(
            "fields.n = { type = \"scaled_float\", scaling_factor = 100, index = true, copy_to = \"all\" }",
        );
        let wanted = shape.given_fields();
        let mapped = json!({"type": "scaled_float", "scaling_factor": 100.0, "copy_to": ["all"]});
        let found = found(&json!({"n": mapped}));
        let normal = object(&json!({"n": mapped}));
        assert_eq!(all(&found, &shape, wanted, Some(&normal)), [""; 0]);
        // Without its word, what it does not tell may be a default.
        assert_eq!(all(&found, &shape, wanted, None), [""; 0]);
        let normal = object(&json!({"n": {"type": "scaled_float", "scaling_factor": 10.0}}));
        assert_eq!(all(&found, &shape, wanted, Some(&normal)).len(), 1);
    }

    #[test]
    fn each_kind_of_difference_is_told_with_what_to_do() {
        let shape = shape(
            "exclude = [\"x\"]\nfields.n.type = \"keyword\"\nsettings.max_result_window = 5\nsettings.number_of_replicas = 3",
        );
        let wanted = object(
            &json!({"n": {"type": "keyword"}, "c": {"type": "long"}, "new": {"type": "long"}}),
        );
        let mut found = found(&json!({"n": {"type": "long"}, "c": {"type": "text"}}));
        let told = all(&found, &shape, &wanted, None);
        let begins = [
            "field 'c' is text, and long",
            "field 'n' is mapped as",
            "'t-1' has not the settings",
            "'t-1' was made with other `include`",
        ];
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (told, begin) in told.iter().zip(begins) {
            assert!(
                told.starts_with(begin) && told.contains("reindex"),
                "{told}"
            );
        }
        found.documents = shape.note();
        found.settings = object(&json!({"index.max_result_window": "5"}));
        assert_eq!(all(&found, &shape, &wanted, None).len(), 2);
    }

    #[test]
    fn an_index_is_outgrown_by_columns_also_inside_objects_and_by_nothing_that_somebody_gives() {
        let mapped = json!({
            "c": {"type": "long"}, "kept": {"type": "object", "enabled": false}, "n": {"type": "keyword"},
            "p": {"properties": {"x": {"type": "double"}, "inner": {"properties": {"y": {"type": "long"}}}}},
        });
        let found = found(&mapped);
        // What only adds to a field's mapping says nothing of its type.
        let shape = shape(
            "fields.n.type = \"long\"\nfields.c.copy_to = \"all\"\nsettings.max_result_window = 5",
        );
        let outgrown = |wanted: Value| is_outgrown(&found, &shape, &object(&wanted));
        for same in [
            mapped,
            json!({"n": {"type": "long"}, "new": {"type": "boolean"}, "p": {"properties": {"new": {"type": "long"}}}}),
        ] {
            assert!(!outgrown(same.clone()), "{same}");
        }
        for other in [
            json!({"c": {"type": "text"}}),
            json!({"c": {"properties": {}}}),
            json!({"kept": {"properties": {"a": {"type": "long"}}}}),
            json!({"p": {"type": "long"}}),
            json!({"p": {"properties": {"inner": {"properties": {"y": {"type": "text"}}}}}}),
        ] {
            assert!(outgrown(other.clone()), "{other}");
        }
        let told = all(
            &found,
            &shape,
            &object(&json!({"p": {"properties": {"x": {"type": "text"}}}})),
            None,
        );
        assert!(
            told[0].starts_with("field 'p.x' is double, and text is asked for"),
            "{told:?}"
        );
    }

    #[test]
    fn values_are_compared_by_what_they_say() {
        assert!(is_same(&json!("true"), &json!(true)) && is_same(&json!(1.0), &json!(1)));
        assert!(is_same(&json!(["a"]), &json!("a")) && is_same(&json!(["1", "2"]), &json!([1, 2])));
        assert!(
            !is_same(&json!("a"), &json!("b")) && !is_same(&json!(["a", "b"]), &json!(["b", "a"]))
        );
        assert!(!contains(&json!({"a": 1}), &json!({"a": 1, "b": 2}), false));
        assert!(contains(&json!({"a": 1}), &json!({"a": 1, "b": 2}), true));
        // An object that has grown.
        let grown = json!({"dynamic": "true", "properties": {"a": {"type": "long"}}});
        let wanted = json!({"type": "object", "dynamic": true});
        assert!(contains(&grown, &wanted, false));
        assert!(!contains(
            &json!({"properties": {}}),
            &json!({"type": "nested"}),
            true
        ));
    }
}
