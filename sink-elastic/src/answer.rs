//! What the engine answers to a `_bulk` request, operation by operation.

use std::borrow::Cow;

use serde::Deserialize;
use tributary_engine::Rejection;
use tributary_runtime::{Error, Result};

use crate::chunk::{Chunk, Operation};
use crate::failure::{self, Failure, Verdict};
use crate::metric;

/// What every item of a response is cut down to.
pub(crate) const FILTER: &str = "items.*._index,items.*.status,items.*.error";

#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    items: Vec<Entry<'a>>,
}

#[derive(Debug, Deserialize)]
struct Entry<'a> {
    #[serde(rename = "index", alias = "delete", borrow)]
    item: Item<'a>,
}

/// What became of one operation.
#[derive(Debug, Deserialize)]
pub(crate) struct Item<'a> {
    #[serde(rename = "_index", borrow)]
    index: Cow<'a, str>,
    status: u16,
    #[serde(default)]
    error: Option<Failure>,
}

/// What became of the operations of one request.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) indexed: u64,
    deleted: u64,
    /// The index had this version or a newer one.
    pub(crate) conflicts: u64,
    pub(crate) again: Vec<TurnedAway>,
    /// Documents that the index has, or had, by this request.
    pub(crate) passed: u64,
    /// Documents that are refused for what an ingest pipeline may have done, and the types of the last one's failure.
    pub(crate) by_pipelines: u64,
    pub(crate) why: String,
    pub(crate) rejections: Vec<Rejection>,
}

/// An operation that failed in a way that may pass.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    pub(crate) operation: Operation,
    pub(crate) status: u16,
    /// The types of the failure, with the column that it names.
    pub(crate) what: String,
}

impl TurnedAway {
    /// Whether the engine failed at it, and was not just too busy.
    pub(crate) const fn is_failure(&self) -> bool {
        self.status >= 500
    }
}

impl Item<'_> {
    /// Whether the engine was too busy for it.
    pub(crate) fn is_turned_away(&self) -> bool {
        let error = self.error.as_ref().filter(|_| self.status == 429);
        error.is_some_and(|error| !failure::is_block(&error.kind))
    }

    /// Whether the engine has done it, or had done it before.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.error.is_none() || self.status == 409
    }

    /// Whether the engine failed at it.
    pub(crate) const fn is_failure(&self) -> bool {
        self.error.is_some() && self.status >= 500
    }

    /// Whether it concerns an index other than `target`. An item that reached none has the alias' name.
    pub(crate) fn is_elsewhere(&self, alias: &str, target: &str) -> bool {
        self.index != target && self.index != alias
    }
}

/// Reads the items of an answer to `operations` operations, in their order.
///
/// # Errors
/// Retry: the answer is cut or is no engine's.
pub(crate) fn items<'a>(alias: &str, operations: usize, body: &'a [u8]) -> Result<Vec<Item<'a>>> {
    let answer: Answer<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::retry(error).context(format!("read the answer of '{alias}'")))?;
    if answer.items.len() != operations {
        return Err(Error::retry_msg(format_args!(
            "the engine answers {} items to {operations} operations on '{alias}'",
            answer.items.len()
        )));
    }
    Ok(answer.items.into_iter().map(|entry| entry.item).collect())
}

/// The index that operations went to instead of `target`, if any did.
pub(crate) fn elsewhere(items: &[Item<'_>], alias: &str, target: &str) -> Option<String> {
    let item = items.iter().find(|item| item.is_elsewhere(alias, target));
    item.map(|item| item.index.clone().into_owned())
}

/// Whether operations went to an index that has the alias' name.
pub(crate) fn is_plain(items: &[Item<'_>], alias: &str) -> bool {
    let mut done = items.iter().filter(|item| item.error.is_none());
    done.any(|item| item.index == alias)
}

impl Outcome {
    /// What became of the operations of `chunk` where the engine has done them all, in the index `target`; `None` where it says anything
    /// else, or in another form. Such an answer has one form, and a hundred times as long is taken to read it as JSON.
    pub(crate) fn of_all_done(chunk: &Chunk, target: &str, body: &[u8]) -> Option<Self> {
        let mut outcome = Self::default();
        let done = format!("\":{{\"_index\":\"{target}\",\"status\":");
        let mut rest = body.strip_prefix(b"{\"items\":[")?;
        for (number, operation) in chunk.operations.iter().enumerate() {
            if number > 0 {
                rest = rest.strip_prefix(b",")?;
            }
            let (name, count): (&[u8], _) = if operation.is_delete {
                (b"{\"delete", &mut outcome.deleted)
            } else {
                (b"{\"index", &mut outcome.indexed)
            };
            rest = rest.strip_prefix(name)?.strip_prefix(done.as_bytes())?;
            let (status, after) = rest.split_at_checked(3)?;
            let is_done = matches!(
                (status, operation.is_delete),
                (b"200", _) | (b"201", false) | (b"404", true)
            );
            if !is_done {
                return None;
            }
            *count += 1;
            rest = after.strip_prefix(b"}}")?;
        }
        outcome.passed = outcome.indexed;
        (rest == b"]}").then_some(outcome)
    }

    /// Tells what became of each operation of `chunk`.
    ///
    /// # Errors
    /// What concerns the index as a whole: by its nature retry or stop.
    pub(crate) fn of(alias: &str, chunk: &Chunk, items: Vec<Item<'_>>) -> Result<Self> {
        let mut outcome = Self::default();
        for (operation, item) in chunk.operations.iter().zip(items) {
            outcome.add(alias, chunk, operation, item)?;
        }
        Ok(outcome)
    }

    fn add(
        &mut self,
        alias: &str,
        chunk: &Chunk,
        operation: &Operation,
        item: Item<'_>,
    ) -> Result<()> {
        let Some(error) = item.error else {
            // Also 404: the document of a delete was not there, and the engine remembers the version.
            let count = if operation.is_delete {
                &mut self.deleted
            } else {
                &mut self.indexed
            };
            *count += 1;
            self.passed += u64::from(!operation.is_delete);
            return Ok(());
        };
        match (error.verdict(item.status, alias), operation.place) {
            (Verdict::Conflict, _) => {
                self.conflicts += 1;
                self.passed += u64::from(!operation.is_delete);
            }
            (Verdict::Again, _) => self.again.push(TurnedAway {
                operation: operation.clone(),
                status: item.status,
                what: error.of_document(chunk.plan_of(operation)),
            }),
            (Verdict::Refused, Some((partition, offset))) => {
                let plan = chunk.plan_of(operation);
                if error.may_be_of_a_pipeline(plan) {
                    self.by_pipelines += 1;
                    self.why = error.kinds();
                }
                self.rejections.push(Rejection {
                    partition,
                    offset,
                    reason: error.of_document(plan),
                });
            }
            (Verdict::Refused, None) => {
                return Err(Error::stop_msg(format_args!(
                    "the engine refuses a delete from '{alias}' ({})",
                    error.kinds()
                )));
            }
            (Verdict::Halt(error), _) => return Err(error),
        }
        Ok(())
    }

    pub(crate) fn record(&self) {
        metrics::counter!(metric::INDEXED).increment(self.indexed);
        metrics::counter!(metric::DELETED).increment(self.deleted);
        metrics::counter!(metric::CONFLICTS).increment(self.conflicts);
        metrics::counter!(metric::RETRIED).increment(self.again.len() as u64);
        metrics::counter!(metric::REJECTED).increment(self.rejections.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, elsewhere, items};
    use crate::chunk::{Chunk, Draft};

    fn deletes(count: usize) -> Chunk {
        let mut draft = Draft::default();
        for _ in 0..count {
            draft.push_sweep(b"\"a\"", 1);
        }
        draft.finish()
    }

    fn answer(items: &[&str]) -> String {
        format!("{{\"items\":[{}]}}", items.join(","))
    }

    #[test]
    fn an_answer_that_says_that_all_is_done_is_read_as_json_says() {
        let done = r#"{"delete":{"_index":"t-1","status":200}}"#;
        let gone = r#"{"delete":{"_index":"t-1","status":404}}"#;
        for told in [vec![], vec![done], vec![done, gone, done]] {
            let (chunk, body) = (deletes(told.len()), answer(&told));
            let compared = Outcome::of_all_done(&chunk, "t-1", body.as_bytes()).unwrap();
            let items = items("t", told.len(), body.as_bytes()).unwrap();
            assert_eq!(elsewhere(&items, "t", "t-1"), None);
            let read = Outcome::of("t", &chunk, items).unwrap();
            assert_eq!(compared.deleted, read.deleted);
            assert_eq!(compared.indexed, read.indexed);
        }
    }

    #[test]
    fn any_other_answer_is_left_to_who_reads_it() {
        let done = r#"{"delete":{"_index":"t-1","status":200}}"#;
        for other in [
            r#"{"delete":{"_index":"t-2","status":200}}"#,
            r#"{"index":{"_index":"t-1","status":200}}"#,
            r#"{"delete":{"_index":"t-1","status":201}}"#,
            r#"{"delete":{"_index":"t-1","status":429}}"#,
            r#"{"delete":{"_index":"t-1","status":2000}}"#,
            r#"{"delete":{"_index":"t-1","status":404,"error":{"type":"x"}}}"#,
            r#"{"delete": {"_index":"t-1","status":200}}"#,
        ] {
            let body = answer(&[done, other]);
            let outcome = Outcome::of_all_done(&deletes(2), "t-1", body.as_bytes());
            assert!(outcome.is_none(), "{other}");
        }
        let chunk = deletes(2);
        for body in [
            answer(&[done]),
            answer(&[done; 3]),
            answer(&[done, done]) + " ",
            String::new(),
        ] {
            let outcome = Outcome::of_all_done(&chunk, "t-1", body.as_bytes());
            assert!(outcome.is_none(), "{body}");
        }
    }
}
