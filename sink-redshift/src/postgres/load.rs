//! One batch on its way into the target, inside one transaction.

use std::collections::BTreeSet;
use std::pin::Pin;

use bytes::Bytes;
use futures::SinkExt as _;
use tokio_postgres::CopyInSink;
use tributary_engine::{Action, Change};
use tributary_runtime::Error;
use tributary_schemas::record::{Datum, RecordType};
use tributary_schemas::render::RenderError;

use crate::name::{Qualified, quoted_list};
use crate::postgres::failure::{Attempt, Failure, classify, copy_failure};
use crate::postgres::row::{Plan, Way, record_types};
use crate::postgres::session::Session;
use crate::postgres::stage::{self, Stage, Stages};
use crate::postgres::target::{Target, Wanted, use_grant};

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
    /// Rows that lack values which the table does not have either.
    pub(crate) incomplete: u64,
}

/// Takes changes one by one, and copies them into the table or, by a temporary one, merges them.
pub(crate) struct Load<'s, 'a> {
    session: &'s Session,
    stages: &'s mut Stages,
    name: &'s Qualified,
    target: Option<Target>,
    way: Way,
    plans: Vec<Plan<'a>>,
    /// The key's type of the first change. Of one type, a batch has each key once.
    key_type: Option<&'a RecordType>,
    /// There are keys of more types: a row may have come under more than one.
    has_more_keys: bool,
    segment: Option<Segment>,
    lines: Vec<u8>,
    scratch: Vec<u8>,
    tally: Tally,
}

/// What is on its way.
struct Segment {
    /// `None` on the straight way.
    stage: Option<Stage>,
    copy: Pin<Box<CopyInSink<Bytes>>>,
    upserts: u64,
    deletes: u64,
    bytes: usize,
    /// The table's columns of which any row lacks the value.
    lacking: BTreeSet<usize>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Taken {
    /// It is copied, or there is nothing to do.
    Yes,
    /// The table must be created, or must grow, before it can take it.
    Unfit,
}

/// How a change is to be copied.
enum Planned {
    At(usize),
    Nothing,
    Unfit,
}

impl<'s, 'a> Load<'s, 'a> {
    /// A load into the table `name`, whose present form is `target`.
    pub(crate) fn new(
        session: &'s Session,
        stages: &'s mut Stages,
        name: &'s Qualified,
        target: Option<Target>,
        way: Way,
    ) -> Self {
        Self {
            session,
            stages,
            name,
            target,
            way,
            plans: Vec::new(),
            key_type: None,
            has_more_keys: false,
            segment: None,
            lines: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4),
            scratch: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Takes a change.
    pub(crate) async fn push(&mut self, change: &Change<'a>) -> Result<Taken, Failure> {
        let known = self.plans.iter().rposition(|plan| plan.serves(change));
        let plan = match known {
            Some(plan) => plan,
            None => match self.plan(change)? {
                Planned::At(plan) => plan,
                Planned::Nothing => return Ok(Taken::Yes),
                Planned::Unfit => return Ok(Taken::Unfit),
            },
        };
        if self.segment.is_none() {
            self.begin_segment().await?;
        }
        let Some(segment) = &mut self.segment else {
            return Ok(Taken::Yes);
        };
        match change.action {
            Action::Delete => segment.deletes += 1,
            Action::Upsert(_) | Action::Append(_) => segment.upserts += 1,
        }
        if let Some(key) = &change.key {
            let first = *self.key_type.get_or_insert(key.key_type);
            self.has_more_keys |= !std::ptr::eq(first, key.key_type);
        }
        let line = segment.deletes + segment.upserts;
        if self.way == Way::Completed {
            segment.lacking.extend(self.plans[plan].lacking(change));
            self.tally.incomplete += u64::from(has_lost(change));
        }
        self.plans[plan]
            .append_line(change, &mut self.lines, &mut self.scratch)
            .map_err(|(column, error)| self.unreadable(line, column, error))?;
        if self.lines.len() >= CHUNK_BYTES {
            self.send_lines().await?;
        }
        Ok(Taken::Yes)
    }

    /// Whether nothing was done on the connection yet.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.segment.is_none()
    }

    /// Merges what is staged.
    pub(crate) async fn finish(mut self) -> Result<Tally, Failure> {
        self.merge().await?;
        Ok(self.tally)
    }

    /// Makes the temporary table before it is needed: what a savepoint takes back must not be remembered.
    pub(crate) async fn make_stage(&mut self) -> Result<(), Failure> {
        if let Some(target) = &self.target {
            self.stages.stage(self.session, target).await?;
        }
        Ok(())
    }

    /// Copies and merges these alone; the line of a failure is counted among them.
    pub(crate) async fn try_out(&mut self, changes: &[Change<'a>]) -> Result<(), Failure> {
        let tried = self.try_lines(changes).await;
        // Dropped, a COPY that failed half way ends.
        self.segment = None;
        self.lines.clear();
        tried
    }

    async fn try_lines(&mut self, changes: &[Change<'a>]) -> Result<(), Failure> {
        for change in changes {
            if self.push(change).await? == Taken::Unfit {
                return Err(Error::retry_msg(format_args!(
                    "table {} was changed while refused records are searched",
                    self.name
                ))
                .into());
            }
        }
        self.merge().await
    }

    /// How records of a kind that was not seen yet become rows.
    fn plan(&mut self, change: &Change<'a>) -> Result<Planned, Failure> {
        let (key_type, row_type) = record_types(change);
        let wanted = Wanted::new(key_type, row_type)?;
        let Some(target) = &self.target else {
            return Ok(match row_type {
                Some(_) => Planned::Unfit,
                // A deletion, and there is no table yet.
                None => Planned::Nothing,
            });
        };
        // What contradicts is decided where the table would grow: one without rows takes any form.
        if !target
            .need(&wanted, row_type)
            .is_ok_and(|need| need.is_none())
        {
            return Ok(Planned::Unfit);
        }
        self.plans.push(Plan::new(target, change, self.way));
        Ok(Planned::At(self.plans.len() - 1))
    }

    async fn begin_segment(&mut self) -> Result<(), Failure> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let client = &self.session.client;
        let (stage, copy) = match self.way {
            Way::Staged => {
                let stage = self.stages.stage(self.session, target).await?;
                let copy = client.copy_in(&stage.copy).await;
                (Some(stage), copy)
            }
            Way::Completed => {
                let stage = self.stages.stage(self.session, target).await?;
                let copy = client.copy_in(&stage.copy_of_incomplete_rows()).await;
                (Some(stage), copy)
            }
            Way::Straight => {
                let columns = target.columns.iter().map(|column| column.name.as_str());
                let columns = quoted_list(columns);
                let copy = format!("COPY {} ({columns}) FROM STDIN", self.name);
                (None, client.copy_in(&copy).await)
            }
        };
        let copy = copy.attempt(|| self.copying(), || use_grant(self.session, self.name))?;
        self.segment = Some(Segment {
            stage,
            copy: Box::pin(copy),
            upserts: 0,
            deletes: 0,
            bytes: 0,
            lacking: BTreeSet::new(),
        });
        Ok(())
    }

    async fn send_lines(&mut self) -> Result<(), Failure> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let lines = Bytes::copy_from_slice(&self.lines);
        segment.bytes += lines.len();
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
        let finished = segment.copy.as_mut().finish().await;
        let Some(stage) = &segment.stage else {
            self.tally.merged += finished.attempt(|| self.copying(), String::new)?;
            return Ok(());
        };
        let columns = stage.target.columns.iter();
        let columns = columns.map(|column| column.name.as_str());
        finished.map_err(|error| copy_failure(&error, &stage.name, columns))?;
        let session = self.session;
        let run = async |statement: String| {
            let rows = session.client.execute_typed(&statement, &[]).await;
            rows.attempt(
                || format!("merge into table {}", self.name),
                || use_grant(session, self.name),
            )
        };
        if !segment.lacking.is_empty() {
            if !stage.target.is_keyless() {
                run(stage.complete_statement(&segment.lacking)).await?;
            }
            let left = stage.count_incomplete(session, &segment.lacking).await?;
            self.tally.incomplete += left;
            // What was completed takes more room than came over the connection, by as much as nobody knows.
            segment.bytes = stage::LARGE;
        }
        let merged = match segment.upserts {
            0 => 0,
            _ => run(stage.upsert_statement(self.has_more_keys)).await?,
        };
        let deleted = match segment.deletes {
            0 => 0,
            _ => run(stage.delete_statement()).await?,
        };
        let staged = segment.upserts + segment.deletes;
        self.stages
            .empty(session, self.name, staged, segment.bytes)
            .await?;
        self.tally.merged += merged;
        self.tally.deleted += deleted;
        self.tally.skipped += staged.saturating_sub(merged + deleted);
        Ok(())
    }

    /// The change on this line holds a value that Postgres has no form for.
    fn unreadable(&self, line: u64, column: usize, error: RenderError) -> Failure {
        let column = self
            .target
            .as_ref()
            .and_then(|target| target.columns.get(column));
        let column = column.map_or("", |column| &column.name);
        Failure::Record {
            line: usize::try_from(line).ok(),
            reason: format!("column '{column}': {error}"),
        }
    }

    fn copying(&self) -> String {
        format!("copy rows for table {}", self.name)
    }
}

/// Whether nobody has a value of the row.
fn has_lost(change: &Change<'_>) -> bool {
    let row = change.row();
    row.is_some_and(|row| row.row.contains(&Datum::Lost))
}
