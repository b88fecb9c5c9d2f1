//! Statements that give old rows other values: no plug-in tells of them.

use tributary_tests::oracle::TopicReader;
use tributary_tests::statements::{Changes, EACH, Statement, Topics, create};

use super::{PATIENCE, Side, setup};

/// Each alone beside the source, and then inside a transaction, while the source is killed. Partitioned tables wal2json
/// does not carry.
#[tokio::test]
async fn each_statement_without_events_is_followed_with_wal2json() {
    let mut statements = EACH.to_vec();
    statements.retain(|statement| statement.changes != Changes::Partitions);
    let sql = format!("CREATE SCHEMA s; {}", create(&statements, false));
    let (stack, pipeline, client) = setup("plugins_statements", &sql).await;
    let config = "on_type_change = \"resnapshot\"\nwatch_interval_ms = 200";
    let mut side = Side::started_with(&pipeline, "wal2json", config).await;
    let reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let mut topics = Topics::new(reader, &side.prefix);
    let run = async |sql: &dyn Fn(&Statement) -> String| {
        for statement in &statements {
            let sql = sql(statement);
            let run = client.batch_execute(&sql).await;
            run.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    };
    run(&|statement: &Statement| format!("{}; {}", statement.alone(), statement.insert(101, 101)))
        .await;
    let converged = topics.converge(&client, &statements, PATIENCE).await;
    converged.unwrap_or_else(|error| panic!("{error:?}\n{}", side.service.log_tail()));
    side.service.kill().unwrap();
    run(&Statement::inside).await;
    side.service.start().unwrap();
    side.service.wait_ready(PATIENCE).unwrap();
    let converged = topics.converge(&client, &statements, PATIENCE).await;
    converged.unwrap_or_else(|error| panic!("{error:?}\n{}", side.service.log_tail()));
    side.stop();
}
