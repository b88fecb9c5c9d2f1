//! Temporary tables: where a batch lands before it is merged.

use std::collections::BTreeSet;

use tokio_postgres::Statement;

use crate::postgres::failure::Attempt;
use crate::postgres::session::Session;
use crate::warehouse::failure::Failure;
use crate::warehouse::name::{Qualified, Quoted, quoted_list};
use crate::warehouse::target::{DELETED, LACKING, SEQ, Target};

/// How many temporary tables a connection keeps. Each costs the server some kilobytes, and at the connection's end a few
/// of the locks that all sessions share, which must suffice for all connections at once.
pub(crate) const KEPT: usize = 100;
/// Deleted rows and bytes up to which a temporary table is emptied by DELETE, which costs next to nothing; beyond, by
/// TRUNCATE, which takes a millisecond or more and changes the catalog, but gives the room back.
const DEAD_ROWS: u64 = 10_000;
const DEAD_BYTES: usize = 1024 * 1024;
/// More than that.
pub(crate) const LARGE: usize = DEAD_BYTES + 1;

/// The temporary tables of one connection, the one used last at the end.
#[derive(Default)]
pub(crate) struct Stages {
    kept: Vec<Kept>,
    made: u64,
}

/// A temporary table, and what lies in it dead.
struct Kept {
    stage: Stage,
    dead_rows: u64,
    dead_bytes: usize,
}

/// A temporary table with the columns of a target table, [`DELETED`] and [`LACKING`], empty when a transaction begins. It is not one
/// with `ON COMMIT DELETE ROWS`: each commit would truncate all of these.
#[derive(Clone)]
pub(crate) struct Stage {
    /// The temporary table's name, legal without quotes.
    pub(crate) name: String,
    /// The table that it stands for, as it was when this one was made.
    pub(crate) target: Target,
    /// `COPY stage FROM STDIN`
    pub(crate) copy: Statement,
}

impl Stages {
    /// What a connection with these costs that is to take rows for `target`: nothing where it has the temporary table,
    /// else the more the fuller it is.
    pub(crate) fn cost_of(&self, target: &Qualified) -> usize {
        match self.find(target) {
            Some(_) => 0,
            None => self.kept.len() + 1,
        }
    }

    /// The temporary table for `target`, made where there is none or where the target has changed.
    pub(crate) async fn stage(
        &mut self,
        session: &Session,
        target: &Target,
    ) -> Result<Stage, Failure> {
        if let Some(found) = self.find(&target.name) {
            let kept = self.kept.remove(found);
            if kept.stage.target == *target {
                let stage = kept.stage.clone();
                self.kept.push(kept);
                return Ok(stage);
            }
            drop_stage(session, &kept.stage).await?;
        } else if self.kept.len() >= KEPT {
            let oldest = self.kept.remove(0);
            drop_stage(session, &oldest.stage).await?;
        }
        let stage = self.make(session, target).await?;
        self.kept.push(Kept {
            stage: stage.clone(),
            dead_rows: 0,
            dead_bytes: 0,
        });
        Ok(stage)
    }

    /// Empties the temporary table for `target`, which has taken that much.
    pub(crate) async fn empty(
        &mut self,
        session: &Session,
        target: &Qualified,
        rows: u64,
        bytes: usize,
    ) -> Result<(), Failure> {
        let found = self.find(target);
        let Some(kept) = found.and_then(|at| self.kept.get_mut(at)) else {
            return Ok(());
        };
        kept.dead_rows += rows;
        kept.dead_bytes += bytes;
        let name = &kept.stage.name;
        let statement = if kept.dead_rows > DEAD_ROWS || kept.dead_bytes > DEAD_BYTES {
            (kept.dead_rows, kept.dead_bytes) = (0, 0);
            format!("TRUNCATE pg_temp.{name}")
        } else {
            format!("DELETE FROM pg_temp.{name}")
        };
        session
            .client
            .batch_execute(&statement)
            .await
            .attempt(|| format!("empty the temporary table {name}"), String::new)
    }

    fn find(&self, target: &Qualified) -> Option<usize> {
        let mut kept = self.kept.iter();
        kept.rposition(|kept| kept.stage.target.name == *target)
    }

    async fn make(&mut self, session: &Session, target: &Target) -> Result<Stage, Failure> {
        self.made += 1;
        let name = format!("_tributary_stage_{}", self.made);
        let columns: String = target
            .columns
            .iter()
            .map(|column| format!("{} {}, ", Quoted(&column.name), column.sql_type))
            .collect();
        let doing = || format!("create a temporary table for {}", target.name);
        session
            .client
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE {name} ({columns}{DELETED} boolean, {LACKING} int[])"
            ))
            .await
            .attempt(doing, || session.grant_on_database("TEMPORARY"))?;
        let copy = session
            .client
            .prepare(&copy_statement(&name, target, DELETED))
            .await
            .attempt(doing, String::new)?;
        Ok(Stage {
            name,
            target: target.clone(),
            copy,
        })
    }
}

fn copy_statement(stage: &str, target: &Target, further: &str) -> String {
    let names = quoted_list(target.column_names());
    format!("COPY pg_temp.{stage} ({names}, {further}) FROM STDIN")
}

impl Stage {
    /// Like [`Stage::copy`], of rows that say what they lack.
    pub(crate) fn copy_of_incomplete_rows(&self) -> String {
        copy_statement(&self.name, &self.target, &format!("{DELETED}, {LACKING}"))
    }

    /// Gives staged rows what they lack from the table's. `columns` are those, by their index, of which any lacks the value.
    pub(crate) fn complete_statement(&self, columns: &BTreeSet<usize>) -> String {
        let sets = columns.iter().filter_map(|at| {
            let name = Quoted(&self.target.columns.get(*at)?.name);
            Some(format!(
                "{name} = CASE WHEN {at} = ANY (s.{LACKING}) THEN t.{name} ELSE s.{name} END"
            ))
        });
        format!(
            "UPDATE pg_temp.{} AS s SET {} FROM {} AS t WHERE s.{LACKING} <> '{{}}' AND {}",
            self.name,
            sets.collect::<Vec<_>>().join(", "),
            self.target.name,
            self.same_key()
        )
    }

    /// How many of the staged rows have null in the place of what they lack, which is never null.
    pub(crate) async fn count_incomplete(
        &self,
        session: &Session,
        columns: &BTreeSet<usize>,
    ) -> Result<u64, Failure> {
        let lacks = columns.iter().filter_map(|at| {
            let name = Quoted(&self.target.columns.get(*at)?.name);
            Some(format!("({at} = ANY ({LACKING}) AND {name} IS NULL)"))
        });
        let query = format!(
            "SELECT count(*) FROM pg_temp.{} WHERE {}",
            self.name,
            lacks.collect::<Vec<_>>().join(" OR ")
        );
        let counted = session.client.query_typed(&query, &[]).await;
        let counted = counted.attempt(
            || format!("count the rows in {} that lack values", self.name),
            String::new,
        )?;
        let count = counted.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(count.unsigned_abs())
    }

    /// Whether a row `t` of the table and a staged row `s` are of one key.
    fn same_key(&self) -> String {
        let equal = self.target.key.iter();
        let equal: Vec<_> = equal
            .map(|name| format!("t.{0} = s.{0}", Quoted(name)))
            .collect();
        equal.join(" AND ")
    }

    /// `INSERT … ON CONFLICT`: staged rows that are newer than the target's, or that it lacks. With `repeats`, a row may have been staged
    /// more than once: the newest counts. That it is one row only the table's own types can say.
    pub(crate) fn upsert_statement(&self, repeats: bool) -> String {
        let target = &self.target;
        let columns = quoted_list(target.column_names());
        let key = quoted_list(target.key.iter().map(String::as_str));
        let (distinct, order) = if repeats && !target.is_keyless() {
            let distinct = format!("DISTINCT ON ({key}) ");
            (distinct, format!(" ORDER BY {key}, {SEQ} DESC"))
        } else {
            Default::default()
        };
        let insert = format!(
            "INSERT INTO {} AS t ({columns}) SELECT {distinct}{columns} FROM pg_temp.{} WHERE NOT {DELETED}{order}",
            target.name, self.name
        );
        if target.is_keyless() {
            // A row that is replayed may be there.
            return format!("{insert} ON CONFLICT ({key}) DO NOTHING");
        }
        let sets: Vec<_> = target
            .column_names()
            .map(|name| format!("{0} = excluded.{0}", Quoted(name)))
            .collect();
        format!(
            "{insert} ON CONFLICT ({key}) DO UPDATE SET {} WHERE t._tributary_seq < excluded._tributary_seq",
            sets.join(", ")
        )
    }

    /// Deletes what a newer staged deletion names.
    pub(crate) fn delete_statement(&self) -> String {
        format!(
            "DELETE FROM {} AS t USING pg_temp.{} AS s WHERE s.{DELETED} AND {} \
             AND t._tributary_seq < s._tributary_seq",
            self.target.name,
            self.name,
            self.same_key()
        )
    }
}

async fn drop_stage(session: &Session, stage: &Stage) -> Result<(), Failure> {
    session
        .client
        .batch_execute(&format!("DROP TABLE pg_temp.{}", stage.name))
        .await
        .attempt(
            || format!("drop the temporary table {}", stage.name),
            String::new,
        )
}
