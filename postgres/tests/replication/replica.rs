//! What reads a stream: to a table of its own, or to the error that ends it.

use std::collections::BTreeMap;

use tributary_postgres::pgoutput::{Cell, Message, OldRow, TupleData, decode};
use tributary_postgres::replication::{Frame, ReplicationError, ReplicationStream};
use tributary_schemas::Lsn;

/// What a consumer makes of the stream.
#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) rows: BTreeMap<i32, String>,
    pub(crate) changes: usize,
    /// How many of them came before the transaction that is open.
    changes_before: usize,
    /// The commit LSN of each transaction that changed a row, in order.
    pub(crate) commits: Vec<Lsn>,
    pub(crate) end_lsn: Lsn,
}

impl Replica {
    /// Applies a message; true for the logical message that says to stop.
    fn apply(&mut self, message: &Message<'_>, name: &str) -> bool {
        match message {
            Message::Begin(_) => self.changes_before = self.changes,
            Message::Commit(commit) if self.changes > self.changes_before => {
                self.commits.push(commit.commit_lsn);
                self.end_lsn = commit.end_lsn;
            }
            Message::Insert(insert) => self.put(insert.new),
            Message::Update(update) => {
                if let Some(old) = update.old {
                    self.remove(old);
                }
                self.put(update.new);
            }
            Message::Delete(delete) => {
                self.changes += 1;
                self.remove(delete.old);
            }
            Message::Logical(message) => return message.prefix == name,
            _ => {}
        }
        false
    }

    fn put(&mut self, row: TupleData<'_>) {
        self.changes += 1;
        let [id, text] = texts(row);
        self.rows
            .insert(id.unwrap().parse().unwrap(), text.unwrap());
    }

    fn remove(&mut self, row: OldRow<'_>) {
        let (OldRow::Key(row) | OldRow::Full(row)) = row;
        let [id, _] = texts(row);
        assert!(self.rows.remove(&id.unwrap().parse().unwrap()).is_some());
    }

    /// Follows the stream to the commit of the stop message, or to the one after which `stop` says so.
    pub(crate) async fn follow(
        &mut self,
        name: &str,
        stream: &mut ReplicationStream,
        stop: impl Fn(&Self) -> bool,
    ) {
        let mut stopping = false;
        loop {
            match stream.next_buffered().unwrap() {
                Some(Frame::XLogData { payload, .. }) => {
                    let message = decode(payload).unwrap();
                    stopping |= self.apply(&message, name);
                    if matches!(message, Message::Commit(_)) && (stopping || stop(self)) {
                        return;
                    }
                }
                Some(Frame::Keepalive { .. }) => {}
                None => stream.fill().await.unwrap(),
            }
        }
    }
}

fn texts<const N: usize>(row: TupleData<'_>) -> [Option<String>; N] {
    let cells = row.cells().map(|cell| match cell {
        Cell::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Cell::Null => None,
        Cell::Unchanged | Cell::Binary(_) => panic!("not a text or null: {cell:?}"),
    });
    cells.collect::<Vec<_>>().try_into().unwrap()
}

/// Reads until the stream fails.
pub(crate) async fn error_of(stream: &mut ReplicationStream) -> ReplicationError {
    loop {
        match stream.next_buffered() {
            Ok(Some(_)) => {}
            Ok(None) => {
                if let Err(error) = stream.fill().await {
                    return error;
                }
            }
            Err(error) => return error,
        }
    }
}
