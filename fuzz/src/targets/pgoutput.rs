//! The decoder of pgoutput: whatever comes, no panic; what it takes can be walked, and no cut of it is taken too.

use crate::pgoutput::{Message, OldRow, TupleData, decode};

/// One payload of an `XLogData`.
pub fn run(input: &[u8]) {
    let Ok(message) = decode(input) else {
        return;
    };
    match message {
        Message::Insert(insert) => walk(insert.new),
        Message::Update(update) => {
            walk(update.new);
            if let Some(old) = update.old {
                walk_old(old);
            }
        }
        Message::Delete(delete) => walk_old(delete.old),
        _ => {}
    }
    // A message knows its end.
    assert!(decode(&input[..input.len() - 1]).is_err());
    let mut longer = input.to_vec();
    longer.push(0);
    assert!(decode(&longer).is_err());
}

fn walk_old(old: OldRow<'_>) {
    let (OldRow::Key(row) | OldRow::Full(row)) = old;
    walk(row);
}

fn walk(row: TupleData<'_>) {
    assert_eq!(row.cells().count(), row.len());
}
