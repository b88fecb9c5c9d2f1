//! In what the records of two topics differ, key by key.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::decode::Record;
use super::difference::Difference;

/// What Debezium writes for a TOASTed value that an update left untouched.
const UNAVAILABLE: &str = "__debezium_unavailable_value";
const NEW_KEY: &str = "__debezium.newkey";
const OLD_KEY: &str = "__debezium.oldkey";

/// Puts the values that are known from a row's earlier records into the places where Debezium's topic says that it
/// does not have them, and returns how many. The records must be in the order of commit.
pub fn complete(records: &mut [Record]) -> usize {
    let mut rows: BTreeMap<String, Json> = BTreeMap::new();
    let mut moving = Json::Null;
    let mut completed = 0;
    for record in records {
        let key = key(record);
        let Some(value) = &mut record.value else {
            continue;
        };
        if value.is["op"] == "d" {
            let row = rows.remove(&key).unwrap_or_default();
            if record.headers.contains(NEW_KEY) {
                moving = row;
            }
            continue;
        }
        let earlier = if record.headers.contains(OLD_KEY) {
            moving.take()
        } else {
            rows.get(&key).cloned().unwrap_or_default()
        };
        for (column, value) in value.is["after"].as_object_mut().into_iter().flatten() {
            if value == UNAVAILABLE {
                *value = earlier[column].clone();
                completed += 1;
            }
        }
        rows.insert(key, value.is["after"].clone());
    }
    completed
}

/// Everything in which our records differ from Debezium's. Of each key all records are compared, in their order:
/// envelopes, tombstones, and the headers of a changed key. `place` says which topic it is.
pub fn compare_records(place: &str, debezium: &[Record], ours: &[Record]) -> Vec<Difference> {
    let (theirs, own) = (by_key(debezium), by_key(ours));
    let mut found = Vec::new();
    let keys: BTreeSet<&String> = theirs.keys().chain(own.keys()).collect();
    for key in keys {
        let of =
            |records: &BTreeMap<String, Vec<Json>>| records.get(key).cloned().unwrap_or_default();
        let (theirs, own) = (of(&theirs), of(&own));
        let ops = |records: &[Json]| {
            json!(
                records
                    .iter()
                    .map(|record| record["op"].clone())
                    .collect::<Vec<_>>()
            )
        };
        if ops(&theirs) != ops(&own) {
            found.push(Difference {
                place: format!("{place}, key {key}"),
                path: String::new(),
                what: "sequence of operations",
                debezium: ops(&theirs),
                ours: ops(&own),
            });
            continue;
        }
        for (index, (theirs, own)) in theirs.iter().zip(&own).enumerate() {
            let place = format!("{place}, key {key}, record {index}");
            walk(
                &place,
                theirs["op"].as_str().unwrap_or_default(),
                theirs,
                own,
                &mut found,
            );
        }
    }
    found
}

/// The envelopes of each key, with what is beside the value; a tombstone is an operation like the others.
fn by_key(records: &[Record]) -> BTreeMap<String, Vec<Json>> {
    let mut keys: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for record in records {
        let mut envelope = match &record.value {
            Some(value) => value.is.clone(),
            None => json!({"op": "tombstone"}),
        };
        for header in [NEW_KEY, OLD_KEY] {
            envelope[header] = Json::Bool(record.headers.contains(header));
        }
        keys.entry(key(record)).or_default().push(envelope);
    }
    keys
}

fn key(record: &Record) -> String {
    record
        .key
        .as_ref()
        .map_or(Json::Null, |key| key.is.clone())
        .to_string()
}

fn walk(place: &str, path: &str, debezium: &Json, ours: &Json, found: &mut Vec<Difference>) {
    let inside = match (debezium, ours) {
        (Json::Object(theirs), Json::Object(own)) if !is_decimal(theirs) => Some((theirs, own)),
        _ => None,
    };
    if let Some((theirs, own)) = inside {
        let names: BTreeSet<&String> = theirs.keys().chain(own.keys()).collect();
        for name in names {
            let of = |object: &Map<String, Json>| object.get(name).cloned().unwrap_or_default();
            let path = format!("{path}.{name}");
            walk(place, &path, &of(theirs), &of(own), found);
        }
    } else if debezium != ours {
        found.push(Difference {
            place: place.to_owned(),
            path: path.to_owned(),
            what: "value",
            debezium: debezium.clone(),
            ours: ours.clone(),
        });
    }
}

/// A number of any scale is one value, though a struct.
fn is_decimal(object: &Map<String, Json>) -> bool {
    object.keys().eq(["scale", "value"])
}
