//! `--compare documents`: before the alias moves, each document of the old index is compared with that of the new one, and the other way
//! round, while both change.
//!
//! What differs at a look may only be behind in one of them. So it is looked at again, each time once both have read what was in the log at
//! the look before. One that an index shows alike at three looks has no record in between, and the other index must have shown the same at
//! the second look: it had read all that the first one shows, and the first one has read all that it could show by then. Where it has not, the two
//! differ. Where both go on changing neither stands still, and that is all that can be asked of them.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_engine::Advance;
use tributary_runtime::{Error, Policy, Result};

use super::documents::{Names, Pair, TwoIndices};
use super::level::Level;
use super::reading::interrupted;
use super::site::Site;
use super::standing::Standing;
use crate::voice::{Teller, say};

/// So many documents that differ at the first look are kept in mind before they are looked at again.
const IN_MIND: usize = 1000;
/// How often one is looked at that changes all the while.
const LOOKS: usize = 30;
/// Differences behind which nothing more is compared, and how many of them are named, on stderr and in the error.
const ENOUGH: usize = 1000;
const TOLD: usize = 100;
const NAMED: usize = 5;
/// How often the documents are listed from the beginning where the engine loses a list.
const TRIES: usize = 4;

/// What comparing has come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) documents: u64,
    /// Of these, those that changed whenever they were looked at.
    pub(super) changing: u64,
}

/// What looking at a document again has shown.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Equal,
    Differs,
    Unclear,
}

/// A document that differed at the first look.
#[derive(Debug)]
struct Doubt {
    id: String,
    /// The last three looks, the newest last.
    looks: Vec<Pair>,
    /// One index has never shown it.
    never_in: (bool, bool),
}

struct Comparison<'a, L> {
    documents: TwoIndices<'a>,
    site: &'a Site,
    stop: &'a CancellationToken,
    log: L,
    doubts: Vec<Doubt>,
    /// What differs, each in a sentence.
    differences: Vec<String>,
    done: Compared,
    teller: Teller,
    all: u64,
}

/// Compares all documents.
///
/// # Errors
/// Stop: they differ; interrupted. Otherwise the engine's, and those of [`Level::level`].
pub(super) async fn compare(
    site: &Site,
    (old, new): (&Standing, &Standing),
    stop: &CancellationToken,
    log: impl Level,
) -> Result<Compared> {
    let documents = TwoIndices::new(site, old, new);
    match &documents.unlike {
        Some(why) => say(&format!(
            "compares names and versions of documents, and not what is in them ({why})"
        )),
        None => say("compares documents"),
    }
    let mut comparison = Comparison {
        documents,
        site,
        stop,
        log,
        doubts: Vec::new(),
        differences: Vec::new(),
        done: Compared::default(),
        teller: Teller::counting("documents", &site.alias),
        all: site.count(old).await? + site.count(new).await?,
    };
    comparison.all_of(old).await?;
    comparison.all_of(new).await?;
    comparison.settle().await?;
    comparison.end(old, new)
}

impl<L: Level> Comparison<'_, L> {
    /// Goes through the documents of an index. Of the new one only those are of interest that the old one has not.
    async fn all_of(&mut self, index: &Standing) -> Result<()> {
        let (mut tries, done) = (1, self.done.documents);
        while self.differences.len() < ENOUGH {
            let mut names = Names::of(self.site, index);
            let listed = self.list(index, &mut names).await;
            names.end().await;
            match listed {
                Err(error) if error.policy() == Policy::Retry && tries < TRIES => {
                    say(&format!("{error}: compares from the beginning"));
                    self.done.documents = done;
                    tries += 1;
                }
                listed => return listed,
            }
        }
        Ok(())
    }

    async fn list(&mut self, index: &Standing, names: &mut Names<'_>) -> Result<()> {
        while self.differences.len() < ENOUGH {
            if self.stop.is_cancelled() {
                return Err(interrupted(&self.documents.new.name));
            }
            let begun = Instant::now();
            let ids = names.next().await?;
            if ids.is_empty() {
                break;
            }
            self.done.documents += ids.len() as u64;
            let of_interest = match index.name == self.documents.new.name {
                true => self.documents.absent(ids).await?,
                false => ids,
            };
            self.look(of_interest).await?;
            self.teller.tell(&Advance {
                done: self.done.documents,
                left: Some(self.all.saturating_sub(self.done.documents)),
                waits_for: None,
            });
            // The engine serves searches, too: half of the time is theirs.
            tokio::time::sleep(begun.elapsed().min(Duration::from_secs(5))).await;
            if self.doubts.len() >= IN_MIND {
                self.settle().await?;
            }
        }
        Ok(())
    }

    /// Looks at documents for the first time.
    async fn look(&mut self, ids: Vec<String>) -> Result<()> {
        let pairs = self.documents.pairs(&ids).await?;
        let both = ids.into_iter().zip(pairs);
        let doubtful = both.filter(|(_, pair)| pair.old != pair.new);
        self.doubts
            .extend(doubtful.map(|(id, pair)| Doubt::new(id, pair)));
        Ok(())
    }

    /// Looks at those again that have differed, until of each is known what that means.
    async fn settle(&mut self) -> Result<()> {
        let mut doubts = std::mem::take(&mut self.doubts);
        for _ in 1..LOOKS {
            if doubts.is_empty() {
                return Ok(());
            }
            self.log.level().await?;
            let ids: Vec<_> = doubts.iter().map(|doubt| doubt.id.clone()).collect();
            let pairs = self.documents.pairs(&ids).await?;
            let mut left = Vec::new();
            for (mut doubt, pair) in doubts.into_iter().zip(pairs) {
                match doubt.look_again(pair) {
                    Finding::Equal => {}
                    Finding::Differs => self.tell(&doubt),
                    Finding::Unclear => left.push(doubt),
                }
            }
            doubts = left;
        }
        for doubt in doubts {
            match doubt.never_in {
                (false, false) => self.done.changing += 1,
                // No row comes and goes like that.
                _ => self.tell(&doubt),
            }
        }
        Ok(())
    }

    fn tell(&mut self, doubt: &Doubt) {
        let (old, new) = (&self.documents.old.name, &self.documents.new.name);
        let what = doubt.what(old, new);
        if self.differences.len() < TOLD {
            say(&what);
        }
        self.differences.push(what);
    }

    fn end(self, old: &Standing, new: &Standing) -> Result<Compared> {
        let (differences, count) = (&self.differences, self.differences.len());
        if count == 0 {
            return Ok(self.done);
        }
        let named: Vec<_> = differences.iter().take(NAMED).map(String::as_str).collect();
        let (more, rest) = (
            if count < ENOUGH { "" } else { "at least " },
            if count > NAMED { "; …" } else { "" },
        );
        Err(Error::stop_msg(format_args!(
            "'{}' and '{}' differ in {more}{count} documents, and the alias is not moved: {}{rest}",
            old.name,
            new.name,
            named.join("; ")
        ))
        .remedy(
            "compare them with the table, and see `dead-letters list` for records that were refused; where the new index is right, run the command again with --compare counts, which goes on; else with --abandon --yes",
        ))
    }
}

impl Doubt {
    fn new(id: String, pair: Pair) -> Self {
        Self {
            id,
            never_in: (pair.old.is_none(), pair.new.is_none()),
            looks: vec![pair],
        }
    }

    fn look_again(&mut self, pair: Pair) -> Finding {
        self.never_in.0 &= pair.old.is_none();
        self.never_in.1 &= pair.new.is_none();
        if self.looks.len() == 3 {
            self.looks.remove(0);
        }
        self.looks.push(pair);
        if pair.old == pair.new {
            return Finding::Equal;
        }
        let &[first, second, third] = self.looks.as_slice() else {
            return Finding::Unclear;
        };
        // That one of them has it not may be two changes: it came, and was deleted.
        let old_stands = first.old.is_some() && first.old == second.old && second.old == third.old;
        let new_stands = first.new.is_some() && first.new == second.new && second.new == third.new;
        match (old_stands || new_stands) && second.old != second.new {
            true => Finding::Differs,
            false => Finding::Unclear,
        }
    }

    /// What differs, without a value.
    fn what(&self, old: &str, new: &str) -> String {
        let id = &self.id;
        let Some(last) = self.looks.last() else {
            return format!("'{id}' differs");
        };
        match (last.old, last.new) {
            (Some(in_old), Some(in_new)) if in_old.version < in_new.version => {
                format!("'{id}' is older in '{old}'")
            }
            (Some(in_old), Some(in_new)) if in_old.version > in_new.version => {
                format!("'{id}' is older in '{new}'")
            }
            (Some(_), Some(_)) => format!("'{id}' has other values, at the same version"),
            (None, _) => format!("'{id}' is missing in '{old}'"),
            (_, None) => format!("'{id}' is missing in '{new}'"),
        }
    }
}

#[cfg(test)]
mod tests;
