//! The comparison: ranges of rows first, then what else the copy has, and between them what is in doubt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::Result;
use tributary_schemas::Lsn;

use super::doubt::{Doubt, Look};
use super::report::{Difference, Report};
use super::sides::{Held, Image, Line, Named, Original, Replica};

/// Rows of the first range.
const FIRST_RANGE: usize = 200;
/// Rows of a range, and keys that are looked up together, at most.
const MOST_ROWS: usize = 2_000;
/// About so many bytes a range has.
const RANGE_BYTES: usize = 1 << 20;
/// So many doubts are kept before they are settled.
const MOST_DOUBTS: usize = 20_000;
/// Between two questions of how far the copy is.
const LOOK: Duration = Duration::from_millis(200);

/// What a comparison may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take until what differs is certain, each time.
    pub settle: Duration,
    /// How many names of each kind are told.
    pub ids: usize,
}

/// How far a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many rows of the table are compared.
    Rows(u64),
    /// So many names of the copy are looked up.
    Copies(u64),
    /// So many differences are looked at again.
    Doubts(u64),
}

/// A comparison under way.
pub struct Comparison<'a, O, R> {
    original: &'a mut O,
    replica: &'a mut R,
    limits: Limits,
    tell: &'a mut (dyn FnMut(Progress) + Send),
    report: Report,
    doubts: BTreeMap<String, Doubt>,
}

impl<'a, O: Original, R: Replica> Comparison<'a, O, R> {
    /// Of these two; `tell` hears how far it is.
    pub fn new(
        original: &'a mut O,
        replica: &'a mut R,
        limits: Limits,
        tell: &'a mut (dyn FnMut(Progress) + Send),
    ) -> Self {
        Self {
            original,
            replica,
            limits,
            tell,
            report: Report::default(),
            doubts: BTreeMap::new(),
        }
    }

    /// Compares.
    ///
    /// # Errors
    /// Those of both sides that do not pass.
    pub async fn run(mut self) -> Result<Report> {
        self.rows().await?;
        self.settle().await?;
        self.copies().await?;
        self.settle().await?;
        if self.report.position.is_zero() {
            self.report.position = self.original.position().await?;
        }
        Ok(self.report)
    }

    /// Every row has its copy?
    async fn rows(&mut self) -> Result<()> {
        let (mut after, mut limit): (Option<Vec<String>>, _) = (None, FIRST_RANGE);
        loop {
            let lines = self.original.range(after.as_deref(), limit).await?;
            self.compare(&lines).await?;
            self.report.rows += lines.len() as u64;
            (self.tell)(Progress::Rows(self.report.rows));
            limit = next_limit(&lines);
            match lines.into_iter().next_back() {
                Some(last) => after = Some(last.key),
                None => return Ok(()),
            }
            self.settle_if_many().await?;
        }
    }

    async fn compare(&mut self, lines: &[Line]) -> Result<()> {
        let mut images = Vec::with_capacity(lines.len());
        for line in lines {
            match self.replica.image(line) {
                Some(image) if image.digest.is_some() => images.push((image, line)),
                unfit => {
                    let id = unfit.map_or_else(|| line.key.join(","), |image| image.id);
                    self.report.differs(Difference::Unfit, id, self.limits.ids);
                }
            }
        }
        let ids: Vec<&str> = images.iter().map(|(image, _)| image.id.as_str()).collect();
        let held = self.replica.read(&ids).await?;
        for ((image, line), held) in images.into_iter().zip(held) {
            if held.map(|held| held.digest) != image.digest {
                let doubt = Doubt::of(Some(line.key.clone()));
                self.doubts.insert(image.id, doubt);
            }
        }
        Ok(())
    }

    /// Every copy has its row?
    async fn copies(&mut self) -> Result<()> {
        loop {
            let ids = self.replica.list().await?;
            if ids.is_empty() {
                return Ok(());
            }
            let mut named: Vec<(String, Vec<String>)> = Vec::with_capacity(ids.len());
            self.report.copies += ids.len() as u64;
            for id in ids {
                match self.replica.named(&id) {
                    Named::Key(key) => named.push((id, key)),
                    Named::Nobody => {
                        self.doubts.insert(id, Doubt::of(None));
                    }
                    Named::Unknown => self.report.unknown += 1,
                }
            }
            for part in named.chunks(MOST_ROWS) {
                let keys: Vec<&[String]> = part.iter().map(|(_, key)| key.as_slice()).collect();
                let lines = self.original.rows(&keys).await?;
                let there = lines.iter().filter_map(|line| self.replica.image(line));
                let there: HashSet<String> = there.map(|image| image.id).collect();
                for (id, key) in part.iter().filter(|(id, _)| !there.contains(id)) {
                    let doubt = Doubt::of(Some(key.clone()));
                    self.doubts.insert(id.clone(), doubt);
                }
            }
            (self.tell)(Progress::Copies(self.report.copies));
            self.settle_if_many().await?;
        }
    }

    async fn settle_if_many(&mut self) -> Result<()> {
        if self.doubts.len() < MOST_DOUBTS {
            return Ok(());
        }
        self.settle().await
    }

    /// Looks at what is in doubt until that is certain, or time is up.
    async fn settle(&mut self) -> Result<()> {
        let until = Instant::now() + self.limits.settle;
        while !self.doubts.is_empty() {
            (self.tell)(Progress::Doubts(self.doubts.len() as u64));
            let rows = self.rows_in_doubt().await?;
            let position = self.original.position().await?;
            self.report.position = position;
            if let Some(waits_for) = self.wait(position, until).await? {
                self.give_up(&waits_for);
                return Ok(());
            }
            self.look(&rows).await?;
            if self.doubts.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                self.give_up("one look has taken all the time that there was");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Time is up: of what is in doubt nothing more is known than what it was seen to do.
    fn give_up(&mut self, waits_for: &str) {
        for (id, doubt) in std::mem::take(&mut self.doubts) {
            if doubt.moves() {
                self.report.moving.add(id, self.limits.ids);
            } else {
                self.report.behind.add(id, self.limits.ids);
                self.report.waits_for = Some(waits_for.to_owned());
            }
        }
    }

    /// The rows that there are of all that is in doubt, by their names.
    async fn rows_in_doubt(&mut self) -> Result<HashMap<String, (String, Image)>> {
        let keys = self
            .doubts
            .values()
            .filter_map(|doubt| doubt.key.as_deref());
        let keys: Vec<&[String]> = keys.collect();
        let mut rows = HashMap::with_capacity(keys.len());
        for part in keys.chunks(MOST_ROWS) {
            for line in self.original.rows(part).await? {
                if let Some(image) = self.replica.image(&line) {
                    rows.insert(image.id.clone(), (line.stamp, image));
                }
            }
        }
        Ok(rows)
    }

    /// Waits until the copy has everything up to a position; what it waited for, if it did not in time.
    async fn wait(&mut self, position: Lsn, until: Instant) -> Result<Option<String>> {
        while !self.original.is_published(position).await? {
            if Instant::now() >= until {
                return Ok(Some(format!(
                    "the source has not published everything up to {position}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        let ends = self.replica.ends().await?;
        loop {
            let unread = self.replica.unread(&ends).await?;
            if unread == 0 {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Ok(Some(format!("the sink has {unread} records yet to write")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at the copies of what is in doubt.
    async fn look(&mut self, rows: &HashMap<String, (String, Image)>) -> Result<()> {
        let mut copies: HashMap<String, Held> = HashMap::new();
        let ids: Vec<&str> = self.doubts.keys().map(String::as_str).collect();
        for part in ids.chunks(MOST_ROWS) {
            let held = self.replica.read(part).await?;
            let part = part.iter().zip(held);
            copies.extend(part.filter_map(|(id, held)| Some(((*id).to_owned(), held?))));
        }
        let (mut certain, mut moving) = (Vec::new(), Vec::new());
        self.doubts.retain(|id, doubt| {
            let row = rows.get(id).map(|(stamp, image)| (stamp.as_str(), image));
            match doubt.look(row, copies.remove(id)) {
                Look::Again => return true,
                Look::Differs(kind) => certain.push((kind, id.clone())),
                Look::Moves => moving.push(id.clone()),
                Look::Equal => {}
            }
            false
        });
        for id in moving {
            self.report.moving.add(id, self.limits.ids);
        }
        for (kind, id) in certain {
            self.report.differs(kind, id, self.limits.ids);
        }
        Ok(())
    }
}

/// How many rows are to be read next, if they are as large as these.
fn next_limit(lines: &[Line]) -> usize {
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    let row = (bytes / lines.len().max(1)).max(1);
    (RANGE_BYTES / row).clamp(1, MOST_ROWS)
}
