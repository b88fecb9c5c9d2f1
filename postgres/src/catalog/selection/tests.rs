use std::collections::HashMap;

use tributary_runtime::Error;

use super::{PartitionTopics, TableHead, TopicNames, Wanted, collision};
use crate::catalog::Catalog;
use crate::database::Database;

struct Prefixed;

impl TopicNames for Prefixed {
    fn topic_of(&self, schema: &str, table: &str) -> Result<String, Error> {
        Ok(format!("p.{schema}.{table}"))
    }
}

#[test]
fn topics_that_kafka_does_not_tell_apart_are_refused() {
    let mut taken = HashMap::new();
    let mut problem = |schema: &str, name: &str| {
        let head = TableHead {
            oid: 1,
            schema: schema.to_owned(),
            name: name.to_owned(),
            partitioned: false,
            identity: "d".to_owned(),
        };
        collision(&mut taken, &Prefixed, &head)
    };
    assert!(problem("shop", "eu_orders").is_none());
    assert!(problem("shop", "eu_order").is_none());
    let problem = problem("shop_eu", "orders").unwrap();
    assert!(problem.what.contains("'p.shop_eu.orders'"), "{problem:?}");
    assert!(problem.what.contains("'p.shop.eu_orders'"), "{problem:?}");
}

/// A statement's snapshot has the schema, and the privilege function, which asks for what there is now, answers null.
#[tokio::test]
async fn a_schema_that_vanishes_is_passed_over() {
    let database = Database::of_stack();
    let (client, other) = (
        database.connect().await.unwrap(),
        database.connect().await.unwrap(),
    );
    let schema = format!("vanishing_{}", std::process::id());
    let create = format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id int PRIMARY KEY)");
    other.batch_execute(&create).await.unwrap();
    let patterns = [format!("{schema}.*")];
    let wanted = Wanted {
        patterns: &patterns,
        partitions: PartitionTopics::Root,
        topics: &Prefixed,
    };
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class";
    client.batch_execute(begin).await.unwrap();
    let selection = Catalog::new(&client, &database)
        .select(&wanted)
        .await
        .unwrap();
    assert_eq!(selection.tables.len(), 1);
    other
        .batch_execute(&format!("DROP SCHEMA {schema} CASCADE"))
        .await
        .unwrap();
    let selection = Catalog::new(&client, &database)
        .select(&wanted)
        .await
        .unwrap();
    assert_eq!((selection.tables.len(), selection.unusable.len()), (0, 0));
}
