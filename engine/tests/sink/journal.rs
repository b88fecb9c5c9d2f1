//! A target that writes a line per batch to a file, which outlives the process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tributary_engine::{
    Batch, Known, Lane, Mark, Note, Stand, TableName, Target, WriteError, Written,
};
use tributary_runtime::Error;

/// A slow target, so that there is a middle to be killed in.
const WRITE_TIME: Duration = Duration::from_millis(3);

#[derive(Debug, Clone)]
pub(crate) struct Journal {
    file: Arc<File>,
    name: String,
}

/// A write that began or ended.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_end: bool,
    pub(crate) partition: i32,
    pub(crate) first: i64,
    pub(crate) next: i64,
}

impl Journal {
    pub(crate) fn open(path: &Path, name: String) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self {
            file: Arc::new(file.unwrap()),
            name,
        }
    }

    /// One write to a file in append mode: lines of several processes do not mix.
    fn note(&self, what: &str, batch: &Batch) {
        let first = batch.changes().next().map_or(-1, |change| change.offset);
        let line = format!(
            "{} {what} {} {first} {}\n",
            self.name,
            batch.partition().partition,
            batch.next_offset()
        );
        (&*self.file).write_all(line.as_bytes()).unwrap();
    }
}

/// All whole lines of the file; none before it is there.
pub(crate) fn read(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        Entry {
            name: fields[0].to_owned(),
            is_end: fields[1] == "end",
            partition: fields[2].parse().unwrap(),
            first: fields[3].parse().unwrap(),
            next: fields[4].parse().unwrap(),
        }
    });
    entries.collect()
}

impl Target for Journal {
    type Lane = Self;

    async fn lane(&self, _topic: &str, _table: &TableName) -> Result<Self, Error> {
        Ok(self.clone())
    }
}

impl Lane for Journal {
    fn width(&self) -> usize {
        usize::MAX
    }

    /// As a target that was read to its end, whatever the partitions.
    async fn known(&self) -> Result<Known, Error> {
        Ok(Known::Marked(Mark {
            generation: "journal".to_owned(),
            topic_id: None,
            partitions: 1,
            versions_are_offsets: false,
            key_schemas: std::collections::BTreeSet::new(),
            caught_up_ms: (0..64).map(|partition| (partition, 0)).collect(),
        }))
    }

    async fn begin(&self, _mark: &Mark) -> Result<(), Error> {
        Ok(())
    }

    async fn note(&self, _generation: &str, _notes: &[Note]) -> Result<bool, Error> {
        Ok(true)
    }

    async fn discard(&self, _generation: Option<&str>) -> Result<(), Error> {
        Ok(())
    }

    async fn take(&self, _partition: i32) -> Result<Stand, Error> {
        Ok(Stand::AsTheGroup)
    }

    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        for batch in batches {
            self.note("begin", batch);
        }
        tokio::time::sleep(WRITE_TIME).await;
        for batch in batches {
            self.note("end", batch);
        }
        Ok(Written::Durable)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}
