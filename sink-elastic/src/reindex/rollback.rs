//! `--rollback`: the index that a reindex has replaced, and kept, takes the place of the one in use. It is read on, in a group of its own,
//! from where it was left; from there on it is as if it were new (docs/adr/0017-rollback.md).

use tributary_engine::{Log, SinkConfig, is_unfit};
use tributary_runtime::{Error, Result};

use super::site::{Site, View};
use super::standing::Standing;
use crate::requests::written_by;
use crate::shape::Shape;
use crate::succession::{Build, Kept};

const BUILD_ANOTHER: &str = "run `reindex`, which builds another one from the beginning of the log";

/// The index that the one in use has replaced, and up to where that was read; of several the one that was replaced last.
///
/// # Errors
/// Stop: there is none, or it does not say from where it is to be read on.
pub(super) fn kept<'v>(alias: &str, view: &'v View) -> Result<(&'v Standing, Kept)> {
    let current = &view.current.name;
    let replaced = |index: &&Standing| index.replaced_by().as_ref() == Some(current);
    let mut all: Vec<_> = view.others.iter().filter(replaced).collect();
    all.sort_by_key(|index| index.kept().map(|kept| kept.at_ms));
    let Some(last) = all.pop() else {
        return Err(Error::stop_msg(format_args!(
            "'{alias}' leads to '{current}', and no index is kept whose place that has taken"
        ))
        .remedy(format!(
            "`--rollback` goes back to what `reindex --keep-old` has kept; else {BUILD_ANOTHER}"
        )));
    };
    match last.kept() {
        Some(kept) => Ok((last, kept)),
        None => Err(Error::stop_msg(format_args!(
            "'{}' was kept by an older version, which did not note up to where it was read",
            last.name
        ))
        .remedy(format!("{BUILD_ANOTHER}; delete this one"))),
    }
}

/// Whether a kept index can be read on from where it was left, for the service as it is configured.
///
/// # Errors
/// Stop: it cannot, and why. Otherwise Kafka's.
pub(super) async fn check(
    log: &Log,
    shape: &Shape,
    current: &Standing,
    (index, kept): (&Standing, &Kept),
) -> Result<()> {
    let name = &index.name;
    let line = |index: &Standing| index.mark.as_ref().map(|mark| mark.generation.clone());
    let (Some(mark), true) = (&index.mark, line(index) == line(current)) else {
        return Err(Error::stop_msg(format_args!(
            "'{name}' and '{}' are not of one generation: what the service has committed says nothing of '{name}'",
            current.name
        ))
        .remedy(BUILD_ANOTHER));
    };
    if index.is_restored {
        return Err(Error::stop_msg(format_args!(
            "the index '{name}' was restored from a snapshot: what was written since that was taken may not be in it"
        ))
        .remedy(BUILD_ANOTHER));
    }
    if index.is_blocked() {
        return Err(
            Error::stop_msg(format_args!("writes to '{name}' are blocked")).remedy(format!(
                "lift the block first: PUT /{name}/_settings {{\"index.blocks.write\": null}}"
            )),
        );
    }
    if index.documents() != shape.note() {
        return Err(Error::stop_msg(format_args!(
            "'{name}' holds documents as other `elasticsearch.documents` for topic {} say",
            shape.topic()
        ))
        .remedy(format!(
            "set `include`, `exclude` and `rename` back to what they were, start the service with that, and run this again; or {BUILD_ANOTHER}"
        )));
    }
    let fits = log.check_from(mark, &kept.offsets).await;
    fits.map_err(|error| match is_unfit(&error) {
        true => error
            .context(format!("'{name}' cannot be read on from where it was left"))
            .remedy(BUILD_ANOTHER),
        false => error,
    })
}

/// The group that reads for a kept index, and its alias meanwhile: the same for all that go back to it, so that none is left behind.
pub(super) fn names(site: &Site, service: &str, index: &str) -> (String, String) {
    let group = format!("{service}.reindex.{index}");
    let alias = crate::naming::beside(&site.alias, &format!("{index} back"));
    (group, alias)
}

/// What reading on needs, behind the note in the index that says who does it: the alias to write by, and where to begin. Where it has
/// gone on already, it goes on there.
///
/// # Errors
/// The engine's and Kafka's.
pub(super) async fn prepare(
    site: &Site,
    config: &SinkConfig,
    index: &Standing,
    build: &Build,
) -> Result<()> {
    site.change_aliases(&[written_by(&index.name, &build.alias)])
        .await?;
    let (Some(mark), Some(kept)) = (&index.mark, index.kept()) else {
        return Ok(());
    };
    let own = SinkConfig {
        name: build.group.clone(),
        ..config.clone()
    };
    let group = Log::of(&own, &site.topic)?;
    let is_new = group.read_to(&mark.generation).await?.is_empty();
    // Where the service had committed nothing, it is read from the beginning.
    if is_new && !kept.offsets.is_empty() {
        group.go_on_from(&mark.generation, &kept.offsets).await?;
    }
    Ok(())
}

/// The index is kept again, as it was before: what it has been read on by makes no difference.
///
/// # Errors
/// The engine's.
pub(super) async fn give_up(site: &Site, index: &str) -> Result<()> {
    let Some(index) = site.index(index).await? else {
        return Ok(());
    };
    let Some(build) = index.build() else {
        return Ok(());
    };
    let notes = index
        .notes
        .with_build(None)
        .with_replaced_by(Some(&build.of));
    site.note(&index.name, &notes).await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tributary_engine::Log;

    use super::super::site::View;
    use super::super::site::tests::config;
    use super::super::standing::Standing;
    use super::{check, kept};
    use crate::shape::Shape;
    use crate::succession::Kept;

    fn standing(name: &str, ours: &Value) -> Standing {
        let mut ours = ours.clone();
        ours["topic"] = "t".into();
        let index = json!({"mappings": {"_meta": {"tributary": ours}}});
        Standing::of(name, &index, "t").unwrap()
    }

    fn view(others: &[(&str, Value)]) -> View {
        View {
            current: standing("t-000003", &json!({})),
            others: others
                .iter()
                .map(|(name, ours)| standing(name, ours))
                .collect(),
        }
    }

    /// An index of this generation, with something else about it.
    fn made(generation: &str, more: impl FnOnce(&mut Value)) -> Standing {
        let ours = json!({"topic": "t", "generation": generation, "partitions": 1});
        let mut index = json!({
            "mappings": {"_meta": {"tributary": ours}},
            "settings": {"index.uuid": "u", "index.creation_date": "1"},
        });
        more(&mut index);
        Standing::of("t-000001", &index, "t").unwrap()
    }

    /// Each before anything is asked of Kafka, which is not there.
    #[tokio::test]
    async fn an_index_that_may_lack_rows_or_holds_other_columns_is_not_gone_back_to() {
        let log = Log::of(&config("http://localhost:9", "t").engine(), "t").unwrap();
        let kept = Kept {
            offsets: [(0, 1)].into(),
            at_ms: 1,
        };
        let cases = [
            (made("other", |_| {}), "not of one generation"),
            (
                made("g", |index| {
                    index["settings"]["index.history.uuid"] = "restored".into();
                }),
                "was restored from a snapshot",
            ),
            (
                made("g", |index| {
                    index["settings"]["index.blocks.write"] = "true".into();
                }),
                "are blocked",
            ),
            (
                made("g", |index| {
                    index["mappings"]["_meta"]["tributary"]["documents"] =
                        json!({"exclude": ["name"]});
                }),
                "elasticsearch.documents",
            ),
        ];
        for (index, expected) in cases {
            let current = made("g", |_| {});
            let checked = check(&log, &Shape::default(), &current, (&index, &kept)).await;
            let error = checked.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.remedy_text().is_some());
        }
    }

    #[test]
    fn the_index_that_was_replaced_last_is_gone_back_to_and_none_where_it_is_not_kept() {
        let replaced = |by: &str, at_ms: i64| json!({"replaced_by": by, "kept": {"offsets": {"0": at_ms}, "at_ms": at_ms}});
        let both = view(&[
            ("t-000004", replaced("t-000003", 9)),
            ("t-000002", replaced("t-000003", 5)),
            ("t-000001", replaced("t-000002", 12)),
        ]);
        let (index, found) = kept("t", &both).unwrap();
        assert_eq!((index.name.as_str(), found.offsets[&0]), ("t-000004", 9));

        for none in [
            view(&[]),
            view(&[("t-000001", replaced("t-000002", 12))]),
            view(&[("t-000002", json!({"reindex": null}))]),
        ] {
            let error = kept("t", &none).unwrap_err();
            assert!(error.to_string().contains("no index is kept"), "{error}");
            assert!(error.remedy_text().unwrap().contains("--keep-old"));
        }
        let older = view(&[("t-000002", json!({"replaced_by": "t-000003"}))]);
        let error = kept("t", &older).unwrap_err();
        assert!(error.to_string().contains("older version"), "{error}");
    }
}
