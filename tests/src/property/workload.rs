//! Generated transactions.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::column::{copy_field, identifier, literal};
use super::table::Table;

/// Keys that the usual statements draw from, so that they often meet.
const KEYS: u32 = 40;
/// The first key that only COPY gives.
const FRESH: u32 = 2_000;

/// One thing that a connection does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A statement, or several.
    Sql(String),
    /// COPY … FROM STDIN with these lines.
    Copy { statement: String, lines: String },
}

/// What one connection does between BEGIN and COMMIT, or ROLLBACK.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) steps: Vec<Step>,
    pub(super) commits: bool,
    /// It changes tables, and the plan counts on it: it is tried until it is committed.
    pub(super) must_commit: bool,
}

/// Makes transactions on some tables.
#[derive(Debug)]
pub(super) struct RandomWorkload {
    fresh: u32,
}

impl Default for RandomWorkload {
    fn default() -> Self {
        Self { fresh: FRESH }
    }
}

impl RandomWorkload {
    /// Some rows of each table.
    pub(super) fn fill(&mut self, rng: &mut SmallRng, tables: &[Table]) -> Transaction {
        let steps = tables
            .iter()
            .filter_map(|table| match rng.random_range(0..5) {
                0 => None,
                1 => Some(self.copy(rng, table, 600)),
                _ => Some(Step::Sql(insert(rng, table))),
            });
        Transaction {
            steps: steps.collect(),
            commits: true,
            must_commit: true,
        }
    }

    /// A transaction on one or several of the tables.
    pub(super) fn transaction(&mut self, rng: &mut SmallRng, tables: &[Table]) -> Transaction {
        let mut steps = Vec::new();
        if rng.random_bool(0.2) {
            steps.push(Step::Sql("SET LOCAL synchronous_commit = off".to_owned()));
        }
        for _ in 0..rng.random_range(1..=5) {
            let table = &tables[rng.random_range(0..tables.len())];
            match rng.random_range(0..40) {
                0 => {
                    let rows = if rng.random_bool(0.2) { 1_500 } else { 50 };
                    steps.push(self.copy(rng, table, rows));
                }
                1 => steps.push(Step::Sql(truncate(rng, tables))),
                2 => steps.push(Step::Sql("SELECT pg_logical_emit_message(true, 'x', 'told'), pg_logical_emit_message(false, 'x', 'at once')".to_owned())),
                3..7 => {
                    let outcome = if rng.random_bool(0.6) { "ROLLBACK TO SAVEPOINT s" } else { "RELEASE SAVEPOINT s" };
                    let inner = [statement(rng, table), statement(rng, table)].join("; ");
                    steps.push(Step::Sql(format!("SAVEPOINT s; {inner}; {outcome}")));
                }
                _ => steps.push(Step::Sql(statement(rng, table))),
            }
        }
        Transaction {
            steps,
            commits: !rng.random_bool(0.1),
            must_commit: false,
        }
    }

    /// A schema change, with rows before and behind it.
    pub(super) fn schema_change(
        &mut self,
        rng: &mut SmallRng,
        table: &mut Table,
    ) -> Option<Transaction> {
        let before = statement(rng, table);
        let change = table.change(rng)?;
        let behind = statement(rng, table);
        let steps = [before, change, behind].map(Step::Sql);
        Some(Transaction {
            steps: steps.into(),
            commits: true,
            must_commit: true,
        })
    }

    /// Rows with keys that nobody has.
    fn copy(&mut self, rng: &mut SmallRng, table: &Table, rows: u32) -> Step {
        let names: Vec<String> = table
            .columns
            .iter()
            .map(|column| identifier(&column.name))
            .collect();
        let mut lines = String::new();
        for n in self.fresh..self.fresh + rows {
            let fields: Vec<String> = table
                .columns
                .iter()
                .map(|column| copy_field(column.value(rng, n).as_deref()))
                .collect();
            lines += &fields.join("\t");
            lines.push('\n');
        }
        self.fresh += rows;
        Step::Copy {
            statement: format!("COPY {} ({}) FROM STDIN", table.quoted(), names.join(", ")),
            lines,
        }
    }
}

fn statement(rng: &mut SmallRng, table: &Table) -> String {
    if !table.keyed {
        return insert(rng, table);
    }
    let (n, m) = (rng.random_range(0..KEYS), rng.random_range(0..KEYS));
    match rng.random_range(0..20) {
        0..7 => insert(rng, table),
        7..14 => update(rng, table, &at(table, n)),
        14 => update(rng, table, "true"),
        15..18 => format!("DELETE FROM {} WHERE {}", table.quoted(), at(table, n)),
        // The key changes, and perhaps goes to where another row was.
        _ => format!(
            "UPDATE {0} SET {1} WHERE {2} AND NOT EXISTS (SELECT FROM {0} WHERE {3})",
            table.quoted(),
            assignments(table, m).join(", "),
            at(table, n),
            at(table, m)
        ),
    }
}

fn insert(rng: &mut SmallRng, table: &Table) -> String {
    let names: Vec<String> = table
        .columns
        .iter()
        .map(|column| identifier(&column.name))
        .collect();
    let rows = (0..rng.random_range(1..=6)).map(|_| {
        let n = rng.random_range(0..KEYS);
        let values: Vec<String> = table
            .columns
            .iter()
            .map(|column| literal(column.value(rng, n).as_deref()))
            .collect();
        format!("({})", values.join(", "))
    });
    let rows: Vec<String> = rows.collect();
    format!(
        "INSERT INTO {} ({}) VALUES {} ON CONFLICT DO NOTHING",
        table.quoted(),
        names.join(", "),
        rows.join(", ")
    )
}

/// An update of one or two columns: all others stay untouched, stored out of line or not.
fn update(rng: &mut SmallRng, table: &Table, condition: &str) -> String {
    let plain: Vec<_> = table.columns.iter().filter(|column| !column.key).collect();
    let Some(first) = plain.first() else {
        return format!("DELETE FROM {} WHERE {condition}", table.quoted());
    };
    let mut chosen = vec![plain[rng.random_range(0..plain.len())]];
    if chosen[0].name != first.name && rng.random_bool(0.3) {
        chosen.push(first);
    }
    let set: Vec<String> = chosen
        .iter()
        .map(|column| {
            format!(
                "{} = {}",
                identifier(&column.name),
                literal(column.value(rng, 0).as_deref())
            )
        })
        .collect();
    format!(
        "UPDATE {} SET {} WHERE {condition}",
        table.quoted(),
        set.join(", ")
    )
}

/// The row with the n-th key.
fn at(table: &Table, n: u32) -> String {
    assignments(table, n).join(" AND ")
}

fn assignments(table: &Table, n: u32) -> Vec<String> {
    let keys = table.columns.iter().filter(|column| column.key);
    let equals = keys.filter_map(|column| {
        let value = (column.kind.key?)(n);
        Some(format!(
            "{} = {}",
            identifier(&column.name),
            literal(Some(&value))
        ))
    });
    equals.collect()
}

fn truncate(rng: &mut SmallRng, tables: &[Table]) -> String {
    let first = rng.random_range(0..tables.len());
    let many = rng.random_range(1..=2).min(tables.len());
    let names: Vec<String> = (0..many)
        .map(|step| tables[(first + step) % tables.len()].quoted())
        .collect();
    format!("TRUNCATE {}", names.join(", "))
}
