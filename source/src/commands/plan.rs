//! `plan`: what `run` would create.

use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_runtime::cli::{Answer, exit};
use tributary_runtime::{Error, Problem};

use crate::config::SourceConfig;
use crate::log::specs::topic_specs;
use crate::log::topics::Topics;
use tributary_postgres::catalog::{Catalog, CatalogTable};
use tributary_postgres::database::Database;
use tributary_postgres::publication::publications;
use tributary_postgres::slot::Slot;

/// What there is, what is missing, and what contradicts; changes nothing.
pub(super) async fn run(config: &SourceConfig) -> Result<Answer, Error> {
    let database = config.database().map_err(Error::stop)?;
    let client = database.connect().await?;
    let selection = Catalog::new(&client, &database)
        .select(&config.wanted())
        .await?;
    let mut plan = Plan::default();
    plan.problems.extend(selection.problems().cloned());
    let tables = selection.tables;
    let (slot, publications) = plan.server(config, &client, &database, &tables).await?;
    let topics = plan.topics(config, &tables).await?;
    let subjects = subjects(config, &tables)?;
    for subject in &subjects {
        plan.text.push_str(&format!("subject:  {subject}\n"));
    }
    let notes: Vec<Problem> = tables.iter().filter_map(CatalogTable::note).collect();
    for note in &notes {
        plan.text.push_str(&format!("note:     {note}\n"));
    }
    for problem in &plan.problems {
        plan.text.push_str(&format!("problem:  {problem}\n"));
    }
    let code = if plan.problems.is_empty() {
        exit::OK
    } else {
        exit::PROBLEMS
    };
    let json = json!({
        "slot": slot,
        "publications": publications,
        "topics": topics,
        "subjects": subjects,
        "problems": plan.problems,
        "notes": notes,
    });
    Ok(Answer {
        text: plan.text,
        json,
        code,
    })
}

/// The subjects under which the tables' schemas are registered, by `run`, before a table's first record.
fn subjects(config: &SourceConfig, tables: &[CatalogTable]) -> Result<Vec<String>, Error> {
    let mut subjects = Vec::new();
    for table in tables {
        let topic = config.topic_name(&table.table)?;
        if !table.is_keyless() {
            subjects.push(format!("{topic}-key"));
        }
        subjects.push(format!("{topic}-value"));
        subjects.push(format!("{topic}-truncate-key"));
    }
    Ok(subjects)
}

#[derive(Default)]
struct Plan {
    text: String,
    problems: Vec<Problem>,
}

impl Plan {
    fn say(&mut self, exists: bool, what: &str) {
        let word = if exists { "is there:" } else { "create:  " };
        self.text.push_str(&format!("{word} {what}\n"));
    }

    fn problem(&mut self, error: &Error) {
        self.problems.push(Problem::from(error));
    }

    /// Slot and publications.
    async fn server(
        &mut self,
        config: &SourceConfig,
        client: &Client,
        database: &Database,
        tables: &[CatalogTable],
    ) -> Result<(Value, Vec<Value>), Error> {
        let name = config.slot_name();
        let slot = Slot::read(client, database, &name).await?;
        if let Some(Err(error)) = slot
            .as_ref()
            .map(|slot| slot.usable(&name, config.postgres.plugin, database))
        {
            self.problem(&error);
        }
        self.say(slot.is_some(), &format!("slot {name}"));
        let mut planned = Vec::new();
        for publication in publications(tables, &config.publications()) {
            let exists = match publication.exists(client, database).await {
                Ok(exists) => exists,
                Err(error) => {
                    self.problem(&error);
                    true
                }
            };
            let statement = publication.create_statement();
            let what = if exists {
                &publication.name
            } else {
                &statement
            };
            self.say(exists, &format!("publication {what}"));
            planned.push(
                json!({ "name": publication.name, "exists": exists, "statement": statement }),
            );
        }
        Ok((json!({ "name": name, "exists": slot.is_some() }), planned))
    }

    async fn topics(
        &mut self,
        config: &SourceConfig,
        tables: &[CatalogTable],
    ) -> Result<Vec<Value>, Error> {
        let admin = Topics::new(config)?;
        let specs = topic_specs(config, tables.iter().map(|one| &one.table))?;
        for error in admin.contradictions(&specs).await? {
            self.problem(&error);
        }
        let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        let described = admin.described(&names).await?;
        let mut topics = Vec::new();
        for spec in &specs {
            let exists = described.contains_key(&spec.name);
            let (name, partitions) = (&spec.name, spec.partitions);
            let policy = spec.cleanup.policy();
            let what = format!("topic {name} ({partitions} partitions, cleanup.policy={policy})");
            self.say(exists, &what);
            topics.push(json!({
                "name": name, "exists": exists, "partitions": partitions, "cleanup_policy": policy,
            }));
        }
        Ok(topics)
    }
}
