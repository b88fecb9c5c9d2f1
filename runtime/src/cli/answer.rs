//! What a command has found or done, for people and for programs.

use clap::ArgMatches;
use serde_json::{Map, Value, json};

use super::exit;
use crate::{Error, Problem};

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl Format {
    pub(super) fn of(arguments: &ArgMatches) -> Self {
        match arguments.get_one::<String>("output").map(String::as_str) {
            Some("json") => Self::Json,
            _ => Self::Text,
        }
    }
}

/// What a command has found or done: printed to stdout as text or as one JSON object, which also has
/// `service`, `version` and `ok`.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// For people; lines that end in a newline.
    pub text: String,
    /// For programs: an object.
    pub json: Value,
    /// One of [`exit`].
    pub code: u8,
}

impl Answer {
    /// It is done, or nothing is wrong.
    pub const fn ok(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            code: exit::OK,
        }
    }

    /// What the command would destroy; nothing was done, since `--yes` is missing.
    pub fn unconfirmed(mut text: String, json: Value) -> Self {
        text.push_str("nothing was done: say --yes to do it\n");
        Self {
            text,
            json,
            code: exit::UNCONFIRMED,
        }
    }

    /// The error has been printed for people already.
    pub(super) fn failed(error: &Error) -> Self {
        let problem = Problem::from(error);
        Self {
            text: String::new(),
            json: json!({ "error": problem.what, "remedy": problem.remedy }),
            code: exit::STOPPED,
        }
    }

    pub(super) fn render(&self, service: &str, format: Format) -> String {
        match format {
            Format::Text => self.text.clone(),
            Format::Json => {
                let mut object = Map::new();
                object.insert("service".to_owned(), service.into());
                object.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
                object.insert("ok".to_owned(), (self.code == exit::OK).into());
                if let Value::Object(own) = &self.json {
                    object.extend(own.clone());
                }
                format!("{}\n", Value::Object(object))
            }
        }
    }
}

/// A JSON value as lines `path: value`; nulls and what is empty are left out.
pub(super) fn lines(value: &Value) -> String {
    fn walk(path: &str, value: &Value, text: &mut String) {
        let below = |key: &str| match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        match value {
            Value::Null => {}
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, value)| walk(&below(key), value, text)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, item)| walk(&below(&index.to_string()), item, text)),
            Value::String(one) => text.push_str(&format!("{path}: {one}\n")),
            one => text.push_str(&format!("{path}: {one}\n")),
        }
    }
    let mut text = String::new();
    walk("", value, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Answer, Format, lines};

    #[test]
    fn an_answer_for_programs_says_who_and_whether() {
        let answer = Answer::unconfirmed("drops a\n".to_owned(), json!({"drops": ["a"]}));
        let json: serde_json::Value =
            serde_json::from_str(&answer.render("tributary-example", Format::Json)).unwrap();
        assert_eq!(
            (&json["service"], &json["ok"], &json["drops"][0]),
            (&"tributary-example".into(), &false.into(), &"a".into())
        );
        assert!(answer.text.ends_with("say --yes to do it\n"));
    }

    #[test]
    fn details_print_as_paths() {
        let value = json!({"a": {"b": [1, "x"], "c": null}, "d": true});
        assert_eq!(lines(&value), "a.b.0: 1\na.b.1: x\nd: true\n");
    }
}
