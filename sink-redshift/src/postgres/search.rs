//! Which records of a batch are refused: all of them in one transaction, by the statements that refused the batch.

use tributary_engine::{Change, Rejection};

use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::load::Load;
use crate::postgres::session::Session;

/// Records that are tried together at first, and at the most.
const FIRST: usize = 256;

/// Finds the records that the warehouse can never take, in the order of their partitions and offsets. The transaction, begun by the
/// caller, is to be rolled back.
pub(crate) async fn refused<'a>(
    session: &Session,
    load: &mut Load<'_, 'a>,
    changes: &[Change<'a>],
) -> Result<Vec<Rejection>, Failure> {
    load.make_stage().await?;
    run(session, "SAVEPOINT search").await?;
    let mut refused = Vec::new();
    // The last of these is tried next. Sizes follow success: where all are refused, each is tried alone.
    let mut rest = vec![changes];
    let mut size = FIRST;
    while let Some(records) = rest.pop() {
        // One piece at a time is what the time-out of a transaction is for.
        session.deadline.restart();
        let (piece, later) = records.split_at(size.min(records.len()));
        if !later.is_empty() {
            rest.push(later);
        }
        let tried = load.try_out(piece).await;
        run(session, "ROLLBACK TO SAVEPOINT search").await?;
        let (line, reason) = match tried {
            Ok(()) => {
                size = (size * 2).min(FIRST);
                continue;
            }
            Err(Failure::Record { line, reason }) => (line, reason),
            Err(failure) => return Err(failure),
        };
        size = (size / 2).max(1);
        let named = line
            .and_then(|line| line.checked_sub(1))
            .filter(|at| *at < piece.len());
        match (named, piece) {
            (None, [record]) => refused.push(rejection(record, reason)),
            // What comes before it was copied; whether the merge takes it is not known.
            (Some(at), _) => {
                refused.push(rejection(&piece[at], reason));
                rest.extend(
                    [&piece[at + 1..], &piece[..at]]
                        .iter()
                        .filter(|left| !left.is_empty()),
                );
            }
            (None, _) => {
                let (first, second) = piece.split_at(piece.len() / 2);
                rest.extend([second, first]);
            }
        }
    }
    refused.sort_unstable_by_key(|rejection| (rejection.partition, rejection.offset));
    Ok(refused)
}

const fn rejection(record: &Change<'_>, reason: String) -> Rejection {
    Rejection {
        partition: record.partition,
        offset: record.offset,
        reason,
    }
}

async fn run(session: &Session, statement: &str) -> Result<(), Failure> {
    session
        .client
        .batch_execute(statement)
        .await
        .attempt(|| "search for refused records".to_owned(), String::new)
}
