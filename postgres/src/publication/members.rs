//! Which tables our publications carry, and what puts that right: exactly the selected ones, and none without a key
//! where updates are published, for there Postgres refuses the application's.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;
use tributary_runtime::{Error, Problem};

use super::definition::{PublicationNames, change};
use crate::catalog::{CatalogTable, Selection};
use crate::database::Database;
use crate::quote::{identifier, qualified};

/// A table's place in one of our publications.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// [`Members::place`]
    place: u64,
    /// The table's name, quoted.
    name: String,
    /// Somebody gave it a column list or a row filter.
    restricted: bool,
}

/// The tables of both publications, by OID.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Members {
    keyed: HashMap<u32, Member>,
    keyless: HashMap<u32, Member>,
    /// Of each publication that has tables, by its OID.
    versions: HashMap<u32, Version>,
}

/// A publication's row in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    /// The transaction that wrote it.
    writer: u32,
    owner: u32,
}

/// Publications that somebody has given another owner, which changes nothing of what they publish: by the transaction
/// that wrote the publication's row before, the one that did it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewOwners(BTreeMap<u32, u32>);

impl NewOwners {
    /// Notes what has changed between two looks. If the owner has, the change is taken to be that one and no other; so
    /// the looks are to be close together.
    ///
    /// Returns whether there was such a change.
    pub fn note(&mut self, before: &Members, now: &Members) -> bool {
        let changes = now.versions.iter().filter_map(|(oid, now)| {
            let before = before.versions.get(oid)?;
            let is_owner = before.writer != now.writer && before.owner != now.owner;
            is_owner.then_some((before.writer, now.writer))
        });
        let count = self.0.len();
        self.0.extend(changes);
        self.0.len() > count
    }

    /// The [place](Members::place) that a place from before is now.
    pub fn place(&self, before: u64) -> u64 {
        let mut place = before;
        // A transaction's number may come round again: no further than once through all of them.
        for _ in 0..self.0.len() {
            let writer = u32::try_from(place >> 32).unwrap_or_default();
            match self.0.get(&writer) {
                Some(later) => place = place_of(*later, place),
                None => break,
            }
        }
        place
    }
}

/// Of each change the transaction that wrote the publication's row before, and the one that did it.
impl FromIterator<(u32, u32)> for NewOwners {
    fn from_iter<T: IntoIterator<Item = (u32, u32)>>(changes: T) -> Self {
        Self(changes.into_iter().collect())
    }
}

/// The place of a table, given in the lower half, in a publication whose row this transaction wrote.
fn place_of(writer: u32, table: u64) -> u64 {
    (u64::from(writer) << 32) | (table & u64::from(u32::MAX))
}

/// [`Members::place`] with a plug-in that has no publications.
pub const NO_PUBLICATION: u64 = 0;

/// What is to be run to put one table right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// One or two statements, which count together or not at all.
    pub sql: String,
    /// Why, for the log.
    pub why: &'static str,
    /// The table's OID.
    pub oid: u32,
    /// The table's name, quoted.
    pub table: String,
}

// Lists and filters exist since PG15; to_jsonb asks for them on any version.
const MEMBERS: &str = "
    SELECT p.pubname = $1, r.prrelid, r.oid, p.xmin::text::bigint, pg_catalog.format('%I.%I', n.nspname, c.relname),
        pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL OR pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL,
        p.oid, p.pubowner
    FROM pg_catalog.pg_publication p
    JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE p.pubname IN ($1, $2)";

impl Members {
    /// Reads what our publications carry now.
    pub async fn read(
        client: &Client,
        database: &Database,
        names: &PublicationNames,
    ) -> Result<Self, Error> {
        let rows = client
            .query(MEMBERS, &[&names.keyed, &names.keyless])
            .await
            .map_err(|e| database.explain(e))?;
        let mut members = Self::default();
        for row in &rows {
            let version = Version {
                writer: u32::try_from(row.get::<_, i64>(3)).unwrap_or_default(),
                owner: row.get(7),
            };
            members.versions.insert(row.get(6), version);
            let member = Member {
                place: place_of(version.writer, u64::from(row.get::<_, u32>(2))),
                name: row.get(4),
                restricted: row.get(5),
            };
            let publication = if row.get(0) {
                &mut members.keyed
            } else {
                &mut members.keyless
            };
            publication.insert(row.get(1), member);
        }
        Ok(members)
    }

    /// A table's place in the publication that it belongs into: another one than before means that it was out of it for a
    /// while, or that the publication published something else. `pg_publication_rel.oid`, in front of it the publication's
    /// `xmin`, which each ALTER PUBLICATION changes that does more than add or drop tables. [`NO_PUBLICATION`] with a
    /// plug-in that has none.
    pub fn place(&self, table: &CatalogTable, names: &PublicationNames) -> Option<u64> {
        if !names.are_used() {
            return Some(NO_PUBLICATION);
        }
        let publication = if table.is_keyless() {
            &self.keyless
        } else {
            &self.keyed
        };
        publication.get(&table.table.oid).map(|member| member.place)
    }

    /// The tables of which not all is published, because somebody gave them a column list or a row filter.
    pub fn restricted(&self, names: &PublicationNames) -> Vec<Problem> {
        let names = [&names.keyed, &names.keyless];
        let mut found = Vec::new();
        for (publication, name) in [&self.keyed, &self.keyless].into_iter().zip(names) {
            for member in publication.values().filter(|member| member.restricted) {
                let (publication, table) = (identifier(name), &member.name);
                found.push(
                    Problem::new(format!(
                        "publication '{name}' carries table {table} with a column list or a row filter: columns or rows would be missing from its topic"
                    ))
                    .remedy(format!("ALTER PUBLICATION {publication} DROP TABLE ONLY {table}; ALTER PUBLICATION {publication} ADD TABLE ONLY {table}")),
                );
            }
        }
        found.sort_unstable_by(|a, b| a.what.cmp(&b.what));
        found
    }

    /// What makes both publications carry what they should.
    pub fn corrections(&self, selection: &Selection, names: &PublicationNames) -> Vec<Correction> {
        if !names.are_used() {
            return Vec::new();
        }
        let keyed = identifier(&names.keyed);
        let keyless = identifier(&names.keyless);
        let mut corrections = Vec::new();
        for table in &selection.tables {
            let oid = table.table.oid;
            let quoted = qualified(&table.table.schema, &table.table.name);
            let (right, wrong, in_right, in_wrong) = if table.is_keyless() {
                (&keyless, &keyed, &self.keyless, self.keyed.get(&oid))
            } else {
                (&keyed, &keyless, &self.keyed, self.keyless.get(&oid))
            };
            let add = (!in_right.contains_key(&oid))
                .then(|| format!("ALTER PUBLICATION {right} ADD TABLE ONLY {quoted}"));
            let drop =
                in_wrong.map(|_| format!("ALTER PUBLICATION {wrong} DROP TABLE ONLY {quoted}"));
            let why = match (&add, &drop) {
                (None, None) => continue,
                (Some(_), None) => "a selected table was not in its publication",
                (_, Some(_)) if table.is_keyless() => {
                    "a table without a usable key was in a publication of updates, where Postgres refuses them"
                }
                (_, Some(_)) => "a table with a key was in the publication without updates",
            };
            let statements: Vec<_> = drop.into_iter().chain(add).collect();
            corrections.push(Correction {
                sql: statements.join("; "),
                why,
                oid,
                table: quoted,
            });
        }
        let known = |oid: &u32| {
            selection.tables.iter().any(|one| one.table.oid == *oid)
                || selection.unusable.iter().any(|one| one.oid == *oid)
        };
        for (publication, name) in [(&self.keyed, &keyed), (&self.keyless, &keyless)] {
            let mut left: Vec<_> = publication.iter().filter(|(oid, _)| !known(oid)).collect();
            left.sort_unstable_by_key(|(oid, _)| **oid);
            corrections.extend(left.into_iter().map(|(oid, member)| Correction {
                oid: *oid,
                sql: format!("ALTER PUBLICATION {name} DROP TABLE ONLY {}", member.name),
                why: "postgres.tables does not select it",
                table: member.name.clone(),
            }));
        }
        corrections
    }
}

impl Correction {
    /// Says that it was run.
    pub fn tell(&self) {
        let Self {
            sql, why, table, ..
        } = self;
        tracing::info!(table, sql, "{why}: the publication is corrected");
    }

    /// Runs it.
    ///
    /// # Errors
    /// The server refuses: mostly for want of ownership.
    pub async fn run(&self, client: &Client, database: &Database) -> Result<(), Error> {
        change(client, database, &self.sql, "the table").await
    }
}

#[cfg(test)]
mod tests;
