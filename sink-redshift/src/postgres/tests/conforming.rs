//! The warehouse does what every target must.

use std::collections::BTreeMap;

use tributary_engine::conformance::{Subject, check};

use super::fixture::Fixture;
use crate::postgres::PostgresWarehouse;

impl Subject for Fixture {
    type Target = PostgresWarehouse;

    fn instance(&self) -> PostgresWarehouse {
        self.warehouse()
    }

    async fn rows(&self) -> BTreeMap<i64, i64> {
        let is_there = "SELECT to_regclass('shop.conforming')::text";
        if self.texts(is_there).await == ["NULL"] {
            return BTreeMap::new();
        }
        let query = "SELECT id, number FROM shop.conforming";
        let rows = self.client.query(query, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    fn refused_text(&self) -> Option<String> {
        Some("a\0b".to_owned())
    }
}

#[tokio::test]
async fn the_warehouse_conforms() {
    check(&Fixture::new().await, "t.shop.conforming").await;
}
