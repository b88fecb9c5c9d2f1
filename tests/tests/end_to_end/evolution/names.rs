//! Any legal identifier arrives, and is restored by the sinks.

use tributary_tests::oracle::compare_search;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::stack::Stack;

use super::stage::{PATIENCE, Stage};

/// Tables, and the last part of their topics.
fn tables() -> [(String, String); 8] {
    let long = "\u{fc}".repeat(29);
    [
        ("a b".to_owned(), "a_u0020b".to_owned()),
        ("a_u0020b".to_owned(), "a_u005fu0020b".to_owned()),
        (
            "Weird N\u{e4}me-$".to_owned(),
            "Weird_u0020N_u00e4me-_u0024".to_owned(),
        ),
        ("1st".to_owned(), "1st".to_owned()),
        ("case".to_owned(), "case".to_owned()),
        ("CASE".to_owned(), "CASE".to_owned()),
        ("dot.ted".to_owned(), "dot_u002eted".to_owned()),
        (long, "_u00fc".repeat(29)),
    ]
}

const COLUMNS: &str = "\"the id\" int PRIMARY KEY, \"1st\" text, \"a b\" text, \"a_u0020b\" text, \"a\" text, \"A\" text, \"dot.ted\" text,
    \"\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\" text, e s.\"la bel\"";

#[tokio::test(flavor = "multi_thread")]
async fn any_identifier_arrives_and_is_restored() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "names").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let labels =
        "CREATE SCHEMA s; CREATE TYPE s.\"la bel\" AS ENUM ('a b', '\u{e4}\"x', '1st', '{,}', '')";
    client.batch_execute(labels).await.unwrap();
    for (table, _) in &tables() {
        let sql = format!(
            "CREATE TABLE s.\"{table}\" ({COLUMNS});
             INSERT INTO s.\"{table}\" SELECT g, 'one', 'two', 'three', 'four', 'five', 'six', 'seven',
                (enum_range(NULL::s.\"la bel\"))[g] FROM generate_series(1, 5) g"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let mut services = pipeline.services().unwrap();
    for service in &mut services {
        service.start().unwrap();
    }
    services[0].wait_ready(PATIENCE).unwrap();
    for (table, _) in &tables() {
        let sql = format!(
            "UPDATE s.\"{table}\" SET \"a b\" = 'changed' WHERE \"the id\" = 1; DELETE FROM s.\"{table}\" WHERE \"the id\" = 2"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let [source, elastic, redshift] = &mut services;
    pipeline.wait_source(source, PATIENCE).await.unwrap();
    let topics = tables().map(|(_, topic)| format!("s.{topic}"));
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let topics = pipeline.read_topics(&topics).await.unwrap();
    for sink in [elastic, redshift] {
        let group = pipeline.group(sink.kind());
        let waited = pipeline.wait_sink(sink, &group, &topics, PATIENCE);
        waited.await.unwrap();
    }
    for (table, topic) in &tables() {
        let name = format!("s.{table}");
        let differences = pipeline.warehouse_differences(&[&name], None).await;
        assert_eq!(differences.unwrap(), Vec::<String>::new(), "{table}");
        let mut index = format!("{}.s.", pipeline.prefix());
        for letter in topic.chars() {
            if letter.is_ascii_uppercase() {
                index.push('~');
            }
            index.push(letter.to_ascii_lowercase());
        }
        let differences = compare_search(&client, &name, stack.search_url(), &index).await;
        // These two have another name there: docs/search.md.
        let meant = ["field dot.ted: None", "field a_u0020b: None"];
        let mut differences = differences.unwrap();
        differences.retain(|one| !meant.iter().any(|meant| one.contains(meant)));
        assert_eq!(differences, Vec::<String>::new(), "{table}");
    }
}

/// Entries of `postgres.tables` name such tables in double quotes.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_dots_and_quotes_is_selected_by_quoting_it() {
    let sql = "CREATE SCHEMA \"x.y\"; CREATE TABLE \"x.y\".\"a\"\"b.c\" (id int PRIMARY KEY, \"q\"\"uote\" text);
        INSERT INTO \"x.y\".\"a\"\"b.c\" VALUES (1, 'one')";
    let mut stage = Stage::set("quoted", sql, "").await;
    stage.pipeline.tables = vec!["\"x.y\".\"a\"\"b.c\"".to_owned()];
    let config = stage.pipeline.source_config();
    let kind = stage.source.kind();
    stage.source = stage.pipeline.service(kind, "quoted", &config).unwrap();
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage
        .run("UPDATE \"x.y\".\"a\"\"b.c\" SET \"q\"\"uote\" = 'two'")
        .await;
    stage.catch_up().await;
    assert_eq!(stage.ops("x_u002ey.a_u0022b_u002ec").await, "ru");
}
