//! Options of documents and random rows, held against the documents without options.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

use crate::config::ElasticConfig;
use crate::document::DocumentPlan;
use crate::shape::Shape;

/// Names of columns: few, so that options meet them, some that an engine would refuse.
const NAMES: [&str; 8] = ["a", "ab", "abc", "b", "b.c", "_id", "secret", "secret_b"];
/// What fields are called otherwise.
const TARGETS: [&str; 5] = ["a", "b", "title", "x y", "secret"];

#[derive(Debug, Clone)]
struct Case {
    columns: Vec<(&'static str, Held)>,
    /// Whole names, or the beginnings of names with a `*` behind.
    include: Vec<String>,
    exclude: Vec<String>,
    rename: BTreeMap<&'static str, &'static str>,
}

/// A value with its type.
#[derive(Debug, Clone)]
enum Held {
    Number(i64),
    Text(String),
    Truth(bool),
    Null,
    List(Vec<i64>),
    Pair(i64, String),
}

impl Held {
    fn field_type(&self) -> FieldType {
        match self {
            Self::Number(_) => FieldType::Int64,
            Self::Text(_) | Self::Null => FieldType::String,
            Self::Truth(_) => FieldType::Bool,
            Self::List(_) => FieldType::Array(Box::new(field("item", FieldType::Int64))),
            // Names inside a composite are nobody's to choose.
            Self::Pair(..) => FieldType::Struct(RecordType {
                full_name: "t.Pair".to_owned(),
                fields: vec![
                    field("a", FieldType::Int64),
                    field("secret", FieldType::String),
                ],
            }),
        }
    }

    fn datum(&self) -> Datum<'_> {
        match self {
            Self::Number(number) => Datum::Int(*number),
            Self::Text(text) => Datum::Str(text),
            Self::Truth(truth) => Datum::Bool(*truth),
            Self::Null => Datum::Null,
            Self::List(items) => Datum::Array(items.iter().map(|item| Datum::Int(*item)).collect()),
            Self::Pair(number, text) => Datum::Struct(vec![Datum::Int(*number), Datum::Str(text)]),
        }
    }
}

fn field(name: &str, field_type: FieldType) -> Field {
    Field {
        name: name.to_owned(),
        field_type,
        nullable: true,
    }
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        any::<i64>().prop_map(Held::Number),
        ".{0,6}".prop_map(Held::Text),
        any::<bool>().prop_map(Held::Truth),
        Just(Held::Null),
        prop::collection::vec(any::<i64>(), 0..3).prop_map(Held::List),
        (any::<i64>(), ".{0,3}").prop_map(|(number, text)| Held::Pair(number, text)),
    ]
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let whole = prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
    let begin =
        prop::sample::select(vec!["a*", "b*", "secret*", "_*", "q*"]).prop_map(str::to_owned);
    prop::collection::vec(prop_oneof![whole, begin], 0..3)
}

fn case() -> impl Strategy<Value = Case> {
    let columns = prop::sample::subsequence(&NAMES[..], 0..=NAMES.len()).prop_shuffle();
    let columns = columns.prop_flat_map(|names| {
        let held = prop::collection::vec(held(), names.len());
        (Just(names), held)
            .prop_map(|(names, held)| names.into_iter().zip(held).collect::<Vec<_>>())
    });
    let rename = prop::collection::btree_map(
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&TARGETS[..]),
        0..3,
    );
    (columns, patterns(), patterns(), rename).prop_map(|(columns, include, exclude, rename)| Case {
        columns,
        include,
        exclude,
        rename,
    })
}

impl Case {
    fn shape(&self) -> Shape {
        let mut config: ElasticConfig = toml::from_str("url = \"http://s:1\"").unwrap();
        let options = json!({
            "topics": ["s.*"], "include": self.include, "exclude": self.exclude, "rename": self.rename,
        });
        config.documents = vec![serde_json::from_value(options).unwrap()];
        Shape::of(&config, "s.t")
    }

    fn row_type(&self) -> RecordType {
        let columns = self.columns.iter();
        RecordType {
            full_name: "t.Value".to_owned(),
            fields: columns
                .map(|(name, held)| field(name, held.field_type()))
                .collect(),
        }
    }

    fn document(&self, shape: &Shape) -> Option<(Map<String, Value>, BTreeSet<String>)> {
        let plan = DocumentPlan::new(&self.row_type(), shape, &Map::new()).ok()?;
        let row: Vec<_> = self.columns.iter().map(|(_, held)| held.datum()).collect();
        let mut out = Vec::new();
        plan.write(&row, None, 7, &mut out).unwrap();
        let mapped = plan.properties().keys().cloned().collect();
        let written: Map<String, Value> = serde_json::from_slice(&out).unwrap();
        // No member twice: a parser would keep one of them.
        let members = written.len();
        let pairs = plan.columns().count();
        assert_eq!(members, pairs + 1, "{}", String::from_utf8_lossy(&out));
        Some((written, mapped))
    }

    /// By the document without options; `None` where two columns meet in a field.
    fn expected(&self, plain: &Map<String, Value>) -> Option<Map<String, Value>> {
        let is_in = |patterns: &[String], name: &str| {
            patterns
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(begin) => name.starts_with(begin),
                    None => name == pattern,
                })
        };
        let mut expected = Map::new();
        for (name, _) in &self.columns {
            let is_included = self.include.is_empty() || is_in(&self.include, name);
            if !is_included || is_in(&self.exclude, name) {
                continue;
            }
            let usual = match *name {
                "b.c" => "b_u002ec",
                "_id" => "_u005fid",
                name => name,
            };
            let field = self.rename.get(name).copied().unwrap_or(usual);
            if expected
                .insert(field.to_owned(), plain[usual].clone())
                .is_some()
            {
                return None;
            }
        }
        expected.insert("_tributary_seq".to_owned(), json!(7));
        Some(expected)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_document_is_the_usual_one_with_members_taken_out_and_renamed(case in case()) {
        let (plain, _) = case.document(&Shape::default()).unwrap();
        prop_assert_eq!(plain.len(), case.columns.len() + 1);
        let written = case.document(&case.shape());
        match case.expected(&plain) {
            None => prop_assert!(written.is_none(), "two columns in one field: {written:?}"),
            Some(expected) => {
                let (written, mapped) = written.unwrap();
                let fields: BTreeSet<_> = expected.keys().cloned().collect();
                prop_assert_eq!(mapped, fields);
                prop_assert_eq!(written, expected);
            }
        }
    }
}

#[test]
fn what_adds_to_a_column_is_left_out_of_rows_without_it() {
    let mut config: ElasticConfig = toml::from_str("url = \"http://s:1\"").unwrap();
    let options =
        json!({"topics": ["t"], "fields": {"late": {"copy_to": "all"}, "all": {"type": "text"}}});
    config.documents = vec![serde_json::from_value(options).unwrap()];
    let shape = Shape::of(&config, "t");
    let row_type = |columns: &[&str]| RecordType {
        full_name: "t.Value".to_owned(),
        fields: columns
            .iter()
            .map(|name| field(name, FieldType::Json))
            .collect(),
    };
    let before = shape.properties(&row_type(&["id"])).unwrap();
    assert!(before.contains_key("all") && !before.contains_key("late"));
    let behind = shape.properties(&row_type(&["id", "late"])).unwrap();
    assert_eq!(behind["late"], json!({"type": "text", "copy_to": "all"}));
}
