//! From a Relation message to a published table.

use std::collections::BTreeMap;

use tributary_runtime::Error;
use tributary_schemas::table::{Column, Table};

use crate::catalog::Catalog;
use crate::pgoutput::{Relation, ReplicaIdentity};
use crate::progress::TableProgress;
use crate::published::{PublishedTable, topic_name};
use crate::session::Session;

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
}

/// The table as it is published; `None` if `known`, what progress says by topic, does not have it: a change of
/// any other table would be a part without its whole.
///
/// The message has the columns as they were at the time of the change; key order, labels and attribute
/// numbers come from the catalog, which may be newer.
pub(crate) async fn resolve(
    session: &Session,
    known: &BTreeMap<String, TableProgress>,
    shape: &RelationShape,
) -> Result<Option<PublishedTable>, Error> {
    let mut catalog = Catalog::new(&session.client, &session.database);
    let now = catalog.table(shape.oid).await?;
    let known_column = |name: &str| {
        now.as_ref()?
            .table
            .columns
            .iter()
            .find(|column| column.name == name)
    };
    let mut columns = Vec::new();
    for column in &shape.columns {
        let known = known_column(&column.name);
        columns.push(Column {
            name: column.name.clone(),
            attnum: known.map_or(0, |known| known.attnum),
            column_type: catalog
                .column_type(
                    column.type_oid,
                    column.type_modifier,
                    known.map_or(0, |known| known.column_type.dimensions()),
                )
                .await?,
            key_position: known.and_then(|known| known.key_position),
        });
    }
    // With FULL every column is flagged, so the flags tell the key only without it.
    if shape.identity != ReplicaIdentity::Full {
        let agrees = columns
            .iter()
            .zip(&shape.columns)
            .all(|(ours, theirs)| ours.key_position.is_some() == theirs.key);
        if !agrees {
            let mut position = 0..;
            for (column, theirs) in columns.iter_mut().zip(&shape.columns) {
                column.key_position = theirs.key.then(|| position.next()).flatten();
            }
        }
    }
    let table = Table {
        oid: shape.oid,
        schema: shape.schema.clone(),
        name: shape.name.clone(),
        columns,
    };
    let Some(known) = known.get(&topic_name(&session.config, &table)?) else {
        tracing::warn!(
            table = shape.display_name(),
            "the table is in the publication, but was not in this source's snapshot: its changes are left out"
        );
        return Ok(None);
    };
    let published = session.registrar.publish(table, Some(known));
    published.await.map(Some)
}
