//! The mark of a table in the ledger's rows: one of its own for the topic, and in each partition's when that was caught up.

use tributary_engine::{Mark, Note};

/// The number of the row that is the topic's, and no partition's.
pub(crate) const OF_THE_TOPIC: i32 = -1;

/// What a row of the ledger holds of the mark. What its writer did not know is missing.
pub(crate) struct MarkRow {
    pub(crate) partition: i32,
    pub(crate) generation: Option<String>,
    pub(crate) topic_id: Option<String>,
    pub(crate) partitions: Option<i32>,
    pub(crate) versions_are_offsets: Option<bool>,
    pub(crate) caught_up_ms: Option<i64>,
    pub(crate) key_schemas: Option<Vec<i64>>,
}

/// The mark that a topic's rows hold; `None` where no generation has begun.
pub(crate) fn mark(rows: Vec<MarkRow>) -> Option<Mark> {
    let (of_topic, partitions): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row.partition == OF_THE_TOPIC);
    let row = of_topic.into_iter().next()?;
    let caught_up = partitions
        .iter()
        .filter_map(|row| Some((row.partition, row.caught_up_ms?)));
    let key_schemas = row.key_schemas.unwrap_or_default().into_iter();
    Some(Mark {
        generation: row.generation?,
        topic_id: row.topic_id,
        partitions: row.partitions.unwrap_or_default(),
        versions_are_offsets: row.versions_are_offsets.unwrap_or_default(),
        key_schemas: key_schemas
            .filter_map(|id| u32::try_from(id).ok())
            .collect(),
        caught_up_ms: caught_up.collect(),
    })
}

/// Notes as the rows of the ledger take them.
#[derive(Default)]
pub(crate) struct Notes {
    /// Partitions that were read to their end,
    pub(crate) caught_up: Vec<i32>,
    /// and when, one for each.
    pub(crate) times_ms: Vec<i64>,
    pub(crate) versions_are_offsets: bool,
    pub(crate) key_schemas: Vec<i64>,
}

impl Notes {
    pub(crate) fn new(notes: &[Note]) -> Self {
        let mut rows = Self::default();
        for note in notes {
            match note {
                Note::CaughtUp { partition, at_ms } => {
                    rows.caught_up.push(*partition);
                    rows.times_ms.push(*at_ms);
                }
                Note::VersionsAreOffsets => rows.versions_are_offsets = true,
                Note::KeySchema(id) => rows.key_schemas.push(i64::from(*id)),
            }
        }
        rows
    }
}
