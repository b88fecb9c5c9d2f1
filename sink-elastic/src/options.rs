//! What the configuration says of the documents of some topics.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use tributary_engine::{is_match, is_topic_pattern};
use tributary_runtime::Problem;

use crate::mapping;

/// The setting that the sink needs as it sets it.
const GC_DELETES: &str = "index.gc_deletes";
/// An index is made before the first row says which fields there are.
const SORT: &str = "index.sort.";
const INDEX: &str = "index.";

/// `[[elasticsearch.documents]]`: what the documents of some topics hold, and how they are mapped.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentOptions {
    /// The topics: names, or patterns with `*` and `?`. Of several entries that match a topic the first one counts.
    pub topics: Vec<String>,
    /// The columns that a document holds, by name or pattern; all where there are none.
    #[serde(default)]
    pub include: Vec<String>,
    /// Those that it does not hold.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What the fields of columns are called.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// How fields are mapped, as the engine's mapping has it under `properties`.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// Settings of an index that is created.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

impl DocumentOptions {
    /// Whether these are the options of a topic, unless an earlier entry's are.
    pub(crate) fn is_of(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| is_match(pattern, topic))
    }

    /// Whether a document holds the column.
    pub(crate) fn holds(&self, column: &str) -> bool {
        let is_in = |patterns: &[String]| patterns.iter().any(|pattern| is_match(pattern, column));
        (self.include.is_empty() || is_in(&self.include)) && !is_in(&self.exclude)
    }

    /// The settings as the engines tell them: `index.analysis.analyzer.name.type`.
    pub(crate) fn flat_settings(&self) -> Map<String, Value> {
        let mut flat = Map::new();
        for (name, value) in &self.settings {
            let name = match name.strip_prefix(INDEX) {
                None if name != "index" => format!("{INDEX}{name}"),
                _ => name.clone(),
            };
            flatten(name, value, &mut flat);
        }
        flat
    }

    /// What is wrong with the values, without a connection; `place` says where they stand.
    pub(crate) fn validate(&self, place: &str) -> Vec<Problem> {
        let mut problems = self.topic_problems(place);
        problems.extend(self.rename_problems(place));
        problems.extend(self.field_problems(place));
        let settings = self.flat_settings();
        if settings.contains_key(GC_DELETES) {
            let what = format!("{place} sets `{GC_DELETES}`, which the sink keeps at an hour");
            problems.push(Problem::new(what).remedy("leave it out of `settings`"));
        }
        if settings.keys().any(|name| name.starts_with(SORT)) {
            let what = format!(
                "{place} sets `{SORT}*`, for which an index would need its fields when it is made"
            );
            problems.push(Problem::new(what).remedy("leave it out of `settings`"));
        }
        problems
    }

    fn topic_problems(&self, place: &str) -> Vec<Problem> {
        if self.topics.is_empty() {
            let remedy =
                "set `topics` to those whose documents it is about, such as [\"shop.catalog.*\"]";
            return vec![Problem::new(format!("{place} names no `topics`")).remedy(remedy)];
        }
        let illegal = self.topics.iter().filter(|topic| !is_topic_pattern(topic));
        let problem = |topic: &String| {
            Problem::new(format!("{place} has '{topic}', which is no topic name"))
                .remedy("use letters, digits, '.', '_' and '-', and `*` or `?` for a pattern")
        };
        illegal.map(problem).collect()
    }

    fn rename_problems(&self, place: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut fields = BTreeSet::new();
        for (column, field) in &self.rename {
            if !mapping::is_legal(field) {
                let what = format!(
                    "{place} renames '{column}' to '{field}', which is no name for a field"
                );
                problems.push(Problem::new(what).remedy(LEGAL));
            } else if !fields.insert(field) {
                let what = format!("{place} renames two columns to '{field}'");
                problems.push(Problem::new(what).remedy("give each another name, or exclude one"));
            }
            if !self.holds(column) {
                let what = format!("{place} renames '{column}', which no document holds");
                let remedy = "take it out of `rename`, or correct `include` and `exclude`";
                problems.push(Problem::new(what).remedy(remedy));
            }
        }
        problems
    }

    fn field_problems(&self, place: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, mapping) in &self.fields {
            let renamed = self.rename.get(field);
            let is_taken = self.rename.values().any(|target| target == field);
            if let Some(target) = renamed.filter(|_| !is_taken) {
                let what = format!("{place} maps '{field}', which is the field '{target}'");
                problems.push(Problem::new(what).remedy(format!("write fields.{target}")));
            } else if !mapping::is_field(field) {
                let what = format!("{place} maps '{field}', which is no name for a field");
                problems.push(Problem::new(what).remedy(LEGAL));
            }
            if !mapping.is_object() {
                let what = format!("{place} maps '{field}' to what is no table");
                let remedy = format!(
                    "write it as the engine's mapping has it: fields.{field} = {{ type = \"keyword\" }}"
                );
                problems.push(Problem::new(what).remedy(remedy));
            }
        }
        problems
    }
}

const LEGAL: &str = "use a name that is not blank, has no dot, and does not begin with '_'";

fn flatten(name: String, value: &Value, flat: &mut Map<String, Value>) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                flatten(format!("{name}.{key}"), value, flat);
            }
        }
        value => {
            flat.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::DocumentOptions;

    fn options(toml: &str) -> DocumentOptions {
        toml::from_str(&format!("topics = [\"s.t\"]\n{toml}")).unwrap()
    }

    #[test]
    fn columns_are_taken_by_include_without_exclude() {
        let all = options("exclude = [\"secret_*\"]");
        assert!(all.holds("name") && !all.holds("secret_key") && all.holds("secret"));
        let some = options("include = [\"n*\", \"ünïq\"]\nexclude = [\"note\"]");
        assert!(
            some.holds("name") && some.holds("ünïq") && !some.holds("note") && !some.holds("a")
        );
    }

    #[test]
    fn settings_are_told_as_the_engines_tell_them() {
        let options = options(
            "settings.max_result_window = 5\nsettings.index.codec = \"best_compression\"\nsettings.\"index.hidden\" = true\n[settings.analysis.analyzer.a]\ntype = \"custom\"\nfilter = [\"x\"]",
        );
        assert_eq!(
            serde_json::Value::Object(options.flat_settings()),
            json!({
                "index.max_result_window": 5, "index.codec": "best_compression", "index.hidden": true,
                "index.analysis.analyzer.a.type": "custom", "index.analysis.analyzer.a.filter": ["x"],
            })
        );
    }

    #[test]
    fn what_cannot_be_is_said_with_a_remedy() {
        let wrong = options(
            "exclude = [\"gone\"]\nrename = { a = \"x\", b = \"x\", c = \"d.e\", gone = \"g\", name = \"title\" }\n\
             fields.name.type = \"text\"\nfields.\"_id\".type = \"long\"\nfields._tributary_seq = {}\nfields.n = 1\nsettings.gc_deletes = \"1s\"\nsettings.index.sort.field = [\"n\"]",
        );
        let problems = wrong.validate("entry 1");
        let texts: Vec<_> = problems
            .iter()
            .map(|problem| problem.what.as_str())
            .collect();
        assert_eq!(
            texts,
            [
                "entry 1 renames two columns to 'x'",
                "entry 1 renames 'c' to 'd.e', which is no name for a field",
                "entry 1 renames 'gone', which no document holds",
                "entry 1 maps '_id', which is no name for a field",
                "entry 1 maps '_tributary_seq', which is no name for a field",
                "entry 1 maps 'n' to what is no table",
                "entry 1 maps 'name', which is the field 'title'",
                "entry 1 sets `index.gc_deletes`, which the sink keeps at an hour",
                "entry 1 sets `index.sort.*`, for which an index would need its fields when it is made",
            ]
        );
        assert!(problems.iter().all(|problem| problem.remedy.is_some()));
        let none = DocumentOptions {
            topics: vec!["a b".to_owned()],
            ..DocumentOptions::default()
        };
        assert_eq!(none.validate("entry 2").len(), 1);
        assert_eq!(DocumentOptions::default().validate("entry 2").len(), 1);
    }

    #[test]
    fn columns_may_exchange_their_names() {
        let swapped = options("rename = { a = \"b\", b = \"a\" }\nfields.a.type = \"long\"");
        assert_eq!(swapped.validate("entry 1"), []);
    }
}
