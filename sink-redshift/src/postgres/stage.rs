//! Temporary tables: where a batch lands before it is merged.

use tokio_postgres::Statement;

use crate::name::{Quoted, quoted_list};
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::session::Session;
use crate::postgres::target::{DELETED, Target};

/// How many temporary tables a connection keeps: every commit empties all of them, so it must not be many.
const KEPT: usize = 8;

/// The temporary tables of one connection, the one used last at the end.
#[derive(Default)]
pub(crate) struct Stages {
    kept: Vec<Stage>,
    made: u64,
}

/// A temporary table with the columns of a target table and [`DELETED`], emptied by every commit.
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
    /// The temporary table for `target`, made where there is none or where the target has changed.
    pub(crate) async fn stage(
        &mut self,
        session: &Session,
        target: &Target,
    ) -> Result<Stage, Failure> {
        let kept = &mut self.kept;
        if let Some(found) = kept
            .iter()
            .position(|stage| stage.target.name == target.name)
        {
            let stage = kept.remove(found);
            if stage.target == *target {
                kept.push(stage.clone());
                return Ok(stage);
            }
            drop_stage(session, &stage).await?;
        } else if kept.len() >= KEPT {
            let oldest = kept.remove(0);
            drop_stage(session, &oldest).await?;
        }
        let stage = self.make(session, target).await?;
        self.kept.push(stage.clone());
        Ok(stage)
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
                "CREATE TEMPORARY TABLE {name} ({columns}{DELETED} boolean) ON COMMIT DELETE ROWS"
            ))
            .await
            .attempt(doing, || session.grant_on_database("TEMPORARY"))?;
        let names = quoted_list(target.columns.iter().map(|column| column.name.as_str()));
        let copy = session
            .client
            .prepare(&format!(
                "COPY pg_temp.{name} ({names}, {DELETED}) FROM STDIN"
            ))
            .await
            .attempt(doing, String::new)?;
        Ok(Stage {
            name,
            target: target.clone(),
            copy,
        })
    }
}

impl Stage {
    /// `INSERT … ON CONFLICT`: staged rows that are newer than the target's, or that it lacks.
    pub(crate) fn upsert_statement(&self) -> String {
        let target = &self.target;
        let names = || target.columns.iter().map(|column| column.name.as_str());
        let columns = quoted_list(names());
        let insert = format!(
            "INSERT INTO {} AS t ({columns}) SELECT {columns} FROM pg_temp.{} WHERE NOT {DELETED}",
            target.name, self.name
        );
        if target.is_keyless() {
            return insert;
        }
        let sets: Vec<_> = names()
            .map(|name| format!("{0} = excluded.{0}", Quoted(name)))
            .collect();
        format!(
            "{insert} ON CONFLICT ({}) DO UPDATE SET {} WHERE t._tributary_seq < excluded._tributary_seq",
            quoted_list(target.key.iter().map(String::as_str)),
            sets.join(", ")
        )
    }

    /// Deletes what a newer staged deletion names.
    pub(crate) fn delete_statement(&self) -> String {
        let equal: Vec<_> = self
            .target
            .key
            .iter()
            .map(|name| format!("t.{0} = s.{0}", Quoted(name)))
            .collect();
        format!(
            "DELETE FROM {} AS t USING pg_temp.{} AS s WHERE s.{DELETED} AND {} \
             AND t._tributary_seq < s._tributary_seq",
            self.target.name,
            self.name,
            equal.join(" AND ")
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
