//! The error of the deserializer. It never holds a value: serde's own messages quote what they found,
//! and that may be a secret.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::document::{ConfigPlace, Finding, Origin};
use crate::Problem;

/// What went wrong, and (once it has passed the value it is about) at which key.
#[derive(Debug)]
pub(super) struct ReadFault {
    kind: ReadFaultKind,
    at: Option<(Vec<String>, Origin)>,
}

#[derive(Debug)]
enum ReadFaultKind {
    Message(String),
    Missing(&'static str),
    Unknown(String, &'static [&'static str]),
    /// `<key>_file` beside a key that holds no secret.
    NoSecret,
}

impl ReadFault {
    const fn new(kind: ReadFaultKind) -> Self {
        Self { kind, at: None }
    }

    /// `<key>_file` stands beside a key that holds no secret, so that nothing would read the file.
    pub(super) const fn no_secret() -> Self {
        Self::new(ReadFaultKind::NoSecret)
    }

    /// Says where it is; the innermost place stays.
    pub(super) fn at(mut self, path: &[String], origin: &Origin) -> Self {
        if self.at.is_none() {
            self.at = Some((path.to_vec(), origin.clone()));
        }
        self
    }

    /// The key that it is about: for a missing key, the section that lacks it.
    pub(super) fn path(&self) -> &[String] {
        self.at.as_ref().map_or(&[], |(path, _)| path)
    }

    /// The full path of the missing key, if that is what it is.
    pub(super) fn missing(&self) -> Option<Vec<String>> {
        match self.kind {
            ReadFaultKind::Missing(field) => Some(join(self.path(), field)),
            ReadFaultKind::Message(_) | ReadFaultKind::Unknown(..) | ReadFaultKind::NoSecret => {
                None
            }
        }
    }

    /// The finding for the person who wrote the configuration.
    pub(super) fn into_finding(self, place: ConfigPlace<'_>) -> Finding {
        let (path, origin) = self.at.unwrap_or_else(|| (Vec::new(), Origin::Line(0)));
        let problem = match self.kind {
            ReadFaultKind::Message(message) => Problem::new(format!(
                "`{}` in {}: {message}",
                path.join("."),
                place.of(&origin)
            )),
            ReadFaultKind::Missing(field) => {
                let path = join(&path, field);
                let key = path.join(".");
                let variable = place.variable(&path);
                Problem::new(format!("missing key `{key}` in {}", place.of(&origin)))
                    .remedy(format!("set `{key}` in {} or {variable}", place.file))
            }
            ReadFaultKind::Unknown(field, known) => {
                unknown_key(&join(&path, &field), &origin, known.iter().copied(), place)
            }
            ReadFaultKind::NoSecret => Problem::new(format!(
                "unknown key `{}` in {}; only a secret can come from a file",
                path.join("."),
                place.of(&origin)
            )),
        };
        Finding::new(origin, problem)
    }
}

/// The problem of a key that nothing reads, with the nearest known name or, without one, all of them.
pub(super) fn unknown_key<'k>(
    path: &[String],
    origin: &Origin,
    known: impl Iterator<Item = &'k str>,
    place: ConfigPlace<'_>,
) -> Problem {
    let known: Vec<&str> = known.collect();
    let (field, section) = match path {
        [section @ .., field] => (field.as_str(), section),
        [] => ("", path),
    };
    let hint = match nearest(field, &known) {
        Some(name) => {
            let path = join(section, name);
            match origin {
                Origin::Line(_) => format!("did you mean `{}`?", path.join(".")),
                Origin::Variable(_) => format!("did you mean {}?", place.variable(&path)),
            }
        }
        None if known.is_empty() => "there are no keys here".to_owned(),
        None => format!("the keys here are {}", known.join(", ")),
    };
    let key = path.join(".");
    Problem::new(format!(
        "unknown key `{key}` in {}; {hint}",
        place.of(origin)
    ))
}

/// The known name with the fewest typing errors between, if they are few for its length.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(name, candidate);
            let contained = candidate.contains(name) || name.contains(candidate);
            (distance, contained, *candidate)
        })
        .filter(|(distance, contained, candidate)| {
            *distance <= 1 + candidate.len() / 4 || (*contained && name.len() >= 3)
        })
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, candidate)| candidate)
}

fn join(path: &[String], field: &str) -> Vec<String> {
    let mut path = path.to_vec();
    path.push(field.to_owned());
    path
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ReadFaultKind::Message(message) => f.write_str(message),
            ReadFaultKind::Missing(field) => write!(f, "missing key `{field}`"),
            ReadFaultKind::Unknown(field, _) => write!(f, "unknown key `{field}`"),
            ReadFaultKind::NoSecret => f.write_str("only a secret can come from a file"),
        }
    }
}

impl std::error::Error for ReadFault {}

impl de::Error for ReadFault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(ReadFaultKind::Message(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "expected {}, found {}",
            wanted(expected),
            found(&unexpected)
        ))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", wanted(expected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!(
            "expected {}, found {length} items",
            wanted(expected)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<String> = expected.iter().map(|name| format!("\"{name}\"")).collect();
        Self::custom(format_args!("expected one of {}", names.join(", ")))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(ReadFaultKind::Unknown(field.to_owned(), expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(ReadFaultKind::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format_args!("`{field}` is given twice"))
    }
}

/// serde's names of Rust types in words of the file.
fn wanted(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => "an integer from 0 to 255".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        "u32" => format!("an integer from 0 to {}", u32::MAX),
        "u64" | "usize" => "an integer of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a section".to_owned(),
        other if other.starts_with("struct ") => "a section".to_owned(),
        other if other.starts_with("enum ") => "a string".to_owned(),
        _ => expected,
    }
}

const fn found(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a float",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a section",
        _ => "something else",
    }
}
