//! Everything that a world will do, known before it begins.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::table::Table;
use super::workload::{RandomWorkload, Transaction};
use crate::oracle::{KeyColumns, Lineage};

/// Connections that work at the same time.
const WORKERS: usize = 3;

/// What a seed makes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schema: String,
    /// The tables as they are created.
    pub(super) tables: Vec<Table>,
    pub(super) fill: Transaction,
    /// Work during the first snapshot; the tables are as created.
    pub(super) beside_snapshot: Option<Phase>,
    pub(super) phases: Vec<Phase>,
    /// Of all names that a key's column ever has.
    pub(super) keys: KeyColumns,
    /// Pages per chunk of the first snapshot.
    pub(super) chunk_pages: u32,
}

/// Work between two quiet points.
#[derive(Debug)]
pub(super) struct Phase {
    /// What each connection does, one after the other.
    pub(super) workers: Vec<Vec<Transaction>>,
    /// The columns' earlier names behind this phase, by `schema.table`.
    pub(super) lineages: BTreeMap<String, Lineage>,
    /// The source is killed meanwhile.
    pub(super) chaos: bool,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let schema = ["prop", "Pröp x"][rng.random_range(0..2)].to_owned();
        let tables: Vec<Table> = (0..rng.random_range(2..=5))
            .map(|number| Table::generate(rng, &schema, number))
            .collect();
        let mut workload = RandomWorkload::default();
        let fill = workload.fill(rng, &tables);
        let mut now = tables.clone();
        let beside = rng
            .random_bool(0.5)
            .then(|| phase(rng, &mut workload, &mut now, false));
        let phases =
            (0..rng.random_range(2..=3)).map(|_| phase(rng, &mut workload, &mut now, true));
        let phases = phases.collect();
        Self {
            schema,
            keys: tables
                .iter()
                .filter(|table| table.keyed)
                .map(|table| (table.plain(), table.key_set()))
                .collect(),
            fill,
            beside_snapshot: beside,
            phases,
            chunk_pages: rng.random_range(1..20),
            tables,
        }
    }
}

fn phase(
    rng: &mut SmallRng,
    workload: &mut RandomWorkload,
    tables: &mut [Table],
    changes: bool,
) -> Phase {
    let mut workers = Vec::new();
    for worker in (0..WORKERS).rev() {
        // The first worker comes last: what the others do to a column that it drops meanwhile fails, as an
        // application's statements would.
        let mut transactions: Vec<_> = (0..rng.random_range(5..25))
            .map(|_| workload.transaction(rng, tables))
            .collect();
        if changes && worker == 0 {
            for _ in 0..rng.random_range(0..=2) {
                let at = rng.random_range(0..tables.len());
                transactions.extend(workload.schema_change(rng, &mut tables[at]));
                transactions.push(workload.transaction(rng, tables));
            }
        }
        workers.push(transactions);
    }
    Phase {
        workers,
        lineages: tables
            .iter()
            .map(|table| (table.plain(), table.lineage.clone()))
            .collect(),
        chaos: rng.random_bool(0.7),
    }
}
