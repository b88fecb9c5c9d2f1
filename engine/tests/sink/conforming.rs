//! The double does what every target must. Runs with the feature `conformance`, which the sinks' tests ask for.

use std::collections::BTreeMap;

use tributary_engine::conformance::{Subject, check};

use crate::double::Target;

impl Subject for Target {
    type Target = Self;

    fn instance(&self) -> Self {
        self.clone()
    }

    async fn rows(&self) -> BTreeMap<i64, i64> {
        self.state().live_rows()
    }

    fn refused_text(&self) -> Option<String> {
        None
    }
}

#[tokio::test]
async fn the_double_conforms() {
    check(&Target::new(), "double.s.t").await;
}
