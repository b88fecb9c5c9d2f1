//! The index does what every target must.

use std::collections::BTreeMap;

use reqwest::Method;
use tributary_engine::conformance::{Subject, check};

use super::fixture::Fixture;
use crate::lane::Elastic;

impl Subject for Fixture {
    type Target = Elastic;

    fn instance(&self) -> Elastic {
        Elastic::new(self.config.clone()).unwrap()
    }

    async fn rows(&self) -> BTreeMap<i64, i64> {
        let path = format!("/{}", self.alias());
        if self.call(Method::GET, &path, None).await.0 == 404 {
            return BTreeMap::new();
        }
        let documents = self.documents().await.into_iter();
        documents
            .map(|(_, row)| (row["id"].as_i64().unwrap(), row["number"].as_i64().unwrap()))
            .collect()
    }

    fn refused_text(&self) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn the_index_conforms() {
    let fixture = Fixture::new();
    check(&fixture, &fixture.topic).await;
    fixture.finish().await;
}
