//! `--abandon`: what an unfinished reindex has made goes.

use serde_json::json;
use tributary_engine::Log;
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, Result};

use super::building::{alone, take_back};
use super::finish::{forget_group, take_names_off};
use super::site::Site;

/// Deletes the indices that reindexes of the alias have begun, and their groups.
///
/// # Errors
/// Stop: a reindex is under way, or has moved the alias. Otherwise the engine's and Kafka's.
pub(super) async fn abandon(site: &Site, log: &Log, is_confirmed: bool) -> Result<Answer> {
    site.settle().await?;
    let indices = site.list().await?;
    let is_current = |aliases: &serde_json::Map<_, _>| aliases.contains_key(&site.alias);
    let (current, others): (Vec<_>, Vec<_>) = indices
        .into_iter()
        .partition(|index| is_current(&index.aliases));
    if let Some(index) = current.iter().find(|index| index.build().is_some()) {
        return Err(Error::stop_msg(format_args!(
            "the reindex has put '{}' in its place: there is nothing to abandon",
            index.name
        ))
        .remedy("run `reindex` without --abandon, which clears up"));
    }
    let begun: Vec<_> = others
        .iter()
        .filter_map(|index| Some((index, index.build()?)))
        .collect();
    let names: Vec<_> = begun.iter().map(|(index, _)| index.name.as_str()).collect();
    let json = json!({"alias": site.alias, "deletes": names});
    if names.is_empty() && current.iter().all(|index| index.handover().is_none()) {
        let text = format!("{}: there is no unfinished reindex\n", site.alias);
        return Ok(Answer::ok(text, json));
    }
    let text = format!(
        "{}: {} '{}', which a reindex has begun\n",
        site.alias,
        if is_confirmed {
            "has deleted"
        } else {
            "would delete"
        },
        names.join("', '")
    );
    if !is_confirmed {
        return Ok(Answer::unconfirmed(text, json));
    }
    for (_, build) in &begun {
        alone(site, log, &build.group).await?;
    }
    for index in &current {
        take_back(site, index).await?;
    }
    let is_blocked = begun.iter().any(|(_, build)| build.of == site.alias);
    if let Some(plain) = site.index(&site.alias).await?.filter(|_| is_blocked) {
        // Before what says that a reindex has done it.
        site.unblock(&plain.name).await?;
    }
    for (index, build) in &begun {
        site.delete(&index.name).await?;
        forget_group(log, &build.group).await?;
    }
    for index in &current {
        if let Some(index) = site.index(&index.name).await? {
            take_names_off(site, &index).await?;
        }
    }
    Ok(Answer::ok(text, json))
}
