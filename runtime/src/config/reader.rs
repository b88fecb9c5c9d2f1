//! Deserializes from the tree: checks names against what a struct declares, and reads text from the
//! environment as what the field wants.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::value::{MapAccessDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::document::{ConfigPlace, Finding, Node, Order, Origin, Table, Value, parse_value};
use super::fault::{ReadFault, unknown_key};
use super::secret::{SECRET, read_file};
use crate::Problem;

/// Deserializes `root` and reports as many problems as can be told apart: after each one the value in
/// question is taken out and the rest is tried again.
///
/// `elsewhere` are names that are known at the top level though `T` does not declare them.
pub(super) fn read<T: DeserializeOwned>(
    mut root: Node,
    elsewhere: &[&str],
    place: ConfigPlace<'_>,
) -> Result<T, Vec<Finding>> {
    let notes = Findings {
        place,
        elsewhere,
        found: RefCell::default(),
    };
    let mut findings = Vec::new();
    let mut removed: Vec<Vec<String>> = Vec::new();
    let value = loop {
        let reader = Reader {
            node: &root,
            path: Vec::new(),
            notes: &notes,
        };
        let fault = match T::deserialize(reader) {
            Ok(value) => break Some(value),
            Err(fault) => fault.at(&[], &root.origin),
        };
        let path = fault.path().to_vec();
        let consequence = fault
            .missing()
            .is_some_and(|missing| is_removed(&removed, missing));
        if !consequence {
            findings.push(fault.into_finding(place));
        }
        if !root.remove(&path) {
            break None;
        }
        removed.push(path);
    };
    findings.extend(notes.found.into_inner().into_values());
    match value {
        Some(value) if findings.is_empty() => Ok(value),
        _ => Err(findings),
    }
}

/// Whether a key is missing only because it, or the file that was to hold it, has been taken out.
fn is_removed(removed: &[Vec<String>], mut key: Vec<String>) -> bool {
    if removed.contains(&key) {
        return true;
    }
    if let Some(last) = key.last_mut() {
        last.push_str("_file");
    }
    removed.contains(&key)
}

/// What is found on the way and does not end the reading: by place, since a value may be read several times.
struct Findings<'a> {
    place: ConfigPlace<'a>,
    elsewhere: &'a [&'a str],
    found: RefCell<BTreeMap<(Vec<String>, Order), Finding>>,
}

impl Findings<'_> {
    fn note(&self, path: Vec<String>, origin: &Origin, problem: Problem) {
        let finding = Finding::new(origin.clone(), problem);
        let place = (path, finding.order());
        self.found.borrow_mut().insert(place, finding);
    }

    fn unknown(&self, path: Vec<String>, origin: &Origin, fields: &'static [&'static str]) {
        let elsewhere = if path.len() == 1 { self.elsewhere } else { &[] };
        let known = fields.iter().chain(elsewhere).copied();
        let problem = unknown_key(&path, origin, known, self.place);
        self.note(path, origin, problem);
    }
}

/// A value at its key.
struct Reader<'a> {
    node: &'a Node,
    /// Keys from the root; items of a list have the list's.
    path: Vec<String>,
    notes: &'a Findings<'a>,
}

impl<'a> Reader<'a> {
    fn child(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }

    /// The same place with a value that was made out of the text found there.
    fn with<'b>(&self, node: &'b Node) -> Reader<'b>
    where
        'a: 'b,
    {
        Reader {
            node,
            path: self.path.clone(),
            notes: self.notes,
        }
    }

    /// Text from the environment at this place.
    fn raw(&self, text: &str) -> Node {
        Node {
            value: Value::Raw(text.to_owned()),
            origin: self.node.origin.clone(),
        }
    }

    fn entries(&self, table: &'a Table) -> Entries<'a> {
        let entries = table
            .iter()
            .map(|(key, node)| (self.child(key), key.clone(), Cow::Borrowed(node)));
        Entries {
            entries: entries.collect::<Vec<_>>().into_iter(),
            value: None,
            notes: self.notes,
        }
    }

    /// The entries that a struct declares; the others are noted as unknown.
    fn declared(&self, table: &'a Table, fields: &'static [&'static str]) -> Entries<'a> {
        let mut entries: BTreeMap<String, (Vec<String>, Cow<'a, Node>)> = BTreeMap::new();
        for (key, node) in table {
            let path = self.child(key);
            let base = key.strip_suffix("_file").filter(|b| fields.contains(b));
            if fields.contains(&key.as_str()) {
                entries.insert(key.clone(), (path, Cow::Borrowed(node)));
            } else if let (Some(base), Some(file)) = (base, node.text()) {
                if self.file_wins(table.get(base), node, &path) {
                    let value = Value::SecretFile(file.to_owned());
                    let origin = node.origin.clone();
                    let node = Cow::Owned(Node { value, origin });
                    entries.insert(base.to_owned(), (path, node));
                }
            } else {
                self.notes.unknown(path, &node.origin, fields);
            }
        }
        let entries = entries
            .into_iter()
            .map(|(key, (path, node))| (path, key, node));
        Entries {
            entries: entries.collect::<Vec<_>>().into_iter(),
            value: None,
            notes: self.notes,
        }
    }

    /// Whether `<key>_file` counts beside `<key>`: the environment goes before the file, and both in one
    /// place is a problem.
    fn file_wins(&self, plain: Option<&Node>, file: &Node, path: &[String]) -> bool {
        match (plain.map(|node| &node.origin), &file.origin) {
            (None, _) | (Some(Origin::Line(_)), Origin::Variable(_)) => true,
            (Some(Origin::Variable(_)), Origin::Line(_)) => false,
            (Some(_), origin) => {
                let key = path.join(".");
                let plain = key.trim_end_matches("_file");
                let place = self.notes.place.of(origin);
                let problem = Problem::new(format!("`{plain}` and `{key}` are both set ({place})"));
                let problem = problem.remedy("remove one of them");
                self.notes.note(path.to_vec(), origin, problem);
                false
            }
        }
    }

    /// An integer as the visitor takes it, from the file or from text.
    fn integer<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadFault> {
        let integer = match &self.node.value {
            Value::Integer(integer) => Some(*integer),
            Value::Raw(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        match integer {
            Some(integer) => visit_integer(integer, visitor),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    fn float<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Integer(integer) => visit_integer(*integer, visitor),
            Value::Raw(text) => match text.trim().parse() {
                Ok(float) => visitor.visit_f64(float),
                Err(_) => Err(self.wrong_type(&visitor)),
            },
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn wrong_type(&self, expected: &dyn serde::de::Expected) -> ReadFault {
        let found = match &self.node.value {
            Value::String(_) | Value::Raw(_) => Unexpected::Str(""),
            Value::Integer(_) => Unexpected::Signed(0),
            Value::Float(_) => Unexpected::Float(0.0),
            Value::Boolean(_) => Unexpected::Bool(false),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
            Value::SecretFile(_) => return ReadFault::no_secret(),
        };
        ReadFault::invalid_type(found, expected)
    }

    /// Text from the environment as a TOML value.
    fn parsed(&self, text: &str) -> Result<Node, ReadFault> {
        parse_value(text.trim(), &self.node.origin)
            .map_err(|message| ReadFault::custom(format_args!("not a TOML value: {message}")))
    }

    fn items<'de, V: Visitor<'de>>(
        &self,
        items: &[Node],
        visitor: V,
    ) -> Result<V::Value, ReadFault> {
        visitor.visit_seq(Items {
            items: items.iter(),
            reader: self,
        })
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, ReadFault> {
    if let Ok(integer) = u64::try_from(integer) {
        visitor.visit_u64(integer)
    } else if let Ok(integer) = i64::try_from(integer) {
        visitor.visit_i64(integer)
    } else {
        visitor.visit_i128(integer)
    }
}

/// Methods of a deserializer that read one kind of number.
macro_rules! numbers {
    ($($read:ident: $($method:ident)*;)*) => {$($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
            self.$read(visitor)
        }
    )*)*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadFault;

    numbers! {
        integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128;
        float: deserialize_f32 deserialize_f64;
    }

    // No configuration has a tuple.
    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct identifier ignored_any tuple tuple_struct
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::String(text) | Value::Raw(text) => visitor.visit_str(text),
            Value::Integer(integer) => visit_integer(*integer, visitor),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Array(items) => self.items(items, visitor),
            Value::Table(table) => visitor.visit_map(self.entries(table)),
            Value::SecretFile(_) => Err(ReadFault::no_secret()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Raw(text) => match text.trim().parse() {
                Ok(boolean) => visitor.visit_bool(boolean),
                Err(_) => Err(self.wrong_type(&visitor)),
            },
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::SecretFile(path) if name == SECRET => {
                let secret = read_file(path.as_ref()).map_err(ReadFault::custom)?;
                visitor.visit_seq(SeqDeserializer::new([secret, path.clone()].into_iter()))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::Array(items) => self.items(items, visitor),
            Value::Raw(text) if text.trim_start().starts_with('[') => {
                let node = self.parsed(text)?;
                self.with(&node).deserialize_any(visitor)
            }
            Value::Raw(text) => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                let items: Vec<Node> = parts.map(|part| self.raw(part)).collect();
                self.items(&items, visitor)
            }
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::Raw(text) if text.trim_start().starts_with('{') => {
                let node = self.parsed(text)?;
                self.with(&node).deserialize_map(visitor)
            }
            Value::Table(table) => visitor.visit_map(self.entries(table)),
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::Raw(text) if text.trim_start().starts_with('{') => {
                let node = self.parsed(text)?;
                self.with(&node).deserialize_struct(name, fields, visitor)
            }
            Value::Table(table) => visitor.visit_map(self.declared(table, fields)),
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadFault> {
        match &self.node.value {
            Value::String(text) | Value::Raw(text) => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            Value::Table(table) => {
                visitor.visit_enum(MapAccessDeserializer::new(self.entries(table)))
            }
            _ => Err(self.wrong_type(&visitor)),
        }
    }
}

/// The entries of a section that are to be read, each with its full path.
struct Entries<'a> {
    entries: std::vec::IntoIter<(Vec<String>, String, Cow<'a, Node>)>,
    value: Option<(Vec<String>, Cow<'a, Node>)>,
    notes: &'a Findings<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadFault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadFault> {
        let Some((path, key, node)) = self.entries.next() else {
            return Ok(None);
        };
        let origin = node.origin.clone();
        self.value = Some((path.clone(), node));
        seed.deserialize(StringDeserializer::new(key))
            .map(Some)
            .map_err(|fault: ReadFault| fault.at(&path, &origin))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadFault> {
        let Some((path, node)) = self.value.take() else {
            return Err(ReadFault::custom("a value without a key"));
        };
        let reader = Reader {
            node: &node,
            path: path.clone(),
            notes: self.notes,
        };
        seed.deserialize(reader)
            .map_err(|fault| fault.at(&path, &node.origin))
    }
}

/// The items of a list. Their path is the list's: a problem in one takes the whole list out.
struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    reader: &'a Reader<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadFault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadFault> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(self.reader.with(node))
            .map(Some)
            .map_err(|fault| fault.at(&self.reader.path, &node.origin))
    }
}
