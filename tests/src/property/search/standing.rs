//! What the engine has beside documents.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::group::Group;
use crate::http;

/// What there is beyond one index behind each alias, or is missing, or is left of a reindex; empty if nothing is. `prefix`
/// begins the names of all that the sink has made.
pub(super) async fn leftovers(
    engine: &str,
    prefix: &str,
    aliases: &[String],
    group: &Group,
) -> Result<Vec<String>> {
    let all = indices(engine, prefix).await?;
    let mut found = Vec::new();
    for alias in aliases {
        let begin = format!("{alias}-");
        let behind = all.keys().filter(|name| name.starts_with(&begin)).count();
        if behind != 1 {
            found.push(format!("{alias}: {behind} indices"));
        }
    }
    for (name, index) in &all {
        let alias = name.rsplit_once('-').map_or("", |(alias, _)| alias);
        if !aliases.iter().any(|expected| expected == alias) {
            found.push(format!("index {name} is nobody's"));
        }
        if index["aliases"] != json!({ (alias): {"is_write_index": true} }) {
            found.push(format!("{name} has the aliases {}", index["aliases"]));
        }
        let ours = &index["mappings"]["_meta"]["tributary"];
        for note in ["reindex", "handover", "replaced_by"] {
            if !ours[note].is_null() {
                found.push(format!("{name} has a note of a reindex: {ours}"));
            }
        }
        let settings = &index["settings"];
        if !settings["index.blocks.write"].is_null() || settings["index.refresh_interval"] == "-1" {
            found.push(format!("{name} is left as a reindex has it: {settings}"));
        }
    }
    let groups = tokio::task::block_in_place(|| group.of_reindexes())?;
    found.extend(groups.iter().map(|group| format!("group {group} is left")));
    Ok(found)
}

/// Deletes all indices that begin so.
pub(super) async fn delete_all(engine: &str, prefix: &str) -> Result<()> {
    // Engines may refuse patterns where they delete.
    for name in indices(engine, prefix).await?.keys() {
        let url = format!("{engine}/{name}");
        let answer = http::client().delete(url).send().await?;
        answer.error_for_status()?;
    }
    Ok(())
}

async fn indices(engine: &str, prefix: &str) -> Result<Map<String, Value>> {
    let url = format!("{engine}/{prefix}.*?expand_wildcards=all&flat_settings=true");
    let answer = http::client().get(url).send().await?;
    let status = answer.status();
    let mut all: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(status.is_success(), "{status}: {all}");
    let all = all.as_object_mut().context("no indices")?;
    Ok(std::mem::take(all))
}
