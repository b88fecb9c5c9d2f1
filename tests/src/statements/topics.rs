//! The topics of the statements' tables, held against the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;
use tokio_postgres::Client;

use super::kinds::{Changes, Statement};
use crate::oracle::{
    Fold, Lineage, Offsets, PlainRecord, TableRows, TopicReader, TopicRecord, topic_name,
};

const POLL: Duration = Duration::from_millis(100);

/// Topics, as far as they were read.
#[derive(Debug)]
pub struct Topics {
    reader: TopicReader,
    prefix: String,
    offsets: Offsets,
    records: BTreeMap<String, Vec<TopicRecord>>,
    /// Of tables whose values have names in them, which canonical text has not.
    plain: BTreeMap<String, Vec<PlainRecord>>,
}

impl Topics {
    /// Those of a source with this prefix; nothing is read yet.
    pub fn new(reader: TopicReader, prefix: &str) -> Self {
        Self {
            reader,
            prefix: prefix.to_owned(),
            offsets: Offsets::new(),
            records: BTreeMap::new(),
            plain: BTreeMap::new(),
        }
    }

    /// A table's topic.
    pub fn of(&self, statement: &Statement) -> String {
        topic_name(&self.prefix, "s", statement.name)
    }

    /// What was read, by topic.
    pub const fn records(&self) -> &BTreeMap<String, Vec<TopicRecord>> {
        &self.records
    }

    /// Reads on to the ends.
    ///
    /// # Errors
    /// A topic is not there, or does not decode.
    pub async fn read(&mut self, statements: &[Statement]) -> Result<()> {
        let topics: Vec<String> = statements.iter().map(|one| self.of(one)).collect();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        for (topic, records) in self.reader.read_on(&names, &mut self.offsets).await? {
            self.records.entry(topic).or_default().extend(records);
        }
        for statement in statements {
            if statement.changes == Changes::Attributes {
                let topic = self.of(statement);
                let records = self.reader.read_plain(&topic).await?;
                self.plain.insert(topic, records);
            }
        }
        Ok(())
    }

    /// In what the topic that was read, folded, differs from its table as it is now.
    ///
    /// # Errors
    /// A query fails.
    pub async fn compare(&self, client: &Client, statement: &Statement) -> Result<Vec<String>> {
        let (topic, table) = (self.of(statement), statement.table());
        let rows = TableRows::read(client, &table).await?;
        let mut fold = Fold::default();
        fold.apply(self.records.get(&topic).map_or(&[][..], Vec::as_slice));
        let mut found = fold.compare(&rows, &["id".to_owned()], &Lineage::default());
        let plain = self.plain.get(&topic).map_or(&[][..], Vec::as_slice);
        for (column, wanted) in attributes(client, &table).await? {
            for (key, row) in newest(plain) {
                let got = row[&column].as_object();
                let got = got.map(|value| value.keys().cloned().collect::<BTreeSet<String>>());
                if let Some(got) = got.filter(|got| *got != wanted) {
                    found.push(format!("row {key}: {column} has {got:?}, not {wanted:?}"));
                }
            }
        }
        Ok(found)
    }

    /// Waits until each topic, folded, is its table.
    ///
    /// # Errors
    /// They are not within `patience`: in what they differ.
    pub async fn converge(
        &mut self,
        client: &Client,
        statements: &[Statement],
        patience: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            self.read(statements).await?;
            let mut found = Vec::new();
            for statement in statements {
                let differences = self.compare(client, statement).await;
                let differences = differences.with_context(|| statement.table())?;
                let named = differences
                    .into_iter()
                    .map(|one| format!("{}: {one}", statement.name));
                found.extend(named);
            }
            if found.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the topics are not the tables:\n{}", found.join("\n"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The names that the values of a table's composite columns have, by column.
async fn attributes(client: &Client, table: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let query = "SELECT a.attname::text, f.attname::text FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid AND t.typtype = 'c'
        JOIN pg_attribute f ON f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
        WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped";
    let mut columns: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in client.query(query, &[&table]).await? {
        columns.entry(row.get(0)).or_default().insert(row.get(1));
    }
    Ok(columns)
}

/// The newest row of each key.
fn newest(records: &[PlainRecord]) -> BTreeMap<String, &Json> {
    let mut rows = BTreeMap::new();
    for record in records {
        let key = record.key.to_string();
        match &record.value["after"] {
            Json::Null => rows.remove(&key),
            row => rows.insert(key, row),
        };
    }
    rows
}
