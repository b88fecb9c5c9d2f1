//! One batch on its way into the target, inside one transaction.

use std::pin::Pin;

use bytes::Bytes;
use futures::SinkExt as _;
use tokio_postgres::CopyInSink;
use tributary_engine::{Action, Change, Rejection};
use tributary_schemas::render::RenderError;

use crate::name::Qualified;
use crate::postgres::failure::{Attempt, Failure, classify, copy_failure};
use crate::postgres::row::{Plan, record_types};
use crate::postgres::session::Session;
use crate::postgres::stage::{Stage, Stages};
use crate::postgres::target::{Target, Wanted, lock_definition, use_grant};

/// How many bytes of lines are gathered before they are sent.
const CHUNK_BYTES: usize = 128 * 1024;

/// What a load did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Rows inserted or updated.
    pub(crate) merged: u64,
    /// Rows deleted by key.
    pub(crate) deleted: u64,
    /// Rows that were not newer than the target's, and deletions of rows that it lacks.
    pub(crate) skipped: u64,
    /// Rows deleted by "gone below".
    pub(crate) swept: u64,
}

/// A change on its way into the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staged {
    /// Its place among all changes of the write.
    pub(crate) ordinal: usize,
    partition: i32,
    offset: i64,
}

impl Staged {
    /// The target refuses it.
    pub(crate) const fn rejected(self, reason: String) -> Rejection {
        Rejection {
            partition: self.partition,
            offset: self.offset,
            reason,
        }
    }
}

/// Takes changes one by one. Changes that the table cannot take yet end the running segment: it is merged,
/// the table grows, and the next segment begins, all in the one transaction.
pub(crate) struct Load<'s, 'a> {
    session: &'s Session,
    stages: &'s mut Stages,
    name: &'s Qualified,
    target: Option<Target>,
    plans: Vec<Plan<'a>>,
    segment: Option<Segment>,
    /// The changes on the running segment's lines, in their order.
    staged: &'s mut Vec<Staged>,
    lines: Vec<u8>,
    scratch: Vec<u8>,
    tally: Tally,
}

struct Segment {
    stage: Stage,
    copy: Pin<Box<CopyInSink<Bytes>>>,
    upserts: u64,
    deletes: u64,
}

impl<'s, 'a> Load<'s, 'a> {
    /// A load into the table `name`, whose present form is `target`. `staged` is left with the changes of the
    /// segment that an error comes from.
    pub(crate) fn new(
        session: &'s Session,
        stages: &'s mut Stages,
        name: &'s Qualified,
        target: Option<Target>,
        staged: &'s mut Vec<Staged>,
    ) -> Self {
        staged.clear();
        Self {
            session,
            stages,
            name,
            target,
            plans: Vec::new(),
            segment: None,
            staged,
            lines: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4),
            scratch: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Deletes the rows below `seq`. Others' rows are among them: their writers wait, or two that sweep at once
    /// would lock each other out.
    pub(crate) async fn sweep(&mut self, seq: u64) -> Result<(), Failure> {
        if self.target.is_none() {
            return Ok(());
        }
        let name = self.name;
        let client = &self.session.client;
        let doing = || format!("delete the rows of {name} below a truncate or re-snapshot");
        let grant = || use_grant(self.session, name);
        client
            .batch_execute(&format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE"))
            .await
            .attempt(doing, grant)?;
        self.tally.swept += client
            .execute_typed(
                &format!("DELETE FROM {name} WHERE _tributary_seq < {seq}"),
                &[],
            )
            .await
            .attempt(doing, grant)?;
        Ok(())
    }

    /// Takes a change, whose place among all of the write is `ordinal`.
    pub(crate) async fn push(
        &mut self,
        ordinal: usize,
        change: &Change<'a>,
    ) -> Result<(), Failure> {
        let known = self.plans.iter().rposition(|plan| plan.serves(change));
        let plan = match known {
            Some(plan) => plan,
            None => match self.plan(change).await? {
                Some(plan) => plan,
                // A deletion, and there is no table yet.
                None => return Ok(()),
            },
        };
        if self.segment.is_none() {
            self.begin_segment().await?;
        }
        self.staged.push(Staged {
            ordinal,
            partition: change.partition,
            offset: change.offset,
        });
        self.plans[plan]
            .append_line(change, &mut self.lines, &mut self.scratch)
            .map_err(|(column, error)| self.unreadable(column, error))?;
        if let Some(segment) = &mut self.segment {
            match change.action {
                Action::Delete => segment.deletes += 1,
                Action::Upsert(_) | Action::Append(_) => segment.upserts += 1,
            }
        }
        if self.lines.len() >= CHUNK_BYTES {
            self.send_lines().await?;
        }
        Ok(())
    }

    /// Merges what is staged.
    pub(crate) async fn finish(mut self) -> Result<Tally, Failure> {
        self.merge().await?;
        Ok(self.tally)
    }

    /// Prepares the table for changes of a kind that was not seen yet.
    async fn plan(&mut self, change: &Change<'a>) -> Result<Option<usize>, Failure> {
        let (key_type, row_type) = record_types(change);
        let wanted = Wanted::new(key_type, row_type)?;
        if row_type.is_some() {
            let fits = match &self.target {
                Some(target) => target.growth(&wanted)?.is_none(),
                None => false,
            };
            if !fits {
                self.merge().await?;
                self.staged.clear();
                self.plans.clear();
                self.adapt(&wanted).await?;
            }
        }
        let Some(target) = &self.target else {
            return Ok(None);
        };
        target.check_key(&wanted.key)?;
        self.plans.push(Plan::new(target, change));
        Ok(Some(self.plans.len() - 1))
    }

    /// Creates the table or lets it grow, unless another partition's writer was faster.
    async fn adapt(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let (session, name) = (self.session, self.name);
        lock_definition(session, name).await?;
        match Target::read(session, name).await? {
            Some(target) => {
                let growth = target.growth(wanted)?;
                if !growth.is_none() {
                    target.grow(session, &growth).await?;
                }
            }
            None => Target::create(session, name, wanted).await?,
        }
        self.target = Target::read(session, name).await?;
        Ok(())
    }

    async fn begin_segment(&mut self) -> Result<(), Failure> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let stage = self.stages.stage(self.session, target).await?;
        let copy = self
            .session
            .client
            .copy_in(&stage.copy)
            .await
            .attempt(|| self.copying(), String::new)?;
        self.segment = Some(Segment {
            stage,
            copy: Box::pin(copy),
            upserts: 0,
            deletes: 0,
        });
        Ok(())
    }

    async fn send_lines(&mut self) -> Result<(), Failure> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let lines = Bytes::copy_from_slice(&self.lines);
        self.lines.clear();
        segment
            .copy
            .send(lines)
            .await
            .map_err(|error| classify(&error))
    }

    /// Ends the running segment: its rows reach the target.
    async fn merge(&mut self) -> Result<(), Failure> {
        self.send_lines().await?;
        let Some(mut segment) = self.segment.take() else {
            return Ok(());
        };
        let stage = &segment.stage;
        let columns = stage
            .target
            .columns
            .iter()
            .map(|column| column.name.as_str());
        segment
            .copy
            .as_mut()
            .finish()
            .await
            .map_err(|error| copy_failure(&error, &stage.name, columns))?;
        let session = self.session;
        let run = async |statement: String| {
            let rows = session.client.execute_typed(&statement, &[]).await;
            rows.attempt(
                || format!("merge into table {}", self.name),
                || use_grant(session, self.name),
            )
        };
        let merged = match segment.upserts {
            0 => 0,
            _ => run(stage.upsert_statement()).await?,
        };
        let deleted = match segment.deletes {
            0 => 0,
            _ => run(stage.delete_statement()).await?,
        };
        let staged = segment.upserts + segment.deletes;
        self.tally.merged += merged;
        self.tally.deleted += deleted;
        self.tally.skipped += staged.saturating_sub(merged + deleted);
        Ok(())
    }

    /// The change taken last holds a value that Postgres has no form for.
    fn unreadable(&self, column: usize, error: RenderError) -> Failure {
        let column = self
            .target
            .as_ref()
            .and_then(|target| target.columns.get(column));
        let column = column.map_or("", |column| &column.name);
        Failure::Record {
            line: Some(self.staged.len()),
            reason: format!("column '{column}': {error}"),
        }
    }

    fn copying(&self) -> String {
        format!("copy rows for table {}", self.name)
    }
}
