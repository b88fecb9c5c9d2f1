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

use crate::postgres::failure::{Attempt, classify, copy_failure};
use crate::postgres::row::append_line;
use crate::postgres::rules::Postgres;
use crate::postgres::session::Session;
use crate::postgres::stage::{self, Stage, Stages};
use crate::postgres::table::use_grant;
use crate::warehouse::batch::record_types;
use crate::warehouse::failure::Failure;
use crate::warehouse::metric::Tally;
use crate::warehouse::name::{Qualified, quoted_list};
use crate::warehouse::plan::Plan;
use crate::warehouse::target::{DELETED, LACKING, Target, Wanted};

/// How many bytes of lines are gathered before they are sent.
const CHUNK_BYTES: usize = 128 * 1024;

/// How rows come into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a temporary table, and merged from there.
    Staged,
    /// The same; rows that lack values get those that the table has before they are merged.
    Completed,
    /// Copied into it, which takes less than half of the server's time, and fails where it has one of the rows.
    Straight,
}

impl Way {
    /// The columns of our own that the rows have beyond the table's.
    const fn further(self) -> &'static [&'static str] {
        match self {
            Self::Straight => &[],
            Self::Staged => &[DELETED],
            Self::Completed => &[DELETED, LACKING],
        }
    }
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
        append_line(
            &self.plans[plan],
            change,
            &mut self.lines,
            &mut self.scratch,
        )
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
        let wanted = Wanted::new::<Postgres>(key_type, row_type)?;
        let Some(target) = &self.target else {
            return Ok(match row_type {
                Some(_) => Planned::Unfit,
                // A deletion, and there is no table yet.
                None => Planned::Nothing,
            });
        };
        // What contradicts is decided where the table would grow: one without rows takes any form.
        if !target
            .need::<Postgres>(&wanted, row_type)
            .is_ok_and(|growth| growth.is_empty())
        {
            return Ok(Planned::Unfit);
        }
        self.plans
            .push(Plan::new(target, change, self.way.further()));
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
                let columns = quoted_list(target.column_names());
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
        finished.map_err(|error| copy_failure(&error, &stage.name, stage.target.column_names()))?;
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
