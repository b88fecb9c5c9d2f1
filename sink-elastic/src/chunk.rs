//! The lines of a `_bulk` request, and which record each pair of lines stands for.

mod again;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tributary_engine::{Action, Change, Rejection, ValueRow};
use tributary_runtime::Result;
use tributary_schemas::record::RecordType;
use tributary_schemas::render::{self, RenderError};

use crate::document::{Document, DocumentPlan};
use crate::id;
use crate::index::Index;

/// What a chunk's buffer begins with; a small batch needs no more.
const FIRST_BYTES: usize = 64 * 1024;

/// What follows the version's type on an action's line.
const ACTION_END: &[u8] = b"\"}}\n";

/// Which version a document may have for an operation to take effect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum VersionType {
    /// An older one than the operation's.
    #[default]
    External,
    /// An older one, or the operation's.
    ExternalGte,
}

impl VersionType {
    const fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::ExternalGte => "external_gte",
        }
    }
}

/// One operation within a [`Chunk`].
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The record's partition and offset; of a sweep's delete, none.
    pub(crate) place: Option<(i32, i64)>,
    pub(crate) is_delete: bool,
    /// The index into [`Chunk::plans`] of a document's row type.
    pub(crate) plan: Option<usize>,
    lines: Range<usize>,
}

/// The operations of one request, each on another document, or with another version of it.
#[derive(Debug)]
pub(crate) struct Chunk {
    body: Bytes,
    pub(crate) operations: Vec<Operation>,
    /// The row types of the documents.
    pub(crate) plans: Vec<Arc<DocumentPlan>>,
    /// Records that could not be encoded; none of [`Chunk::operations`] is theirs.
    pub(crate) rejections: Vec<Rejection>,
    /// Documents with a null in the place of a value that nobody has.
    pub(crate) incomplete: u64,
}

impl Chunk {
    /// The request's body.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Of a document: the plan that it was made by.
    pub(crate) fn plan_of(&self, operation: &Operation) -> Option<&DocumentPlan> {
        self.plans.get(operation.plan?).map(Arc::as_ref)
    }

    /// How many bytes an operation has.
    pub(crate) fn bytes_of(operation: &Operation) -> usize {
        operation.lines.len()
    }
}

/// A [`Chunk`] that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    body: Vec<u8>,
    operations: Vec<Operation>,
    plans: Vec<Arc<DocumentPlan>>,
    rejections: Vec<Rejection>,
    incomplete: u64,
    /// Of changes.
    version_type: VersionType,
}

impl Draft {
    fn new(bytes: usize, version_type: VersionType) -> Self {
        Self {
            body: Vec::with_capacity(bytes),
            version_type,
            ..Self::default()
        }
    }

    /// The chunk as it is sent.
    pub(crate) fn finish(self) -> Chunk {
        Chunk {
            body: self.body.into(),
            operations: self.operations,
            plans: self.plans,
            rejections: self.rejections,
            incomplete: self.incomplete,
        }
    }

    /// Adds a sweep's delete of the document whose `_id` is given as a JSON string, if its version is `last` or
    /// an older one. The engine then keeps out what comes late at these versions, and nothing newer.
    pub(crate) fn push_sweep(&mut self, id_json: &[u8], last: u64) {
        self.push_delete(None, id_json, last, VersionType::ExternalGte);
    }

    fn push_delete(
        &mut self,
        place: Option<(i32, i64)>,
        id_json: &[u8],
        version: u64,
        version_type: VersionType,
    ) {
        let start = self.body.len();
        self.push_action("delete", id_json, version, version_type);
        self.operations.push(Operation {
            place,
            is_delete: true,
            plan: None,
            lines: start..self.body.len(),
        });
    }

    fn plan_index(&mut self, plan: &Arc<DocumentPlan>) -> usize {
        let known = self.plans.iter().position(|known| Arc::ptr_eq(known, plan));
        known.unwrap_or_else(|| {
            self.plans.push(Arc::clone(plan));
            self.plans.len() - 1
        })
    }

    fn push_index(
        &mut self,
        change: &Change<'_>,
        (row, kept): (&ValueRow<'_>, Option<&Document>),
        id_json: &[u8],
        plan: &Arc<DocumentPlan>,
    ) {
        let start = self.body.len();
        self.push_action("index", id_json, change.seq, self.version_type);
        match plan.write(&row.row, kept, change.seq, &mut self.body) {
            Ok(has_lost) => self.incomplete += u64::from(has_lost),
            Err(reason) => {
                self.body.truncate(start);
                return self.reject(change, reason);
            }
        }
        self.body.push(b'\n');
        let plan = self.plan_index(plan);
        self.operations.push(Operation {
            place: Some((change.partition, change.offset)),
            is_delete: false,
            plan: Some(plan),
            lines: start..self.body.len(),
        });
    }

    fn reject(&mut self, change: &Change<'_>, reason: String) {
        self.rejections.push(Rejection {
            partition: change.partition,
            offset: change.offset,
            reason,
        });
    }

    fn push_action(&mut self, name: &str, id_json: &[u8], version: u64, version_type: VersionType) {
        let mut version_digits = itoa::Buffer::new();
        for part in [
            b"{\"" as &[u8],
            name.as_bytes(),
            b"\":{\"_id\":",
            id_json,
            b",\"version\":",
            version_digits.format(version).as_bytes(),
            b",\"version_type\":\"",
            version_type.name().as_bytes(),
            ACTION_END,
        ] {
            self.body.extend_from_slice(part);
        }
    }
}

/// What is to be done with a document.
#[derive(Debug)]
pub(crate) enum Task<'a> {
    /// A record's change.
    Apply(Change<'a>),
    /// The change of a record that lacks values, and the document that has them.
    Complete(&'a Change<'a>, Option<&'a Document>),
    /// A delete that keeps out what comes late at its version or an older one; of no record that could be put aside.
    KeepOut(Change<'a>),
}

/// Cuts tasks into chunks as large as the index's engine bears, one at a time as they are asked for.
pub(crate) struct Chunks<'a, 'i> {
    tasks: Box<dyn Iterator<Item = Task<'a>> + Send + 'a>,
    index: &'i Index,
    version_type: VersionType,
    /// The plan used last, with the row type that it was found for.
    last: Option<(&'a RecordType, Arc<DocumentPlan>)>,
    id: String,
    id_json: Vec<u8>,
}

impl<'a, 'i> Chunks<'a, 'i> {
    pub(crate) fn new(
        tasks: impl Iterator<Item = Task<'a>> + Send + 'a,
        index: &'i Index,
        version_type: VersionType,
    ) -> Self {
        Self {
            tasks: Box::new(tasks),
            index,
            version_type,
            last: None,
            id: String::new(),
            id_json: Vec::new(),
        }
    }

    fn push(&mut self, task: &Task<'a>, chunk: &mut Draft) -> Result<()> {
        match task {
            Task::Apply(change) => self.push_change(change, None, chunk)?,
            Task::Complete(change, kept) => self.push_change(change, *kept, chunk)?,
            // A key without a form is in no document.
            Task::KeepOut(change) => {
                if self.encode_id(change).is_ok() {
                    chunk.push_sweep(&self.id_json, change.seq);
                }
            }
        }
        Ok(())
    }

    fn push_change(
        &mut self,
        change: &Change<'a>,
        kept: Option<&Document>,
        chunk: &mut Draft,
    ) -> Result<()> {
        if let Err(error) = self.encode_id(change) {
            chunk.reject(change, format!("the key: {error}"));
            return Ok(());
        }
        match &change.action {
            Action::Delete => {
                let place = Some((change.partition, change.offset));
                chunk.push_delete(place, &self.id_json, change.seq, self.version_type);
            }
            Action::Upsert(row) | Action::Append(row) => {
                self.use_plan(row.row_type)?;
                if let Some((_, plan)) = &self.last {
                    chunk.push_index(change, (row, kept), &self.id_json, plan);
                }
            }
        }
        Ok(())
    }

    fn encode_id(&mut self, change: &Change<'a>) -> std::result::Result<(), RenderError> {
        self.id.clear();
        match &change.key {
            Some(key) => id::of_key(key, &mut self.id)?,
            None => id::of_position(change.partition, change.offset, &mut self.id),
        }
        self.id_json.clear();
        render::json_string(&self.id, &mut self.id_json);
        Ok(())
    }

    /// Sets [`Chunks::last`] for a row type.
    fn use_plan(&mut self, row_type: &'a RecordType) -> Result<()> {
        let known = self
            .last
            .as_ref()
            .is_some_and(|(last, _)| std::ptr::eq(*last, row_type));
        if !known {
            self.last = Some((row_type, self.index.plan(row_type)?));
        }
        Ok(())
    }

    /// Fills a chunk, from the first task on.
    fn fill(&mut self, first: &Task<'a>) -> Result<Chunk> {
        let bytes = self.index.throttle().bytes();
        let mut chunk = Draft::new(bytes.min(FIRST_BYTES), self.version_type);
        self.push(first, &mut chunk)?;
        while chunk.body.len() < bytes
            && let Some(task) = self.tasks.next()
        {
            self.push(&task, &mut chunk)?;
        }
        Ok(chunk.finish())
    }
}

impl Iterator for Chunks<'_, '_> {
    /// An error where rows cannot become documents at all: it stops the service.
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        let first = self.tasks.next()?;
        Some(self.fill(&first))
    }
}
