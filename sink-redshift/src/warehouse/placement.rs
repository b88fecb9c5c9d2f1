//! Where a service's tables and its ledger go.

use std::collections::BTreeSet;

use tributary_engine::TableName;
use tributary_runtime::Error;
use tributary_schemas::name::unescape;

use crate::warehouse::name::Qualified;
use crate::warehouse::rules::{TableRules, identifier};

/// Where the ledger is kept unless the configuration names a schema for all tables.
const OWN_SCHEMA: &str = "_tributary";
const LEDGER: &str = "_tributary_ledger";

/// Where a service's tables and its ledger go.
pub(crate) struct Placement {
    /// One schema for all of them; by default each table has the one that it has in the source.
    schema: Option<String>,
}

impl Placement {
    /// All into `schema`, if one is given.
    pub(crate) fn new(schema: Option<&str>) -> Self {
        Self {
            schema: schema.map(str::to_owned),
        }
    }

    /// The table that a topic's table becomes.
    ///
    /// # Errors
    /// A name that the dialect does not take.
    pub(crate) fn table<R: TableRules>(&self, table: &TableName) -> Result<Qualified, Error> {
        let schema = self.schema.as_ref().unwrap_or(&table.schema);
        identifier::<R>(schema)?;
        identifier::<R>(&table.table)?;
        Ok(Qualified::new(schema, &table.table))
    }

    /// The ledger's table.
    pub(crate) fn ledger(&self) -> Qualified {
        Qualified::new(self.schema.as_deref().unwrap_or(OWN_SCHEMA), LEDGER)
    }

    /// The schemas that tables of these topics need, as far as names and patterns say it, and the ledger's.
    pub(crate) fn schemas(&self, topics: &[String]) -> BTreeSet<String> {
        let mut schemas: BTreeSet<String> = match &self.schema {
            Some(_) => BTreeSet::new(),
            None => topics.iter().filter_map(|topic| schema_of(topic)).collect(),
        };
        schemas.insert(self.ledger().schema);
        schemas
    }
}

/// The schema that a topic's table goes to, where the name or pattern says it.
fn schema_of(topic: &str) -> Option<String> {
    let parts: Vec<_> = topic.split('.').collect();
    let [.., schema, table] = parts[..] else {
        return None;
    };
    let is_pattern = |part: &str| part.contains(['*', '?']);
    // In `shop.*` the asterisk may stand for schema and table.
    let unclear = is_pattern(schema) || (is_pattern(table) && parts.len() < 3);
    (!unclear).then(|| unescape(schema))
}

#[cfg(test)]
mod tests {
    use super::schema_of;

    #[test]
    fn the_schema_is_taken_from_a_topic_that_names_it() {
        for (topic, schema) in [
            ("shop.sales.order", Some("sales")),
            ("shop.sales.*", Some("sales")),
            ("shop.a_u0020b.*", Some("a b")),
            ("shop.*", None),
            ("shop.*.order", None),
            ("orders", None),
        ] {
            assert_eq!(schema_of(topic).as_deref(), schema, "{topic}");
        }
    }
}
