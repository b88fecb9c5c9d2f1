//! In what two Connect schemas differ.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::difference::Difference;

/// What a schema says of itself, other than of what is inside.
const ATTRIBUTES: [&str; 7] = [
    "type",
    "name",
    "version",
    "optional",
    "default",
    "doc",
    "parameters",
];

/// Everything in which our schema differs from Debezium's, at any depth. `place` says which schema it is.
pub fn compare_schemas(place: &str, debezium: &Json, ours: &Json) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(place, "", debezium, ours, &mut found);
    found
}

fn walk(place: &str, path: &str, debezium: &Json, ours: &Json, found: &mut Vec<Difference>) {
    let mut differ = |path: &str, what, debezium: &Json, ours: &Json| {
        if debezium != ours {
            found.push(Difference {
                place: place.to_owned(),
                path: path.to_owned(),
                what,
                debezium: debezium.clone(),
                ours: ours.clone(),
            });
        }
    };
    for what in ATTRIBUTES {
        differ(path, what, &debezium[what], &ours[what]);
    }
    let (theirs, own) = (fields(debezium), fields(ours));
    // The order is that of the fields that both have: a field that one lacks would shift all that follow.
    let order = |fields: &[(&str, &Json)], other: &[(&str, &Json)]| {
        let common = fields.iter().map(|(name, _)| *name);
        json!(
            common
                .filter(|name| other.iter().any(|(own, _)| own == name))
                .collect::<Vec<_>>()
        )
    };
    differ(path, "order", &order(&theirs, &own), &order(&own, &theirs));
    let mut inside: Vec<(String, Json, Json)> = Vec::new();
    let names: BTreeSet<&str> = theirs.iter().chain(&own).map(|(name, _)| *name).collect();
    for name in names {
        let at = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let of = |fields: &[(&str, &Json)]| {
            let field = fields.iter().find(|(own, _)| *own == name);
            field.map_or(Json::Null, |(_, schema)| (*schema).clone())
        };
        let (theirs, own) = (of(&theirs), of(&own));
        if theirs.is_null() || own.is_null() {
            differ(&at, "field", &theirs["type"], &own["type"]);
        } else {
            inside.push((at, theirs, own));
        }
    }
    if !debezium["items"].is_null() && !ours["items"].is_null() {
        inside.push((
            format!("{path}[]"),
            debezium["items"].clone(),
            ours["items"].clone(),
        ));
    }
    for (path, theirs, own) in inside {
        walk(place, &path, &theirs, &own, found);
    }
}

fn fields(schema: &Json) -> Vec<(&str, &Json)> {
    schema["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|field| (field["name"].as_str().unwrap_or_default(), &field["schema"]))
        .collect()
}
