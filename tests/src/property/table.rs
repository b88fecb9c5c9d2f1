//! Generated tables, and what schema changes make of them.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::column::{Column, identifier, literal, name};
use super::value::{KINDS, ValueKind};
use crate::oracle::Lineage;

/// A generated column, which every table has.
pub(super) const GENERATED: &str = "generated";

/// What a table's updates and deletes log of the old row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    Default,
    Full,
    Index,
    Nothing,
}

/// A table as it is meant to be, and how it came to be so.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) identity: Identity,
    pub(super) partitioned: bool,
    /// Rows may be updated and deleted: the source can tell them apart.
    pub(super) keyed: bool,
    pub(super) lineage: Lineage,
    /// Names that were given: none is given twice.
    names: usize,
}

impl Table {
    /// A table of 2 to 9 columns. `number` makes its name unique.
    pub(super) fn generate(rng: &mut SmallRng, schema: &str, number: usize) -> Self {
        let keyed = !rng.random_bool(0.15);
        let identity = match rng.random_range(0..10) {
            0..6 => Identity::Default,
            6..8 => Identity::Full,
            _ => Identity::Index,
        };
        // Without a key the identity decides nothing, but NOTHING is legal.
        let identity = match (keyed, identity) {
            (true, identity) => identity,
            (false, Identity::Full) => Identity::Nothing,
            (false, _) => Identity::Default,
        };
        let mut table = Self {
            schema: schema.to_owned(),
            name: format!(
                "{}{number}",
                ["t", "Täble ", "a.b-", "x_u00e4_"][rng.random_range(0..4)]
            ),
            columns: Vec::new(),
            identity,
            partitioned: keyed && identity == Identity::Default && rng.random_bool(0.2),
            keyed,
            lineage: Lineage::default(),
            names: 0,
        };
        let keys = if keyed { rng.random_range(1..=2) } else { 0 };
        let width = keys + rng.random_range(1..=7);
        for number in 0..width {
            let kind = if number < keys {
                key_kind(rng, number == 0)
            } else {
                any_kind(rng)
            };
            let column = Column {
                name: table.new_name(rng),
                kind,
                nullable: number >= keys && rng.random_bool(0.8),
                key: number < keys,
            };
            table.columns.push(column);
        }
        // The key is not always in front.
        let turn = rng.random_range(0..width);
        table.columns.rotate_left(turn);
        table
    }

    /// A table of these columns: name, type, and whether it is of the key.
    pub(super) fn of(schema: &str, name: &str, columns: &[(&str, &str, bool)]) -> Self {
        let column = |&(name, sql, key): &(&str, &str, bool)| Column {
            name: name.to_owned(),
            kind: KINDS
                .into_iter()
                .find(|kind| kind.sql == sql)
                .expect("a type that there are values of"),
            nullable: !key,
            key,
        };
        Self {
            schema: schema.to_owned(),
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            identity: Identity::Default,
            partitioned: false,
            keyed: true,
            lineage: Lineage::default(),
            names: columns.len(),
        }
    }

    fn new_name(&mut self, rng: &mut SmallRng) -> String {
        self.names += 1;
        name(rng, self.names)
    }

    /// `"schema"."table"`
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// `schema.table`
    pub(super) fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The names of the key's columns.
    pub(super) fn key(&self) -> Vec<String> {
        let keys = self.columns.iter().filter(|column| column.key);
        keys.map(|column| column.name.clone()).collect()
    }

    pub(super) fn key_set(&self) -> BTreeSet<String> {
        self.key().into_iter().collect()
    }

    /// The statements that create it.
    pub(super) fn create(&self) -> String {
        let column = |column: &Column| {
            let null = if column.nullable { "" } else { " NOT NULL" };
            format!(
                "{} {}{null}",
                identifier(&column.name),
                column.sql_type(&self.schema)
            )
        };
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        parts.push(format!(
            "{GENERATED} int GENERATED ALWAYS AS (1 + 1) STORED"
        ));
        let key: Vec<String> = self.key().iter().map(|name| identifier(name)).collect();
        let key = key.join(", ");
        if self.keyed && self.identity != Identity::Index {
            parts.push(format!("PRIMARY KEY ({key})"));
        }
        let quoted = self.quoted();
        let mut sql = format!("CREATE TABLE {quoted} ({})", parts.join(", "));
        if self.partitioned {
            let first = key.split(", ").next().unwrap_or_default();
            sql += &format!(" PARTITION BY HASH ({first})");
            for leaf in 0..3 {
                let leaf_name = format!(
                    "{}.{}",
                    identifier(&self.schema),
                    identifier(&format!("{} leaf {leaf}", self.name))
                );
                sql += &format!(
                    "; CREATE TABLE {leaf_name} PARTITION OF {quoted} FOR VALUES WITH (MODULUS 3, REMAINDER {leaf})"
                );
            }
        }
        sql += &match self.identity {
            Identity::Default => String::new(),
            Identity::Full => format!("; ALTER TABLE {quoted} REPLICA IDENTITY FULL"),
            Identity::Nothing => format!("; ALTER TABLE {quoted} REPLICA IDENTITY NOTHING"),
            Identity::Index => {
                let index = identifier(&format!("{} identity", self.name));
                format!(
                    "; CREATE UNIQUE INDEX {index} ON {quoted} ({key}); ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX {index}"
                )
            }
        };
        sql
    }

    /// A change of the table, which is now as the statement leaves it. One table can have no change at this time.
    pub(super) fn change(&mut self, rng: &mut SmallRng) -> Option<String> {
        let quoted = self.quoted();
        let plain: Vec<usize> = (0..self.columns.len())
            .filter(|&at| !self.columns[at].key)
            .collect();
        let chosen = (!plain.is_empty()).then(|| plain[rng.random_range(0..plain.len())]);
        match (rng.random_range(0..10), chosen) {
            (0..4, _) => {
                let kind = any_kind(rng);
                let column = Column {
                    name: self.new_name(rng),
                    kind,
                    nullable: true,
                    key: false,
                };
                let sql = format!(
                    "ALTER TABLE {quoted} ADD COLUMN {} {}",
                    identifier(&column.name),
                    column.sql_type(&self.schema)
                );
                self.columns.push(column);
                Some(sql)
            }
            (4, _) => self.add_with_default(rng),
            (5..7, Some(at)) if plain.len() > 1 => {
                let column = self.columns.remove(at);
                Some(format!(
                    "ALTER TABLE {quoted} DROP COLUMN {}",
                    identifier(&column.name)
                ))
            }
            (7, Some(at)) => {
                let name = self.new_name(rng);
                let old = std::mem::replace(&mut self.columns[at].name, name.clone());
                let mut earlier = self.lineage.earlier.remove(&old).unwrap_or_default();
                earlier.insert(0, old.clone());
                if let Some(default) = self.lineage.default.remove(&old) {
                    self.lineage.default.insert(name.clone(), default);
                }
                self.lineage.earlier.insert(name.clone(), earlier);
                Some(format!(
                    "ALTER TABLE {quoted} RENAME COLUMN {} TO {}",
                    identifier(&old),
                    identifier(&name)
                ))
            }
            (_, Some(at)) => {
                let wider = self.columns[at].kind.wider?;
                let column = &mut self.columns[at];
                column.kind = ValueKind {
                    sql: wider,
                    wider: None,
                    ..column.kind
                };
                Some(format!(
                    "ALTER TABLE {quoted} ALTER COLUMN {} TYPE {wider}",
                    identifier(&column.name)
                ))
            }
            _ => None,
        }
    }

    /// A column that rows have which were written before it.
    fn add_with_default(&mut self, rng: &mut SmallRng) -> Option<String> {
        let name = self.new_name(rng);
        let kind = KINDS.iter().find(|kind| kind.sql == "integer").copied()?;
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {} integer NOT NULL DEFAULT {}",
            self.quoted(),
            identifier(&name),
            literal(Some("42"))
        );
        self.lineage.default.insert(name.clone(), "42".to_owned());
        self.columns.push(Column {
            name,
            kind,
            nullable: false,
            key: false,
        });
        Some(sql)
    }
}

fn any_kind(rng: &mut SmallRng) -> ValueKind {
    // Texts are drawn more often: only they are TOASTed, and most columns of the world are texts.
    if rng.random_bool(0.2) {
        return KINDS
            .iter()
            .find(|kind| kind.sql == "text")
            .copied()
            .unwrap_or(KINDS[0]);
    }
    KINDS[rng.random_range(0..KINDS.len())]
}

/// A type of a key's column. The first one must have many values.
fn key_kind(rng: &mut SmallRng, first: bool) -> ValueKind {
    loop {
        let kind = KINDS[rng.random_range(0..KINDS.len())];
        if kind.key.is_some() && !(first && kind.sql.contains("Mood")) {
            return kind;
        }
    }
}
