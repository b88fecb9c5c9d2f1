//! Which tables the configuration selects, and which of them cannot be published.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Deserialize;
use tributary_runtime::{Error, Problem};

use super::pattern::TablePattern;
use super::read::Catalog;
use super::table::{CatalogTable, TableHead};
use crate::quote::{identifier, qualified};

/// Where the rows of a partitioned table go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionTopics {
    /// Into one topic, named after the partitioned table.
    #[default]
    Root,
    /// Into one topic per partition, named after the partition.
    Leaf,
}

/// Names the topics of tables.
pub trait TopicNames: Sync {
    /// The topic of a table of this name.
    ///
    /// # Errors
    /// The name would not be legal; with what to do.
    fn topic_of(&self, schema: &str, table: &str) -> Result<String, Error>;
}

/// Which tables are wanted.
pub struct Wanted<'a> {
    /// The entries of `postgres.tables`.
    pub patterns: &'a [String],
    /// Whether partitions are tables of their own.
    pub partitions: PartitionTopics,
    /// Tables whose topics Kafka would refuse are left out.
    pub topics: &'a dyn TopicNames,
}

/// What `postgres.tables` selects now.
#[derive(Debug)]
pub struct Selection {
    /// In the order of their names.
    pub tables: Vec<CatalogTable>,
    /// Selected, and left out until somebody helps; one entry for each thing to do.
    pub unusable: Vec<Unusable>,
    /// Those of them that lack nothing but privileges.
    pub unreadable: Vec<CatalogTable>,
    /// Entries that select nothing.
    pub unmatched: Vec<Problem>,
}

/// A table that cannot be published as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The table's OID.
    pub oid: u32,
    /// `schema.table`
    pub table: String,
    /// An entry names just this table.
    pub exact: bool,
    /// What is wrong with it, and what to do.
    pub problem: Problem,
}

impl Selection {
    /// Everything that is wrong with it.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let unusable = self.unusable.iter().map(|unusable| &unusable.problem);
        self.unmatched.iter().chain(unusable)
    }

    /// Refuses what a first start cannot do without: each entry selects something, and a table that is named can
    /// be published. Tables that only a `*` selects are left out with a warning.
    pub fn require(&self) -> Result<(), Error> {
        let named = self.unusable.iter().filter(|unusable| unusable.exact);
        let mut needed = self.unmatched.iter().chain(named.map(|one| &one.problem));
        match needed.next() {
            None => Ok(()),
            Some(problem) => Err(problem.clone().into()),
        }
    }
}

// A partition is told by its root; each that cannot be read or is not in the WAL spoils its table. What is below the roots
// is gathered in one pass: a look at the catalog for each table would cost as much as there are tables, squared. A schema that
// was dropped since the statement's snapshot has neither privilege nor tables any more.
const TABLES: &str = "
    WITH whole AS MATERIALIZED (
        SELECT CASE WHEN p.relispartition THEN pg_catalog.pg_partition_root(p.oid)::oid ELSE p.oid END AS root,
            pg_catalog.min(p.relname::text) FILTER (WHERE p.relpersistence <> 'p') AS unlogged,
            pg_catalog.array_agg(pg_catalog.format('%I.%I', pn.nspname, p.relname) ORDER BY p.oid)
                FILTER (WHERE NOT pg_catalog.has_table_privilege(p.oid, 'SELECT')) AS unreadable
        FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
        WHERE p.relkind IN ('r', 'p', 'f') AND pn.nspname <> 'information_schema' AND pn.nspname !~ '^pg_'
        GROUP BY 1)
    SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relreplident::text, c.relispartition, rn.nspname, r.relname,
        CASE WHEN NOT c.relispartition THEN whole.unlogged WHEN c.relpersistence <> 'p' THEN c.relname::text END,
        pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
        CASE WHEN NOT c.relispartition THEN whole.unreadable
            WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
            THEN ARRAY[pg_catalog.format('%I.%I', n.nspname, c.relname)] END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN whole ON whole.root = c.oid
    LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
    LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
    WHERE c.relkind IN ('r', 'p') AND (n.nspname = ANY($1) OR rn.nspname = ANY($1))
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') IS NOT NULL
    ORDER BY n.nspname, c.relname";

/// A row of [`TABLES`].
struct Candidate {
    head: TableHead,
    /// The partitioned table on top, for a partition.
    root: Option<(String, String)>,
    /// A relation of it that the WAL lacks.
    unlogged: Option<String>,
    schema_usable: bool,
    /// What may not be read.
    unreadable: Vec<String>,
}

impl Catalog<'_> {
    /// The tables that the configuration selects.
    ///
    /// # Errors
    /// A failed query.
    pub async fn select(&mut self, wanted: &Wanted<'_>) -> Result<Selection, Error> {
        let patterns: Vec<_> = wanted
            .patterns
            .iter()
            .filter_map(|text| Some((text, TablePattern::parse(text)?)))
            .collect();
        let schemas: Vec<_> = patterns.iter().map(|(_, one)| one.schema()).collect();
        let rows = self
            .client
            .query(TABLES, &[&schemas])
            .await
            .map_err(|e| self.database.explain(e))?;
        let mut used = vec![false; patterns.len()];
        let (mut heads, mut unreadable) = (Vec::new(), Vec::new());
        let (mut unusable, mut partitions) = (Vec::new(), Vec::new());
        let mut topics = HashMap::new();
        for candidate in rows.iter().map(Candidate::read) {
            let mut exact = None;
            for (index, (_, pattern)) in patterns.iter().enumerate() {
                if candidate.is_hit(pattern, wanted.partitions) {
                    used[index] = true;
                    exact = Some(exact.unwrap_or(false) || pattern.is_exact());
                } else if candidate.root.is_some() && candidate.is_named_by(pattern) {
                    partitions.push(index);
                }
            }
            let Some(exact) = exact else { continue };
            let problem = candidate.problem(wanted.topics);
            if let Some(problem) =
                problem.or_else(|| collision(&mut topics, wanted.topics, &candidate.head))
            {
                unusable.push(candidate.unusable(exact, problem));
                continue;
            }
            let missing = candidate.missing_privileges(self.database.user());
            if missing.is_empty() {
                heads.push(candidate.head);
            } else {
                let missing = missing.into_iter();
                unusable.extend(missing.map(|problem| candidate.unusable(exact, problem)));
                unreadable.push(candidate.head);
            }
        }
        let unmatched = used.iter().enumerate().filter(|(_, used)| !**used);
        let unmatched = unmatched.map(|(index, _)| {
            let remedy = if partitions.contains(&index) {
                "it is a partition: name its partitioned table, or set postgres.partitions = \"leaf\""
            } else {
                "correct postgres.tables, or create the table first"
            };
            Problem::new(format!(
                "no table of {} matches '{}'",
                self.database.address(),
                patterns[index].0
            ))
            .remedy(remedy)
        });
        let unmatched = unmatched.collect();
        Ok(Selection {
            tables: self.complete(heads).await?,
            unreadable: self.complete(unreadable).await?,
            unusable,
            unmatched,
        })
    }
}

/// Kafka refuses a topic whose name differs from another one's in nothing but `.` and `_`. `taken` are those so far.
fn collision(
    taken: &mut HashMap<String, String>,
    names: &dyn TopicNames,
    TableHead { schema, name, .. }: &TableHead,
) -> Option<Problem> {
    let topic = names.topic_of(schema, name).ok()?;
    match taken.entry(topic.replace('.', "_")) {
        Entry::Vacant(free) => {
            free.insert(topic);
            None
        }
        Entry::Occupied(other) => Some(
            Problem::new(format!(
                "the topic of table {schema}.{name} would be '{topic}', which Kafka does not tell from '{}': in names of topics \
                 '.' and '_' are the same to it",
                other.get()
            ))
            .remedy("rename one of the two tables, or take one out of postgres.tables"),
        ),
    }
}

impl Candidate {
    fn read(row: &tokio_postgres::Row) -> Self {
        let root: Option<String> = row.get(6);
        let unreadable: Option<Vec<String>> = row.get(10);
        Self {
            head: TableHead {
                oid: row.get(0),
                schema: row.get(1),
                name: row.get(2),
                partitioned: row.get(3),
                identity: row.get(4),
            },
            root: root.zip(row.get(7)),
            unlogged: row.get(8),
            schema_usable: row.get(9),
            unreadable: unreadable.unwrap_or_default(),
        }
    }

    fn unusable(&self, exact: bool, problem: Problem) -> Unusable {
        let TableHead {
            oid, schema, name, ..
        } = &self.head;
        Unusable {
            oid: *oid,
            table: format!("{schema}.{name}"),
            exact,
            problem,
        }
    }

    fn is_named_by(&self, pattern: &TablePattern) -> bool {
        pattern.matches(&self.head.schema, &self.head.name)
    }

    /// Whether it has a topic of its own by this pattern: a partition has one only where each has.
    fn is_hit(&self, pattern: &TablePattern, topics: PartitionTopics) -> bool {
        match topics {
            PartitionTopics::Root => self.root.is_none() && self.is_named_by(pattern),
            PartitionTopics::Leaf => {
                let by_root = self.root.as_ref();
                !self.head.partitioned
                    && (self.is_named_by(pattern)
                        || by_root.is_some_and(|(schema, name)| pattern.matches(schema, name)))
            }
        }
    }

    /// What keeps it from being published, whoever we are.
    fn problem(&self, names: &dyn TopicNames) -> Option<Problem> {
        let TableHead { schema, name, .. } = &self.head;
        if let Err(error) = names.topic_of(schema, name) {
            return Some(Problem::from(&error));
        }
        let quoted = qualified(schema, name);
        if let Some(unlogged) = &self.unlogged {
            let what = if *unlogged == *name {
                format!("table {schema}.{name} is unlogged: its changes are not in the WAL")
            } else {
                format!(
                    "partition {unlogged} of table {schema}.{name} is unlogged: its changes are not in the WAL"
                )
            };
            return Some(Problem::new(what).remedy(format!(
                "ALTER TABLE {} SET LOGGED, or take {schema}.{name} out of postgres.tables",
                if *unlogged == *name {
                    quoted
                } else {
                    identifier(unlogged)
                }
            )));
        }
        None
    }

    /// What this user may not do with it.
    fn missing_privileges(&self, user: &str) -> Vec<Problem> {
        let TableHead { schema, name, .. } = &self.head;
        let grantee = identifier(user);
        let mut problems = Vec::new();
        if !self.schema_usable {
            let what = format!("user '{user}' may not use schema {schema}");
            let remedy = format!("GRANT USAGE ON SCHEMA {} TO {grantee}", identifier(schema));
            problems.push(Problem::new(what).remedy(remedy));
        }
        if !self.unreadable.is_empty() {
            let what = format!("user '{user}' may not read table {schema}.{name}");
            let remedy = format!(
                "GRANT SELECT ON {} TO {grantee}",
                self.unreadable.join(", ")
            );
            problems.push(Problem::new(what).remedy(remedy));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
