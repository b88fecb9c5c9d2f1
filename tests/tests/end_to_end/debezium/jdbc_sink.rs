//! A consumer that nobody here wrote: what statements give old rows reaches it too, since it comes as rows.
//!
//! What it does in its own way: it adds columns and drops none, so that the copies are compared by the columns that the
//! source has; it keeps a column's type, and stops at a value of another one; it knows no composites. Rows that are gone
//! without a delete of theirs (a TRUNCATE, a partition that is detached, truncated or dropped) it keeps: the record that
//! says so is a truncate for it, which it leaves out unless `truncate.enabled` is set. That must not be: the same record
//! ends every table that is read again, and would empty it.

use std::time::Instant;

use tokio_postgres::Client;
use tributary_tests::debezium::{ConnectSink, Jvm};
use tributary_tests::oracle::{TopicReader, compare_warehouse};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;
use tributary_tests::statements::{Changes, EACH, Statement, Topics, create};

use super::{PATIENCE, POLL};

/// The statements after which it keeps rows that are gone.
const TAKE_ROWS: [&str; 3] = ["detached", "dropped", "truncated"];
/// Behind each round so many rows: each partition of a topic has one of them behind all else.
const MARKS: u32 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_statements_give_old_rows_reaches_a_stock_consumer() {
    let mut statements = EACH.to_vec();
    statements
        .retain(|statement| !matches!(statement.changes, Changes::Type | Changes::Attributes));
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "jdbc_sink").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let sql = format!("CREATE SCHEMA s; {}", create(&statements, false));
    client.batch_execute(&sql).await.unwrap();
    let watched = "[postgres]\nwatch_interval_ms = 200\n";
    let config = pipeline
        .source_config()
        .replacen("[postgres]\n", watched, 1);
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let mut topics = Topics::new(reader, pipeline.prefix());
    let names: Vec<String> = statements.iter().map(|one| topics.of(one)).collect();
    let dir = pipeline.dir().join("jdbc");
    let mut sink = ConnectSink::jdbc(
        &stack,
        &dir,
        Jvm::Brief,
        &names,
        &pipeline.warehouse_url,
        &[],
    )
    .unwrap();
    let copy = pipeline.warehouse().await.unwrap();
    let widened = statements.iter().find(|one| one.name == "widened");
    let widened = *widened.unwrap();
    let rounds: [&dyn Fn(&Statement) -> String; 3] = [
        &|_: &Statement| String::new(),
        &Statement::alone,
        &Statement::inside,
    ];
    for (round, sql) in (1..).zip(rounds) {
        for statement in &statements {
            client.batch_execute(&sql(statement)).await.unwrap();
        }
        topics
            .converge(&client, &statements, PATIENCE)
            .await
            .unwrap();
        for statement in &statements {
            let first = 100 + round * 100;
            let marks = statement.insert(first, first + MARKS - 1);
            client.batch_execute(&marks).await.unwrap();
        }
        for (statement, topic) in statements.iter().zip(&names) {
            follows(&mut sink, (&client, &copy), statement, topic).await;
        }
        if round == 1 {
            widen(&copy, &topics.of(&widened)).await;
        }
    }
}

/// Makes room for what the column is about to have: the sink does not.
async fn widen(copy: &Client, topic: &str) {
    let table = ConnectSink::table(topic);
    let alter = format!(
        "ALTER TABLE {table} ALTER COLUMN tier TYPE bigint, ALTER COLUMN level TYPE bigint"
    );
    copy.batch_execute(&alter).await.unwrap();
}

/// Waits until the sink's copy is the table.
async fn follows(
    sink: &mut ConnectSink,
    (client, copy): (&Client, &Client),
    statement: &Statement,
    topic: &str,
) {
    let deadline = Instant::now() + PATIENCE;
    let table = ConnectSink::table(topic);
    loop {
        // Until it has made the table, and a column, there is an error.
        let compared = compare_warehouse(client, &statement.table(), copy, &table).await;
        if let Ok(found) = &compared
            && is_followed(statement, found)
        {
            return;
        }
        sink.alive().unwrap();
        assert!(
            Instant::now() < deadline,
            "{}: {compared:?}\n{}",
            statement.name,
            sink.log_tail()
        );
        tokio::time::sleep(POLL).await;
    }
}

fn is_followed(statement: &Statement, found: &[String]) -> bool {
    let takes = TAKE_ROWS.contains(&statement.name);
    found
        .iter()
        .all(|one| takes && one.ends_with("should be gone"))
}
