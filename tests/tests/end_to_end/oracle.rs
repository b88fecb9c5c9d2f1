//! The oracle finds what is planted: one lost, one doubled, one reordered and one altered row.

use std::collections::BTreeMap;

use tributary_tests::oracle::{
    Event, TopicChange, TopicRecord, compare_changes, compare_search, compare_warehouse,
};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::stack::Stack;

fn row(id: &str, name: &str) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([
        ("id".to_owned(), Some(id.to_owned())),
        ("name".to_owned(), Some(name.to_owned())),
    ])
}

fn key(id: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("id".to_owned(), id.to_owned())])
}

fn event(op: char, id: &str, name: &str) -> Event {
    // As the change log has them: an insert without, all others with a key.
    let own_key = if op == 'c' { BTreeMap::new() } else { key(id) };
    let row = if op == 'd' {
        BTreeMap::new()
    } else {
        row(id, name)
    };
    Event {
        table: "s.t".to_owned(),
        key: own_key,
        op,
        row,
    }
}

fn committed() -> Vec<Event> {
    vec![
        event('c', "1", "one"),
        event('c', "2", "two"),
        event('u', "1", "uno"),
        event('u', "1", "eins"),
        event('d', "2", ""),
    ]
}

/// The records of a topic that tells it right.
fn published() -> Vec<TopicRecord> {
    let mut records = Vec::new();
    let mut push = |key, change: Option<TopicChange>| {
        let offset = records.len() as i64;
        records.push(TopicRecord {
            partition: 0,
            offset,
            seq: 100 + offset as u64,
            below: None,
            key,
            change,
            headers: Vec::new(),
        });
    };
    push(
        key("1"),
        Some(TopicChange {
            op: 'r',
            read: true,
            after: row("1", "read by the snapshot"),
        }),
    );
    for event in committed() {
        let id = event
            .row
            .get("id")
            .cloned()
            .flatten()
            .or(event.key.get("id").cloned());
        let key = key(&id.expect("every event has an id"));
        push(
            key.clone(),
            Some(TopicChange {
                op: event.op,
                read: false,
                after: event.row,
            }),
        );
        if event.op == 'd' {
            push(key, None);
        }
    }
    records
}

#[test]
fn a_right_topic_has_no_differences() {
    assert_eq!(
        compare_changes(&committed(), &published()),
        Vec::<String>::new()
    );
}

#[test]
fn a_lost_record_is_found() {
    for index in 1..published().len() {
        let mut records = published();
        records.remove(index);
        assert!(
            !compare_changes(&committed(), &records).is_empty(),
            "record {index}"
        );
    }
}

#[test]
fn a_doubled_record_is_found() {
    for index in 1..published().len() {
        let mut records = published();
        let mut copy = records[index].clone();
        copy.seq = 1_000;
        records.push(copy);
        assert!(
            !compare_changes(&committed(), &records).is_empty(),
            "record {index}"
        );
    }
}

#[test]
fn a_reordered_record_is_found() {
    let mut records = published();
    // The two updates of row 1, with their numbers in order: only the values tell.
    let (first, second) = (records[3].change.take(), records[4].change.take());
    records[3].change = second;
    records[4].change = first;
    assert!(!compare_changes(&committed(), &records).is_empty());
    let mut records = published();
    records[3].seq = records[4].seq;
    assert!(
        !compare_changes(&committed(), &records).is_empty(),
        "a seq given twice"
    );
}

#[test]
fn an_altered_record_is_found() {
    let mut records = published();
    records[2]
        .change
        .as_mut()
        .unwrap()
        .after
        .insert("name".to_owned(), Some("too".to_owned()));
    assert!(
        !compare_changes(&committed(), &records).is_empty(),
        "a value"
    );
    let mut records = published();
    records[2].change.as_mut().unwrap().op = 'u';
    assert!(
        !compare_changes(&committed(), &records).is_empty(),
        "an operation"
    );
    let mut records = published();
    records[2].key = key("3");
    assert!(!compare_changes(&committed(), &records).is_empty(), "a key");
}

const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text, price numeric(9,2), at timestamptz)";
const ROWS: &str = "INSERT INTO s.t VALUES (1, 'one', 1.50, '2024-02-29 12:00:00.5+00'), (2, E'two \t\"quoted\"', 2, NULL), (3, NULL, -0.01, NULL)";

/// A row that is lost, altered, or should be gone, in a real warehouse.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_warehouse_is_found() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "oracle_warehouse").await.unwrap();
    let (source, warehouse) = (
        pipeline.source().await.unwrap(),
        pipeline.warehouse().await.unwrap(),
    );
    for client in [&source, &warehouse] {
        client
            .batch_execute(&format!("{TABLE}; {ROWS}"))
            .await
            .unwrap();
    }
    let differs = async || {
        compare_warehouse(&source, "s.t", &warehouse, "s.t")
            .await
            .unwrap()
    };
    assert_eq!(differs().await, Vec::<String>::new());
    for (plant, undo) in [
        (
            "UPDATE s.t SET price = 1.51 WHERE id = 1",
            "UPDATE s.t SET price = 1.50 WHERE id = 1",
        ),
        (
            "UPDATE s.t SET name = '' WHERE id = 3",
            "UPDATE s.t SET name = NULL WHERE id = 3",
        ),
        ("INSERT INTO s.t VALUES (4)", "DELETE FROM s.t WHERE id = 4"),
        ("DELETE FROM s.t WHERE id = 2", ""),
    ] {
        warehouse.batch_execute(plant).await.unwrap();
        assert_eq!(differs().await.len(), 1, "{plant}");
        warehouse.batch_execute(undo).await.unwrap();
    }
}

/// The same in a real index.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_index_is_found() {
    let stack = Stack::from_env().unwrap();
    let pipeline = Pipeline::new(&stack, "oracle_index").await.unwrap();
    let source = pipeline.source().await.unwrap();
    source
        .batch_execute(&format!("{TABLE}; {ROWS}; DELETE FROM s.t WHERE id = 3"))
        .await
        .unwrap();
    let index = pipeline.topic("s.t");
    let http = tributary_tests::http::client();
    let put = async |id: &str, document: &str| {
        let url = format!("{}/{index}/_doc/{id}?refresh=true", stack.search_url());
        let request = http
            .put(url)
            .header("content-type", "application/json")
            .body(document.to_owned());
        request.send().await.unwrap().error_for_status().unwrap();
    };
    let right = [
        (
            "1",
            r#"{"id":1,"name":"one","price":1.50,"at":"2024-02-29T12:00:00.5Z"}"#,
        ),
        (
            "2",
            r#"{"id":2,"name":"two \t\"quoted\"","price":2.00,"at":null}"#,
        ),
    ];
    let differs = async || {
        let found = compare_search(&source, "s.t", stack.search_url(), &index).await;
        found.unwrap()
    };
    for (id, document) in right {
        put(id, document).await;
    }
    assert_eq!(differs().await, Vec::<String>::new());
    for (id, wrong) in [
        (
            "1",
            r#"{"id":1,"name":"one","price":1.5001,"at":"2024-02-29T12:00:00.5Z"}"#,
        ),
        (
            "1",
            r#"{"id":1,"name":"one","price":1.50,"at":"2024-02-29T12:00:01Z"}"#,
        ),
        ("2", r#"{"id":2,"name":null,"price":2.00,"at":null}"#),
        // Last, since it stays: a document that should be gone.
        ("3", r#"{"id":3,"name":null,"price":0,"at":null}"#),
    ] {
        put(id, wrong).await;
        assert_eq!(differs().await.len(), 1, "{wrong}");
        for (id, document) in right {
            put(id, document).await;
        }
    }
    let url = format!("{}/{index}/_doc/1?refresh=true", stack.search_url());
    http.delete(url)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    assert_eq!(
        differs().await.len(),
        2,
        "a lost document beside the one that should be gone"
    );
}
