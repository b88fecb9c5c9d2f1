//! `--abandon`: what an unfinished reindex has made goes.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tributary_engine::Log;
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, Result};

use super::building::{alone, goes_on_elsewhere, take_back};
use super::finish::{self, forget_group, take_names_off};
use super::rollback;
use super::site::Site;
use super::standing::Standing;
use crate::succession::Build;

/// What reindexes of the alias have left.
#[derive(Debug)]
struct Left {
    /// The indices in use.
    current: Vec<Standing>,
    /// Those that are built.
    begun: Vec<(Standing, Build)>,
}

impl Left {
    /// # Errors
    /// Stop: a reindex has moved the alias. Otherwise the engine's.
    async fn find(site: &Site) -> Result<Self> {
        let indices = site.list().await?.into_iter();
        let (current, others): (Vec<_>, Vec<_>) =
            indices.partition(|index| index.aliases.contains_key(&site.alias));
        if let Some(index) = current.iter().find(|index| index.build().is_some()) {
            return Err(Error::stop_msg(format_args!(
                "the reindex has put '{}' in its place: there is nothing to abandon",
                index.name
            ))
            .remedy("run `reindex` without --abandon, which clears up"));
        }
        let begun = others.into_iter();
        let begun = begun.filter_map(|index| index.build().map(|build| (index, build)));
        Ok(Self {
            current,
            begun: begun.collect(),
        })
    }

    /// Those that were kept before, or those that were not.
    fn names(&self, is_back: bool) -> Vec<&str> {
        let begun = self.begun.iter();
        let begun = begun.filter(|(_, build)| build.is_back == is_back);
        begun.map(|(index, _)| index.name.as_str()).collect()
    }

    fn is_nothing(&self) -> bool {
        self.begun.is_empty() && self.current.iter().all(|index| index.handover().is_none())
    }

    /// Waits until nobody is at it; what there is then. What was seen before holds no more: who was at it may have moved the alias and
    /// deleted the index that it had led to.
    ///
    /// # Errors
    /// Stop: a reindex is under way, or has moved the alias. Otherwise the engine's and Kafka's.
    async fn alone(self, site: &Site, log: &Log) -> Result<Self> {
        for (_, build) in &self.begun {
            alone(site, log, &build.group).await?;
        }
        let now = Self::find(site).await?;
        let was_seen = |(index, build): &&(Standing, Build)| {
            let mut seen = self.begun.iter();
            seen.any(|(before, of)| before.name == index.name && of.runner == build.runner)
        };
        match now.begun.iter().find(|begun| !was_seen(begun)) {
            Some((index, _)) => Err(goes_on_elsewhere(&index.name)),
            None => Ok(now),
        }
    }
}

/// Deletes the indices that reindexes of the alias have begun, and their groups.
///
/// # Errors
/// Stop: a reindex is under way, or has moved the alias; interrupted. Otherwise the engine's and Kafka's.
pub(super) async fn abandon(
    site: &Site,
    log: &Log,
    is_confirmed: bool,
    stop: &CancellationToken,
) -> Result<Answer> {
    site.settle().await?;
    let mut left = Left::find(site).await?;
    if is_confirmed {
        left = tokio::select! {
            () = stop.cancelled() => return Err(interrupted(&site.alias)),
            left = left.alone(site, log) => left?,
        };
    }
    let (deletes, keeps) = (left.names(false), left.names(true));
    let json = json!({"alias": site.alias, "deletes": deletes, "keeps": keeps});
    if left.is_nothing() {
        let text = format!("{}: there is no unfinished reindex\n", site.alias);
        return Ok(Answer::ok(text, json));
    }
    let text = text(&site.alias, is_confirmed, (&deletes, &keeps));
    if !is_confirmed {
        return Ok(Answer::unconfirmed(text, json));
    }
    delete(site, log, &left, stop).await?;
    Ok(Answer::ok(text, json))
}

fn text(alias: &str, is_confirmed: bool, (deletes, keeps): (&[&str], &[&str])) -> String {
    let (deleted, kept) = match is_confirmed {
        true => ("has deleted", "has given up going back to"),
        false => ("would delete", "would give up going back to"),
    };
    let mut text = String::new();
    if !deletes.is_empty() || keeps.is_empty() {
        let names = deletes.join("', '");
        text.push_str(&format!(
            "{alias}: {deleted} '{names}', which a reindex has begun\n"
        ));
    }
    for name in keeps {
        text.push_str(&format!("{alias}: {kept} '{name}', which stays kept\n"));
    }
    text
}

async fn delete(site: &Site, log: &Log, left: &Left, stop: &CancellationToken) -> Result<()> {
    let Left { current, begun } = left;
    for index in current {
        take_back(site, index).await?;
    }
    let is_blocked = begun.iter().any(|(_, build)| build.of == site.alias);
    if let Some(plain) = site.index(&site.alias).await?.filter(|_| is_blocked) {
        // Before what says that a reindex has done it.
        site.unblock(&plain.name).await?;
    }
    for (index, build) in begun {
        if build.is_back {
            take_names_off(site, index).await?;
            forget_group(log, &build.group).await?;
            rollback::give_up(site, &index.name).await?;
        } else {
            finish::delete(site, &index.name, stop).await?;
            forget_group(log, &build.group).await?;
        }
    }
    for index in current {
        if let Some(index) = site.index(&index.name).await? {
            take_names_off(site, &index).await?;
        }
    }
    Ok(())
}

fn interrupted(alias: &str) -> Error {
    Error::stop_msg(format_args!(
        "interrupted: of '{alias}' nothing is deleted yet"
    ))
    .remedy("run the command again, which clears up")
}
