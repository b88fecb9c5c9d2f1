//! In which order a write is done: the rows, or where the table must grow for them that first and the rows again; where records
//! are refused, which.

use tributary_engine::{Rejection, WriteError};
use tributary_runtime::Error;

use crate::warehouse::batch::{Changes, name_of};
use crate::warehouse::failure::Failure;
use crate::warehouse::name::Qualified;

/// The steps of a write into one table. Each ends what it begins, whatever comes of it.
pub(crate) trait Write {
    /// Writes batches and how far they come, both or neither; false where the table must grow first.
    async fn attempt(&self, batches: &[impl Changes]) -> Result<bool, Failure>;

    /// Lets the table take the batches, apart from their rows: a rewrite that took long is not lost with a batch that fails.
    async fn grow(&self, batches: &[impl Changes]) -> Result<(), Failure>;

    /// Finds the records that can never be taken, in the order of their partitions and offsets.
    async fn refused(&self, batches: &[impl Changes]) -> Result<Vec<Rejection>, Failure>;
}

/// Writes batches of a topic into the table `target`.
///
/// # Errors
/// All records that the warehouse can never take, or why nothing is written.
pub(crate) async fn write(
    table: &impl Write,
    target: &Qualified,
    topic: &str,
    batches: &[impl Changes],
) -> Result<(), WriteError> {
    match attempt_twice(table, target, batches).await {
        Ok(()) => Ok(()),
        Err(Failure::Record { reason, .. }) => {
            let refused = table.refused(batches).await.map_err(Failure::into_error)?;
            if refused.is_empty() {
                return Err(Error::stop_msg(format_args!(
                    "the warehouse refuses a batch of {} without saying which record: {reason}",
                    name_of(topic, batches)
                ))
                .into());
            }
            Err(WriteError::Rejected(refused))
        }
        Err(Failure::TakenOver(error)) => Err(WriteError::TakenOver(error)),
        Err(Failure::Target(error)) => Err(WriteError::Target(error)),
    }
}

async fn attempt_twice(
    table: &impl Write,
    target: &Qualified,
    batches: &[impl Changes],
) -> Result<(), Failure> {
    if table.attempt(batches).await? {
        return Ok(());
    }
    table.grow(batches).await?;
    if table.attempt(batches).await? {
        return Ok(());
    }
    Err(Error::retry_msg(format_args!(
        "table {target} was changed by somebody else at the same moment"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};

    use tributary_engine::{Change, Rejection, WriteError};
    use tributary_runtime::Error;

    use super::{Changes, Failure, Qualified, Write, write};

    /// A batch of which nothing is read.
    struct Unread;

    impl Changes for Unread {
        fn partition(&self) -> i32 {
            0
        }

        fn next_offset(&self) -> i64 {
            1
        }

        fn below(&self) -> Option<u64> {
            None
        }

        fn inserts_only(&self) -> bool {
            false
        }

        fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send {
            std::iter::empty()
        }
    }

    /// A table of which it is planned what attempts lead to, and how many records are refused.
    struct Planned {
        attempts: Mutex<VecDeque<Result<bool, Failure>>>,
        refused: i64,
        steps: Mutex<Vec<&'static str>>,
    }

    impl Planned {
        fn step(&self, step: &'static str) {
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            steps.push(step);
        }
    }

    impl Write for Planned {
        async fn attempt(&self, _: &[impl Changes]) -> Result<bool, Failure> {
            self.step("attempt");
            self.attempts.lock().unwrap().pop_front().unwrap()
        }

        async fn grow(&self, _: &[impl Changes]) -> Result<(), Failure> {
            self.step("grow");
            Ok(())
        }

        async fn refused(&self, _: &[impl Changes]) -> Result<Vec<Rejection>, Failure> {
            self.step("refused");
            let rejection = |offset| Rejection {
                partition: 0,
                offset,
                reason: String::new(),
            };
            Ok((0..self.refused).map(rejection).collect())
        }
    }

    async fn written(
        attempts: impl IntoIterator<Item = Result<bool, Failure>>,
        refused: i64,
    ) -> (String, Result<(), WriteError>) {
        let table = Planned {
            attempts: Mutex::new(attempts.into_iter().collect()),
            refused,
            steps: Mutex::default(),
        };
        let target = Qualified::new("s", "t");
        let done = write(&table, &target, "topic", &[Unread]).await;
        (table.steps.into_inner().unwrap().join(" "), done)
    }

    fn record() -> Result<bool, Failure> {
        Err(Failure::Record {
            line: None,
            reason: "too long".to_owned(),
        })
    }

    #[tokio::test]
    async fn a_table_grows_once_and_then_takes_the_rows() {
        let (steps, done) = written([Ok(true)], 0).await;
        assert!(done.is_ok() && steps == "attempt", "{steps}");
        let (steps, done) = written([Ok(false), Ok(true)], 0).await;
        assert!(done.is_ok() && steps == "attempt grow attempt", "{steps}");
        let (steps, done) = written([Ok(false), Ok(false)], 0).await;
        assert_eq!(steps, "attempt grow attempt");
        match done {
            Err(WriteError::Target(error)) => {
                assert!(error.to_string().contains("changed by somebody else"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn refused_records_are_searched_and_other_failures_are_not() {
        let (steps, done) = written([Ok(false), record()], 2).await;
        assert_eq!(steps, "attempt grow attempt refused");
        assert!(matches!(done, Err(WriteError::Rejected(refused)) if refused.len() == 2));
        let (_, done) = written([record()], 0).await;
        match done {
            Err(WriteError::Target(error)) => assert!(
                error
                    .to_string()
                    .contains("a batch of topic[0] without saying which record: too long")
            ),
            other => panic!("{other:?}"),
        }
        let over = Failure::TakenOver(Error::retry_msg("over"));
        let (steps, done) = written([Err(over)], 0).await;
        assert_eq!(steps, "attempt");
        assert!(matches!(done, Err(WriteError::TakenOver(_))));
    }
}
