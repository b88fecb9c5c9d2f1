//! `check`: tries everything that `run` needs, changes nothing, and reports all that is wrong at once.

mod failover;
mod plugin;

use std::sync::Arc;

use tokio_postgres::Client;
use tributary_runtime::registry::Registry;
use tributary_runtime::{Error, Problem};

use crate::config::SourceConfig;
use crate::log::claims::Claims;
use crate::log::specs::topic_specs;
use crate::log::topics::Topics;
use tributary_postgres::catalog::{Catalog, CatalogTable};
use tributary_postgres::database::Database;
use tributary_postgres::decoder::limits;
use tributary_postgres::publication::{self, Members};
use tributary_postgres::server;
use tributary_postgres::slot::Slot;

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
    let all = config.database().map_err(Error::stop)?;
    let (database, client) = all.primary().await?;
    problems.extend(
        server::problems(&client, &database)
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
    let mut catalog = Catalog::new(&client, &database);
    let selection = catalog.select(&config.wanted()).await?;
    problems.extend(selection.problems().cloned());
    problems.extend(catalog.row_security(&selection.tables).await?);
    problems.extend(unused_patterns(config, &selection.tables));
    let publications = config.publications();
    let mut missing = Vec::new();
    // What may not be read yet has to be published, too.
    let selected = [&selection.tables[..], &selection.unreadable].concat();
    for publication in publication::publications(&selected, &publications) {
        match publication.exists(&client, &database).await {
            Ok(true) => {}
            Ok(false) => {
                let oids = publication.tables.iter().map(|table| table.table.oid);
                missing.push((publication.create_statement(), oids.collect::<Vec<_>>()));
            }
            Err(error) => problems.push(Problem::from(&error)),
        }
    }
    problems.extend(failover::problems(config, &all, &database, &client).await?);
    let members = Members::read(&client, &database, &publications).await?;
    problems.extend(members.restricted(&publications));
    if missing.is_empty() {
        let corrections = members.corrections(&selection, &publications);
        missing.extend(corrections.into_iter().map(|one| (one.sql, vec![one.oid])));
    }
    for (statement, oids) in missing {
        problems.extend(may_publish(&client, &database, &statement, &oids).await?);
    }
    let limits = limits::problems(
        config.postgres.plugin,
        &client,
        &database,
        &selection.tables,
    )
    .await?;
    problems.extend(limits.iter().map(Problem::from));
    problems.extend(selection.tables.iter().filter_map(CatalogTable::note));
    problems.extend(plugin::refused(config, &client, &database).await?);
    Ok(selection.tables)
}

/// Entries of the configuration that fit nothing.
fn unused_patterns(config: &SourceConfig, tables: &[CatalogTable]) -> Vec<Problem> {
    let problem = |entry: &str, pattern: &str, what: &str| {
        Problem::new(format!(
            "`{entry}` has match = '{pattern}', which no {what} has"
        ))
        .remedy("correct it, or remove it")
    };
    let columns = config.unused_column_patterns(tables);
    let columns = columns.map(|pattern| problem("columns", pattern, "column of the tables"));
    let named = config.unused_table_patterns(tables);
    columns
        .chain(named.map(|pattern| problem("tables", pattern, "table")))
        .collect()
}

/// What is missing of the publications is made at the start, which takes CREATE on the database and the tables' owner.
async fn may_publish(
    client: &Client,
    database: &Database,
    statement: &str,
    oids: &[u32],
) -> Result<Option<Problem>, Error> {
    let row = client
        .query_one(
            "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                    WHERE c.oid = ANY($1) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))",
            &[&oids],
        )
        .await
        .map_err(|e| database.explain(e))?;
    if row.get(0) {
        return Ok(None);
    }
    Ok(Some(
        Problem::new(format!(
            "a publication is missing or incomplete, and user '{}' may not change that",
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
    let specs = topic_specs(config, tables.iter().map(|one| &one.table))?;
    let topics = Topics::new(config)?;
    let contradictions = topics.contradictions(&specs).await?;
    problems.extend(contradictions.iter().map(Problem::from));
    // Without it there is no other source.
    let progress = topics.described(&[config.progress_topic()]).await?;
    if !progress.is_empty() {
        let names: Result<Vec<String>, Error> = tables
            .iter()
            .map(|one| config.topic_name(&one.table))
            .collect();
        let claims = Claims::new(Arc::new(config.clone()));
        let claimed = claims.of_others(names?.into_iter()).await?;
        problems.extend(claimed.values().map(Problem::from));
    }
    Ok(())
}
