//! From a Relation message to a published table.

mod attributes;

use std::collections::BTreeMap;

use attributes::{Attribute, numbers};
use tributary_runtime::Error;
use tributary_schemas::table::{Column, ColumnType, Table};

use crate::config::{OnTypeChange, SourceConfig, resnapshot_flag};
use crate::log::progress::TableProgress;
use crate::log::table_topic::{Registrar, TableTopic};
use tokio_postgres::Client;
use tributary_postgres::catalog::{Catalog, CatalogTable, KnownTypes, TopicNames};
use tributary_postgres::database::Database;
use tributary_postgres::pgoutput::{Relation, ReplicaIdentity};

/// A Relation message, kept: what tells one shape of a table from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationShape {
    pub(crate) oid: u32,
    schema: String,
    name: String,
    identity: ReplicaIdentity,
    columns: Vec<ShapeColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ShapeColumn {
    name: String,
    key: bool,
    type_oid: u32,
    type_modifier: i32,
}

impl RelationShape {
    pub(crate) fn of(relation: &Relation<'_>) -> Self {
        let columns = relation.columns.iter().map(|column| ShapeColumn {
            name: column.name.to_owned(),
            key: column.key,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        });
        Self {
            oid: relation.oid,
            schema: relation.schema.to_owned(),
            name: relation.name.to_owned(),
            identity: relation.replica_identity,
            columns: columns.collect(),
        }
    }

    /// Whether a message announces just this shape again.
    pub(crate) fn is(&self, relation: &Relation<'_>) -> bool {
        *self == Self::of(relation)
    }

    /// `schema.table`, for messages.
    pub(crate) fn display_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The columns of the key at the time of the change, in key order: `known` is the topic's key, `now` the
    /// catalog's.
    fn key(&self, known: &[String], now: &[String]) -> Vec<String> {
        let has = |key: &[String]| {
            let mut names = key.iter();
            names.all(|name| self.columns.iter().any(|column| column.name == *name))
        };
        // With FULL every column is flagged, so the flags tell the key only without it.
        if self.identity == ReplicaIdentity::Full {
            let key = if has(known) { known } else { now };
            return key.to_vec();
        }
        let flagged = self.columns.iter().filter(|column| column.key);
        let flagged: Vec<&String> = flagged.map(|column| &column.name).collect();
        let same = |key: &[String]| {
            key.len() == flagged.len() && key.iter().all(|name| flagged.contains(&name))
        };
        if same(known) {
            known.to_vec()
        } else if same(now) {
            now.to_vec()
        } else if known.is_empty() && now.is_empty() {
            // Not all of the key is on the wire, or not every partition logs it.
            Vec::new()
        } else if flagged.is_empty() && known == now && has(known) {
            // It was without its key for a while, as a bulk load wants it. Postgres let no row be changed meanwhile, and
            // rows that are new have all columns.
            known.to_vec()
        } else {
            flagged.into_iter().cloned().collect()
        }
    }
}

/// What a Relation message leads to.
#[derive(Debug)]
pub(crate) enum Resolved {
    /// The table as it is published, and its columns' types, to be remembered.
    Ours(Box<TableTopic>, KnownTypes),
    /// A change of it would be a part without its whole: progress does not have it, or has another table of this
    /// name.
    NotOurs,
}

/// Turns Relation messages into tables.
pub(crate) struct Resolver<'a> {
    pub(crate) config: &'a SourceConfig,
    pub(crate) client: &'a Client,
    pub(crate) database: &'a Database,
    pub(crate) registrar: &'a Registrar,
}

impl Resolver<'_> {
    /// The table of a Relation message. `known` is what progress says, by topic.
    ///
    /// The message has the columns as they were at the time of the change; key order, labels and attribute
    /// numbers come from the catalog, which may be newer: see [`numbers`].
    pub(crate) async fn resolve(
        &self,
        known: &BTreeMap<String, TableProgress>,
        shape: &RelationShape,
    ) -> Result<Resolved, Error> {
        // What has no legal topic, as the partition of a table that has one may not, is not followed.
        let topic = self.config.topic_of(&shape.schema, &shape.name).ok();
        let known = topic.and_then(|topic| known.get(&topic));
        let Some(known) = known.filter(|known| known.oid == shape.oid && !known.followed.absent)
        else {
            tracing::info!(
                table = shape.display_name(),
                "the table's rows are not in its topic yet: its changes are left out until they are read"
            );
            return Ok(Resolved::NotOurs);
        };
        let mut catalog = Catalog::new(self.client, self.database);
        if let Some(storage) = &known.followed.storage {
            catalog.remember(&storage.types);
        }
        let now = catalog.table(shape.oid).await?;
        let now = now.as_ref();
        let attributes = Attribute::read(self.client, self.database, shape.oid).await?;
        let names: Vec<&str> = shape.columns.iter().map(|column| &*column.name).collect();
        let remembered = &known.followed.dimensions;
        let mut columns = Vec::new();
        for (column, attnum) in shape.columns.iter().zip(numbers(&names, &attributes)) {
            let known = now.and_then(|now| {
                let mut columns = now.table.columns.iter();
                columns.find(|known| known.attnum == attnum)
            });
            let dimensions = match known {
                Some(known) => known.column_type.dimensions(),
                None => remembered.get(&column.name).copied().unwrap_or(0),
            };
            columns.push(Column {
                name: column.name.clone(),
                attnum,
                column_type: catalog
                    .column_type(column.type_oid, column.type_modifier, dimensions)
                    .await?,
                key_position: None,
            });
        }
        let now = now.map(CatalogTable::key).unwrap_or_default();
        let key = shape.key(&known.followed.key, &now);
        for column in &mut columns {
            let place = key.iter().position(|name| *name == column.name);
            column.key_position = place.and_then(|place| u16::try_from(place).ok());
        }
        let table = Table {
            oid: shape.oid,
            schema: shape.schema.clone(),
            name: shape.name.clone(),
            columns,
        };
        let is_forgotten = self.has_forgotten_types(&catalog, shape, &table)?;
        let published = self.registrar.publish(table, Some(known)).await?;
        if is_forgotten {
            self.registrar.retyped(&published.topic);
        }
        let types: Vec<u32> = shape.columns.iter().map(|column| column.type_oid).collect();
        let types = catalog.known_types(&types);
        Ok(Resolved::Ours(Box::new(published), types))
    }

    /// Whether columns are taken as text since their types are gone, and nobody saw what they were. Then all rows are to be
    /// read again.
    ///
    /// # Errors
    /// So it is, and `on_type_change` does not allow that.
    fn has_forgotten_types(
        &self,
        catalog: &Catalog<'_>,
        shape: &RelationShape,
        table: &Table,
    ) -> Result<bool, Error> {
        let mut typed = table.clone();
        self.config.apply_forms(&mut typed);
        let columns = shape.columns.iter().zip(&typed.columns);
        let mut forgotten = columns.filter_map(|(column, typed)| {
            // As text it travels whatever it is.
            let is_typed = typed.column_type != ColumnType::Text;
            let gone = catalog.unknown(column.type_oid).filter(|_| is_typed)?;
            Some((&column.name, gone))
        });
        let Some((column, oid)) = forgotten.next() else {
            return Ok(false);
        };
        let (name, flag) = (
            shape.display_name(),
            resnapshot_flag(&shape.schema, &shape.name),
        );
        if self.config.on_type_change(table) == OnTypeChange::Stop {
            return Err(Error::stop_msg(format!(
                "table {name}, column {column}: its type (OID {oid}) at the time of the change is gone from the catalog, and what it was is not known: the form of its values cannot be told"
            ))
            .remedy(format!(
                "start the source once with `tributary-source run {flag}`: values from that time travel as text, and then all rows of the table are read again"
            )));
        }
        tracing::warn!(
            table = name,
            column,
            oid,
            "the column's type is gone, and what it was is not known: values from that time travel as text"
        );
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{RelationShape, ReplicaIdentity, ShapeColumn};

    fn shape(identity: ReplicaIdentity, flagged: &[&str]) -> RelationShape {
        let column = |name: &str| ShapeColumn {
            name: name.to_owned(),
            key: flagged.contains(&name),
            type_oid: 23,
            type_modifier: -1,
        };
        RelationShape {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            identity,
            columns: ["a", "b", "c"].map(column).to_vec(),
        }
    }

    #[test]
    fn the_key_is_that_of_the_change() {
        use ReplicaIdentity::{Default, Full};
        for (identity, flagged, known, now, wanted, why) in [
            (
                Default,
                "ab",
                "ba",
                "ba",
                "ba",
                "the catalog knows the order",
            ),
            (Default, "ab", "ba", "c", "ba", "the catalog is newer"),
            (Default, "c", "ba", "c", "c", "another key"),
            (Default, "bc", "a", "cb", "cb", "another key, in order"),
            (
                Default,
                "bc",
                "a",
                "",
                "bc",
                "another key, which is gone again",
            ),
            (Default, "", "a", "a", "a", "without it for a while"),
            (Default, "", "a", "b", "", "lost"),
            (Default, "", "", "a", "", "gained later"),
            (Default, "a", "", "a", "a", "gained"),
            (
                Default,
                "a",
                "",
                "",
                "",
                "a key of which not all is on the wire",
            ),
            (Full, "abc", "b", "c", "b", "the watch tells of another one"),
            (Full, "abc", "x", "c", "c", "a column of it was renamed"),
            (Full, "abc", "", "", "", "none"),
            (Full, "abc", "", "a", "", "the watch tells of it"),
        ] {
            let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
            let flagged = names(flagged);
            let flagged: Vec<&str> = flagged.iter().map(String::as_str).collect();
            let key = shape(identity, &flagged).key(&names(known), &names(now));
            assert_eq!(key, names(wanted), "{why}");
        }
    }
}
