//! The TOML file as a tree in which every value knows where it came from, and the environment laid over it.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Problem;

/// A section of the file: its keys in alphabetical order.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its origin. Deliberately without `Debug`: the value may be a secret.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone)]
pub(super) enum Value {
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// Text from the environment; the field that it goes to decides how it is read.
    Raw(String),
    /// The path of the file that holds a secret: what `<key>_file` says about `<key>`.
    SecretFile(String),
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The line in the file, from 1; 0 is the file as a whole.
    Line(usize),
    /// The name of an environment variable.
    Variable(String),
}

/// A problem with the place that sorts it among the others.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) origin: Origin,
    pub(super) problem: Problem,
}

/// The order of findings for the person who reads them.
pub(super) type Order = (bool, usize, String);

impl Finding {
    pub(super) const fn new(origin: Origin, problem: Problem) -> Self {
        Self { origin, problem }
    }

    /// File first, by line, then the environment.
    pub(super) fn order(&self) -> Order {
        match &self.origin {
            Origin::Line(line) => (false, *line, String::new()),
            Origin::Variable(name) => (true, 0, name.clone()),
        }
    }
}

/// The file's name and the environment prefix: what a message needs to say where something is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigPlace<'a> {
    pub(super) file: &'a str,
    pub(super) env_prefix: &'a str,
}

impl<'a> ConfigPlace<'a> {
    /// `FILE line 3`, `environment variable X`.
    pub(super) fn of(self, origin: &'a Origin) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match origin {
            Origin::Line(0) => f.write_str(self.file),
            Origin::Line(line) => write!(f, "{} line {line}", self.file),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
        })
    }

    /// The environment variable that sets a key.
    pub(super) fn variable(self, path: &[String]) -> String {
        let mut name = self.env_prefix.to_owned();
        for segment in path {
            name.push_str("__");
            name.push_str(&segment.to_ascii_uppercase());
        }
        name
    }
}

impl Node {
    /// The value as text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Raw(text) => Some(text),
            _ => None,
        }
    }

    /// Takes the value at `path` out; `false` if there is none.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let Value::Table(table) = &mut self.value else {
            return false;
        };
        match path {
            [] => false,
            [last] => table.remove(last).is_some(),
            [first, rest @ ..] => table.get_mut(first).is_some_and(|node| node.remove(rest)),
        }
    }
}

/// Parses the file's text. A syntax error's own message quotes no part of the text; its `Display` would.
pub(super) fn parse(text: &str, place: ConfigPlace<'_>) -> Result<Table, Vec<Finding>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut findings: Vec<Finding> = Vec::new();
    for error in errors {
        let origin = Origin::Line(error.span().map_or(0, |span| line_at(text, span.start)));
        if findings.last().is_some_and(|last| last.origin == origin) {
            continue; // what follows on the same line is a consequence of the first
        }
        let what = format!("{}: {}", place.of(&origin), error.message());
        findings.push(Finding::new(origin, Problem::new(what)));
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut findings = Vec::new();
    let table = table_of(root.get_ref(), &mut |span, what| {
        let origin = Origin::Line(line_at(text, span));
        if let Some(what) = what {
            let what = format!("{}: {what}", place.of(&origin));
            findings.push(Finding::new(origin.clone(), Problem::new(what)));
        }
        origin
    });
    if findings.is_empty() {
        Ok(table)
    } else {
        Err(findings)
    }
}

/// Parses one TOML value from an environment variable (`["a", "b"]`, `{ x = 1 }`).
pub(super) fn parse_value(text: &str, origin: &Origin) -> Result<Node, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    let mut wrong = None;
    let node = node_of(&value, &mut |_, what| {
        wrong = wrong.take().or(what.map(str::to_owned));
        origin.clone()
    });
    wrong.map_or(Ok(node), Err)
}

/// Lays the variables `<prefix>__SECTION__KEY` over the table. Variables with a single underscore after the
/// prefix are not ours: Kubernetes sets `<SERVICE>_PORT` and the like by itself.
pub(super) fn overlay(
    root: &mut Table,
    place: ConfigPlace<'_>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Vec<Finding> {
    let prefix = format!("{}__", place.env_prefix);
    let mut variables: Vec<(String, String)> = env
        .into_iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .collect();
    variables.sort();
    let mut findings = Vec::new();
    for (name, value) in variables {
        let path: Vec<String> = name[prefix.len()..]
            .split("__")
            .map(str::to_ascii_lowercase)
            .collect();
        if let Err(what) = set(root, &path, &name, value) {
            let problem = Problem::new(format!("environment variable {name}: {what}"));
            findings.push(Finding::new(Origin::Variable(name), problem));
        }
    }
    findings
}

fn set(table: &mut Table, path: &[String], name: &str, value: String) -> Result<(), String> {
    let origin = || Origin::Variable(name.to_owned());
    match path {
        [] => Ok(()),
        segments if segments.iter().any(String::is_empty) => {
            Err("a part of the key's name is empty".to_owned())
        }
        [key] => {
            let value = Value::Raw(value);
            let origin = origin();
            table.insert(key.clone(), Node { value, origin });
            Ok(())
        }
        [key, rest @ ..] => {
            let section = table.entry(key.clone()).or_insert_with(|| Node {
                value: Value::Table(Table::new()),
                origin: origin(),
            });
            match &mut section.value {
                Value::Table(table) => set(table, rest, name, value),
                _ => Err(format!("`{key}` is set to a value, it is not a section")),
            }
        }
    }
}

/// Is told where a value begins and, if it cannot be represented, why; returns the value's origin.
type Locate<'a> = dyn FnMut(usize, Option<&str>) -> Origin + 'a;

fn table_of(table: &DeTable<'_>, locate: &mut Locate<'_>) -> Table {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        (key.to_string(), node_of(value, locate))
    };
    table.iter().map(entry).collect()
}

fn node_of(value: &Spanned<DeValue<'_>>, locate: &mut Locate<'_>) -> Node {
    let start = value.span().start;
    let (value, wrong) = match value.get_ref() {
        DeValue::String(text) => (Value::String(text.to_string()), None),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => (Value::Integer(integer), None),
                Err(_) => (Value::Integer(0), Some("integer out of range")),
            }
        }
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(float) => (Value::Float(float), None),
            Err(_) => (Value::Float(0.0), Some("not a number")),
        },
        DeValue::Boolean(boolean) => (Value::Boolean(*boolean), None),
        DeValue::Datetime(datetime) => (Value::String(datetime.to_string()), None),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| node_of(item, locate)).collect();
            (Value::Array(items), None)
        }
        DeValue::Table(table) => (Value::Table(table_of(table, locate)), None),
    };
    let origin = locate(start, wrong);
    Node { value, origin }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
