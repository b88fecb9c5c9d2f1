//! Mistakes put into what was decoded: the comparison must find each, or it shows nothing.

use serde_json::{Value as Json, json};
use tributary_tests::debezium::{Decoded, Record, compare_records, compare_schemas};

use super::meant::{Meant, STRUCTURE, VALUES};
use super::{Difference, Side};

/// Fields of `after` in an envelope's schema, as every table has some: `/1` is `after`, and `source` follows.
const COLUMNS: &str = "/fields/1/schema/fields";

/// Plants one mistake after the other. `topics` holds Debezium's and ours of each table, the product's first.
pub(crate) fn are_found(decoded: &Decoded, topics: &[String]) {
    let [theirs, ours, other, ..] = topics else {
        unreachable!()
    };
    let schema = |topic: &str, side| decoded.schemas_of(topic, side).unwrap()[0].clone();
    for side in [Side::Key, Side::Value] {
        // One table's topic is not another's.
        let found = compare_schemas(ours, &schema(other, side), &schema(ours, side));
        assert!(
            any_unmeant(&STRUCTURE, &found),
            "another table's {side:?} schema"
        );
    }
    for (mistake, plant) in IN_SCHEMAS {
        let mut wrong = schema(ours, Side::Value);
        plant(&mut wrong);
        let found = compare_schemas(
            &format!("{ours} value"),
            &schema(theirs, Side::Value),
            &wrong,
        );
        assert!(any_unmeant(&STRUCTURE, &found), "not found: {mistake}");
    }
    for (mistake, plant) in IN_RECORDS {
        let mut wrong = decoded.records(ours).unwrap().to_vec();
        plant(&mut wrong);
        let found = compare_records(ours, decoded.records(theirs).unwrap(), &wrong);
        assert!(any_unmeant(&VALUES, &found), "not found: {mistake}");
    }
}

fn any_unmeant(list: &[Meant], found: &[Difference]) -> bool {
    found
        .iter()
        .any(|difference| !list.iter().any(|meant| (meant.holds)(difference)))
}

type Plant<T> = (&'static str, fn(&mut T));

const IN_SCHEMAS: [Plant<Json>; 9] = [
    ("a renamed column", |schema| {
        at(schema, COLUMNS)[2]["name"] = json!("nom");
    }),
    ("two columns in another order", |schema| {
        columns(schema).swap(2, 3);
    }),
    ("a column too few", |schema| drop(columns(schema).remove(3))),
    ("another type", |schema| {
        at(schema, COLUMNS)[3]["schema"]["type"] = json!("bytes");
    }),
    ("another semantic type", |schema| {
        at(schema, COLUMNS)[15]["schema"]["name"] = Json::Null;
    }),
    ("another version", |schema| schema["version"] = json!(1)),
    ("a parameter too few", |schema| {
        at(schema, COLUMNS)[10]["schema"]["parameters"] = json!({});
    }),
    ("an optional key column", |schema| {
        at(schema, COLUMNS)[0]["schema"]["optional"] = json!(true);
    }),
    ("array items that may not be null", |schema| {
        at(schema, COLUMNS)[11]["schema"]["items"]["optional"] = json!(false);
    }),
];

const IN_RECORDS: [Plant<Vec<Record>>; 8] = [
    ("a lost record", |records| drop(records.remove(0))),
    ("a doubled record", |records| {
        records.insert(0, records[0].clone());
    }),
    ("a lost tombstone", |records| {
        let tombstone = position(records, |record| record.value.is_none());
        records.remove(tombstone);
    }),
    ("a tombstone before its delete", |records| {
        let tombstone = position(records, |record| record.value.is_none());
        let key = records[tombstone].key.as_ref().unwrap().is.clone();
        let delete = records[..tombstone]
            .iter()
            .rposition(|record| record.key.as_ref().unwrap().is == key)
            .unwrap();
        records.swap(delete, tombstone);
    }),
    ("an altered value", |records| {
        envelope(records, "u")["after"]["price"] = json!("decimal 1 scale 2");
    }),
    ("a value that became null", |records| {
        envelope(records, "r")["after"]["name"] = Json::Null;
    }),
    ("another position", |records| {
        envelope(records, "c")["source"]["lsn"] = json!(1);
    }),
    ("a changed key without its header", |records| {
        let moved = position(records, |record| {
            record.headers.contains("__debezium.oldkey")
        });
        records[moved].headers.clear();
    }),
];

fn at<'a>(schema: &'a mut Json, pointer: &str) -> &'a mut Json {
    schema.pointer_mut(pointer).unwrap()
}

fn columns(schema: &mut Json) -> &mut Vec<Json> {
    at(schema, COLUMNS).as_array_mut().unwrap()
}

fn position(records: &[Record], is: impl Fn(&Record) -> bool) -> usize {
    records.iter().position(is).unwrap()
}

fn envelope<'a>(records: &'a mut [Record], op: &str) -> &'a mut Json {
    let mut envelopes = records
        .iter_mut()
        .filter_map(|record| record.value.as_mut());
    &mut envelopes.find(|value| value.is["op"] == op).unwrap().is
}
