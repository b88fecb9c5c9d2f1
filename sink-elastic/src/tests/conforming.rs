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
        let path = format!("/{}/_refresh", self.alias());
        assert_eq!(self.call(Method::POST, &path, None).await.0, 200);
        let path = format!("/{}/_search?size=1000", self.alias());
        let (status, answer) = self.call(Method::GET, &path, None).await;
        assert_eq!(status, 200, "{answer}");
        let hits = answer["hits"]["hits"].as_array().unwrap().iter();
        let rows = hits.map(|hit| {
            let row = &hit["_source"];
            (row["id"].as_i64().unwrap(), row["number"].as_i64().unwrap())
        });
        rows.collect()
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
