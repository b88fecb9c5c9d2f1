//! Tables without a key: what is not published of them is said wherever somebody looks, with what helps.

use serde_json::Value;

use super::*;

const SQL: &str = "CREATE SCHEMA s; CREATE TABLE s.keyed (id int PRIMARY KEY, name text);
    CREATE TABLE s.visit (id int NOT NULL, name text); ALTER TABLE s.visit REPLICA IDENTITY FULL;
    CREATE TABLE s.chosen (id int NOT NULL, name text); ALTER TABLE s.chosen REPLICA IDENTITY FULL;
    INSERT INTO s.visit SELECT g, 'row ' || g FROM generate_series(1, 10) g";

fn json(service: &Service, command: &str) -> (i32, Value) {
    let (code, out, err) = service.command(&[command, "--output", "json"]).unwrap();
    let json = serde_json::from_str(&out);
    (code, json.unwrap_or_else(|_| panic!("{out}{err}")))
}

/// The tables that notes are about: each says what is left out, and does not send somebody to REPLICA IDENTITY FULL.
fn noted(notes: &Value) -> Vec<String> {
    let notes = notes.as_array().unwrap().iter();
    let table = |note: &Value| {
        let note = match &note["what"] {
            Value::Null => note.as_str().unwrap().to_owned(),
            what => format!(
                "{} {}",
                what.as_str().unwrap(),
                note["remedy"].as_str().unwrap()
            ),
        };
        for part in [
            "its UPDATE and DELETE are not",
            "give it a primary key",
            "REPLICA IDENTITY USING INDEX",
            "REPLICA IDENTITY FULL is none",
        ] {
            assert!(note.contains(part), "'{part}' is missing in: {note}");
        }
        note.split(' ').nth(1).unwrap().to_owned()
    };
    let mut tables: Vec<String> = notes.map(table).collect();
    tables.sort_unstable();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_keyless_tables_are_not_lost_in_silence() {
    let (stack, pipeline, client) = pipeline("keyless", SQL).await;
    let mut source = pipeline
        .service(Kind::Source, "source", &pipeline.source_config())
        .unwrap();
    let both = ["s.chosen", "s.visit"];
    for command in ["check", "plan"] {
        let (code, told) = json(&source, command);
        assert_eq!(code, 0, "a table that is appended to is no fault: {told}");
        assert_eq!(noted(&told["notes"]), both, "{command}");
        let (_, text, _) = source.command(&[command]).unwrap();
        assert!(text.contains("table s.visit has no key"), "{text}");
        assert!(!text.contains("table s.keyed"), "{text}");
    }

    // The remedy, before there is a topic.
    client
        .batch_execute(
            "CREATE UNIQUE INDEX chosen_id ON s.chosen (id);
             ALTER TABLE s.chosen REPLICA IDENTITY USING INDEX chosen_id",
        )
        .await
        .unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute(
            "INSERT INTO s.chosen VALUES (1, 'a'); UPDATE s.chosen SET name = 'b';
             UPDATE s.visit SET name = 'changed' WHERE id = 1; DELETE FROM s.visit WHERE id = 2",
        )
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let (_, ready) = source.get("/ready").unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(
        (noted(&ready["notes"]), &ready["ready"]),
        (vec!["s.visit".to_owned()], &true.into())
    );
    let (code, status) = json(&source, "status");
    assert_eq!(
        (code, noted(&status["notes"])),
        (0, vec!["s.visit".to_owned()])
    );
    let (_, text, _) = source.command(&["status"]).unwrap();
    let row = text.lines().find(|line| line.starts_with("s.visit"));
    assert!(
        row.is_some_and(|row| row.contains("UPDATE and DELETE are not published")),
        "{text}"
    );
    assert!(
        source.log().contains("table s.visit has no key"),
        "{}",
        source.log()
    );
    let chosen = records(&stack, &pipeline, "s.chosen").await;
    assert_eq!(fold(&chosen), table_of(&client, "chosen").await);

    remedy_where_there_is_a_topic(&stack, &pipeline, &mut source, &client).await;
}

async fn remedy_where_there_is_a_topic(
    stack: &Stack,
    pipeline: &Pipeline,
    source: &mut Service,
    client: &Client,
) {
    client
        .batch_execute(
            "BEGIN; ALTER TABLE s.visit ADD PRIMARY KEY (id); ALTER TABLE s.visit RENAME TO visited; COMMIT",
        )
        .await
        .unwrap();
    wait_until("the table to be taken in", || {
        let (_, status) = json(source, "status");
        let tables = status["details"]["tables"].to_string();
        tables.contains("s.visited") && status["details"]["snapshot"].is_null()
    })
    .await;
    client
        .batch_execute(
            "UPDATE s.visited SET name = 'again' WHERE id = 3; DELETE FROM s.visited WHERE id = 4",
        )
        .await
        .unwrap();
    pipeline.wait_source(source, PATIENCE).await.unwrap();
    let visited = records(stack, pipeline, "s.visited").await;
    assert_eq!(fold(&visited), table_of(client, "visited").await);
}

async fn table_of(client: &Client, table: &str) -> BTreeMap<String, String> {
    let sql = format!("SELECT id::text, coalesce(name, '') FROM s.{table}");
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
