//! The two publications of a source.

use tokio_postgres::Client;
use tributary_runtime::{Error, Policy, Problem, ResultExt};

use crate::catalog::CatalogTable;
use crate::database::Database;
use crate::fault::UndefinedObject;
use crate::plugin::Plugin;
use crate::quote::{identifier, qualified};

/// The names of a source's two publications.
#[derive(Debug, Clone)]
pub struct PublicationNames {
    /// Of the tables with a key.
    pub keyed: String,
    /// Of those without: it publishes no updates and deletes, or Postgres would refuse the application's.
    pub keyless: String,
    /// The slot's plug-in: only pgoutput uses publications.
    pub plugin: Plugin,
}

impl PublicationNames {
    pub(super) fn are_used(&self) -> bool {
        self.plugin == Plugin::Pgoutput
    }
}

/// One of the two publications of a source. Both are always there, empty or not: the stream names both, and one that is
/// made later would be missing at the older positions that a restart decodes again.
#[derive(Debug)]
pub struct Publication<'a> {
    /// Its name, not quoted.
    pub name: String,
    /// The tables that it is to carry.
    pub tables: Vec<&'a CatalogTable>,
    /// What it publishes; a table without a key must not publish updates and deletes.
    pub publish: &'static str,
}

impl Publication<'_> {
    /// The statement that creates it.
    pub fn create_statement(&self) -> String {
        let tables: Vec<_> = self
            .tables
            .iter()
            // Without ONLY the tables that inherit from one would come along.
            .map(|t| format!("ONLY {}", qualified(&t.table.schema, &t.table.name)))
            .collect();
        let tables = if tables.is_empty() {
            String::new()
        } else {
            format!(" FOR TABLE {}", tables.join(", "))
        };
        format!(
            "CREATE PUBLICATION {}{tables} WITH (publish = '{}', publish_via_partition_root = true)",
            identifier(&self.name),
            self.publish
        )
    }

    /// Whether it exists. Which tables it carries: see [`Members`](super::Members).
    ///
    /// # Errors
    /// It exists, and is not of our kind.
    pub async fn exists(&self, client: &Client, database: &Database) -> Result<bool, Error> {
        match self.look(client, database).await? {
            Found::AsWanted => Ok(true),
            Found::Missing => Ok(false),
            Found::Other(problem) => Err(problem.into()),
        }
    }

    async fn look(&self, client: &Client, database: &Database) -> Result<Found, Error> {
        // Whole schemas in a publication exist since PG15, generated columns since PG18.
        let query = "SELECT p.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_depend d
                    ON d.classid = c.oid AND d.refclassid = 'pg_catalog.pg_publication'::regclass AND d.refobjid = p.oid
                WHERE c.relname = 'pg_publication_namespace' AND c.relnamespace = 'pg_catalog'::regnamespace),
                p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
                coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') <> 'n'
            FROM pg_catalog.pg_publication p WHERE p.pubname = $1";
        let row = client
            .query_opt(query, &[&self.name])
            .await
            .map_err(|e| database.explain(e))?;
        let Some(row) = row else {
            return Ok(Found::Missing);
        };
        let lists_tables = !row.get::<_, bool>(0);
        let wants_changes = self.publish.contains("update");
        let generated: bool = row.get(6);
        let as_we_want = row.get(1)
            && row.get::<_, bool>(2) == wants_changes
            && row.get::<_, bool>(3) == wants_changes
            && row.get(4)
            && row.get(5)
            && !generated;
        if lists_tables && as_we_want {
            return Ok(Found::AsWanted);
        }
        let (name, publish) = (&self.name, self.publish);
        let quoted = identifier(name);
        let remedy = if lists_tables {
            let without = if generated {
                ", publish_generated_columns = none"
            } else {
                ""
            };
            format!(
                "ALTER PUBLICATION {quoted} SET (publish = '{publish}', publish_via_partition_root = true{without})"
            )
        } else {
            format!("DROP PUBLICATION {quoted}; {}", self.create_statement())
        };
        let problem = Problem::new(format!(
            "publication '{name}' exists, but does not publish '{publish}' of listed tables via the partition root, without \
             generated columns"
        ));
        Ok(Found::Other(problem.remedy(remedy)))
    }

    /// Creates it where it is missing.
    pub async fn ensure(&self, client: &Client, database: &Database) -> Result<(), Error> {
        if self.exists(client, database).await? {
            return Ok(());
        }
        change(client, database, &self.create_statement(), "the tables")
            .await
            .doing(|| format!("create publication '{}'", self.name))?;
        tracing::info!(
            publication = self.name,
            tables = self.tables.len(),
            "created the publication"
        );
        Ok(())
    }
}

/// Runs statements that change a publication. A lock that somebody holds on a table is waited for 2 s: nothing else goes on
/// meanwhile.
///
/// # Errors
/// The server refuses: mostly for want of ownership of `owned`.
pub(super) async fn change(
    client: &Client,
    database: &Database,
    statements: &str,
    owned: &str,
) -> Result<(), Error> {
    let in_time = format!("SET LOCAL lock_timeout = '2s'; {statements}");
    client.batch_execute(&in_time).await.map_err(|error| {
        let error = database.explain(error);
        match error.policy() {
            Policy::Stop => error.remedy(format!("as the owner of {owned}, run: {statements}")),
            Policy::Retry => error,
        }
    })
}

/// What is there under a publication's name.
enum Found {
    Missing,
    AsWanted,
    Other(Problem),
}

/// What is wrong with our publications.
#[derive(Debug, Default)]
pub struct Faults {
    /// One that is not there.
    pub missing: Option<String>,
    /// One that is not of our kind.
    pub other: Option<Problem>,
}

/// Looks at the publications that carry these tables.
pub async fn faults(
    client: &Client,
    database: &Database,
    names: &PublicationNames,
    tables: &[CatalogTable],
) -> Result<Faults, Error> {
    let mut faults = Faults::default();
    for publication in publications(tables, names) {
        match publication.look(client, database).await? {
            Found::AsWanted => {}
            Found::Missing => faults.missing = Some(publication.name),
            Found::Other(problem) => faults.other = Some(problem),
        }
    }
    Ok(faults)
}

/// The publication of ours that an error of the stream speaks of, in whatever language.
pub fn spoken_of(error: &Error, names: &PublicationNames) -> Option<String> {
    let undefined = error.cause().downcast_ref::<UndefinedObject>()?;
    let known = publications(&[], names).into_iter().map(|one| one.name);
    let quoted = undefined.message();
    // One name is the beginning of the other.
    known
        .filter(|name| quoted.contains(name))
        .max_by_key(String::len)
}

/// The publications that carry these tables: with a key, and without. Only pgoutput uses them.
pub fn publications<'a>(
    tables: &'a [CatalogTable],
    names: &PublicationNames,
) -> Vec<Publication<'a>> {
    if !names.are_used() {
        return Vec::new();
    }
    let (keyless, keyed): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.is_keyless());
    [
        (&names.keyed, keyed, "insert, update, delete, truncate"),
        (&names.keyless, keyless, "insert, truncate"),
    ]
    .into_iter()
    .map(|(name, tables, publish)| Publication {
        name: name.clone(),
        tables,
        publish,
    })
    .collect()
}
