//! `check`: tries everything that `run` needs, changes nothing, and reports all that is wrong at once.

use tokio_postgres::Client;
use tributary_runtime::registry::Registry;
use tributary_runtime::{Error, Problem};

use crate::catalog::{Catalog, CatalogTable};
use crate::config::SourceConfig;
use crate::database::{Database, identifier, qualified};
use crate::publication::{Slot, publications};
use crate::session::{server_problems, topic_specs};
use crate::topics::Topics;
use crate::wal2json::limits;

/// Everything that keeps this source from running.
pub(crate) async fn run(config: &SourceConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    let tables = match postgres(config, &mut problems).await {
        Ok(tables) => tables,
        Err(error) => {
            problems.push(Problem::from(&error));
            Vec::new()
        }
    };
    if let Err(error) = kafka(config, &tables, &mut problems).await {
        problems.push(Problem::from(&error));
    }
    let registry = match Registry::new(&config.kafka.registry) {
        Ok(registry) => registry.check().await,
        Err(error) => Err(error),
    };
    if let Err(error) = registry {
        problems.push(Problem::from(&error));
    }
    problems
}

async fn postgres(
    config: &SourceConfig,
    problems: &mut Vec<Problem>,
) -> Result<Vec<CatalogTable>, Error> {
    let database = Database::new(config).map_err(Error::stop)?;
    let client = database.connect().await?;
    problems.extend(
        server_problems(&client, &database)
            .await?
            .iter()
            .map(Problem::from),
    );
    if let Some(slot) = Slot::read(&client, &database, &config.slot_name()).await? {
        problems.extend(
            slot.usable(&config.slot_name(), config.postgres.plugin, &database)
                .err()
                .as_ref()
                .map(Problem::from),
        );
    }
    let tables = Catalog::new(&client, &database)
        .select(&config.postgres.tables)
        .await?;
    for table in &tables {
        problems.extend(privileges(&client, &database, table).await?);
    }
    for publication in publications(&tables, config) {
        match publication.exists(&client, &database).await {
            Ok(true) => {}
            Ok(false) => problems.extend(
                may_create(&client, &database, &publication.create_statement(), &tables).await?,
            ),
            Err(error) => problems.push(Problem::from(&error)),
        }
    }
    let limits = limits::problems(config, &client, &database, &tables).await?;
    problems.extend(limits.iter().map(Problem::from));
    Ok(tables)
}

/// USAGE on the schema and SELECT on the table: what the snapshot and the look-ups need.
async fn privileges(
    client: &Client,
    database: &Database,
    table: &CatalogTable,
) -> Result<Vec<Problem>, Error> {
    let (schema, name) = (&table.table.schema, &table.table.name);
    let row = client
        .query_one(
            "SELECT pg_catalog.has_schema_privilege($1::text, 'USAGE'), pg_catalog.has_table_privilege($2::oid, 'SELECT')",
            &[schema, &table.table.oid],
        )
        .await
        .map_err(|e| database.explain(e))?;
    let user = identifier(database.user());
    let mut problems = Vec::new();
    if !row.get::<_, bool>(0) {
        problems.push(
            Problem::new(format!(
                "user '{}' may not use schema {schema}",
                database.user()
            ))
            .remedy(format!(
                "GRANT USAGE ON SCHEMA {} TO {user}",
                identifier(schema)
            )),
        );
    }
    if !row.get::<_, bool>(1) {
        problems.push(
            Problem::new(format!(
                "user '{}' may not read table {schema}.{name}",
                database.user()
            ))
            .remedy(format!(
                "GRANT SELECT ON {} TO {user}",
                qualified(schema, name)
            )),
        );
    }
    Ok(problems)
}

/// A missing publication is created at the start, which takes CREATE on the database and the tables' owner.
async fn may_create(
    client: &Client,
    database: &Database,
    statement: &str,
    tables: &[CatalogTable],
) -> Result<Option<Problem>, Error> {
    let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
    let row = client
        .query_one(
            "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
                AND (SELECT pg_catalog.bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE'))
                     FROM pg_catalog.pg_class c WHERE c.oid = ANY($1))",
            &[&oids],
        )
        .await
        .map_err(|e| database.explain(e))?;
    if row.get::<_, Option<bool>>(0).unwrap_or(false) {
        return Ok(None);
    }
    Ok(Some(
        Problem::new(format!(
            "the publication is missing, and user '{}' may not create it",
            database.user()
        ))
        .remedy(format!("as the owner of the tables, run: {statement}")),
    ))
}

async fn kafka(
    config: &SourceConfig,
    tables: &[CatalogTable],
    problems: &mut Vec<Problem>,
) -> Result<(), Error> {
    let specs = topic_specs(config, tables)?;
    problems.extend(
        Topics::new(config)?
            .contradictions(&specs)
            .await?
            .iter()
            .map(Problem::from),
    );
    Ok(())
}
