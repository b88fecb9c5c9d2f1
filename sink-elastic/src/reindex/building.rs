//! The index that is to take the place of the one in use: made, or found where an earlier reindex has left it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tributary_engine::{Log, Mark, Note};
use tributary_runtime::kafka::SESSION_TIMEOUT_MS;
use tributary_runtime::{Error, Result, failpoint};

use super::moments::{CREATED, FOUND};
use super::rollback;
use super::site::{Site, View};
use super::standing::Standing;
use super::wanted::Wanted;
use crate::config::Config;
use crate::shape::Shape;
use crate::succession::Build;
use crate::voice::{Once, say};
use crate::{failure, given, mark, naming, requests};

/// A member of a group that has died is one for so long.
const DEAD_AFTER: Duration = Duration::from_millis(SESSION_TIMEOUT_MS as u64 + 5_000);
const LOOK: Duration = Duration::from_millis(500);

/// An index that is to take the place of another one.
#[derive(Debug, Clone)]
pub(super) struct Succession {
    pub(super) new: String,
    pub(super) build: Build,
}

/// That another reindex is at it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Elsewhere(String);

fn elsewhere(what: String) -> Error {
    Error::stop(Elsewhere(what))
}

/// Whether an error says that.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    error.cause().downcast_ref::<Elsewhere>().is_some()
}

/// What is left to do.
#[derive(Debug)]
pub(super) enum Due {
    /// The index is to be built, and put in the place of the other one.
    Build(Succession),
    /// It has taken the place: what is left is to clear up.
    Finish(Succession),
}

/// Finds what is to be done, and begins it where nothing is begun.
///
/// # Errors
/// Stop: another reindex is under way, or one was begun that does not fit. Otherwise the engine's and Kafka's.
pub(super) async fn begin(site: &Site, log: &Log, config: &Config, wanted: &Wanted) -> Result<Due> {
    site.settle().await?;
    let mut view = site.look().await?;
    if let Some(build) = view.current.build() {
        if wanted.rollback && !build.is_back {
            return Err(uncleared(&view.current.name));
        }
        let of_reindex = (&view.current, &build);
        let (_, left) = left_alone(site, log, &view, of_reindex).await?;
        check_attended(site, wanted, &left)?;
        let task = sign(site, wanted, left).await?;
        say(&format!(
            "'{}' has taken the place of '{}': clears up",
            task.new, task.build.of
        ));
        return Ok(Due::Finish(task));
    }
    if view.current.is_plain {
        check_may_replace(wanted, &view.current)?;
    } else if view.current.is_blocked() && view.current.handover().is_none() {
        let old = &view.current.name;
        return Err(
            Error::stop_msg(format_args!("writes to '{old}' are blocked")).remedy(format!(
                "lift the block first: PUT /{old}/_settings {{\"index.blocks.write\": null}}"
            )),
        );
    }
    let begun = view
        .others
        .iter()
        .find_map(|index| Some((index, index.build()?)));
    let shape = Shape::of(&config.elasticsearch, &site.topic);
    let succession = match begun {
        Some((index, build)) => {
            check_same(site, wanted, &shape, &view, (index, &build))?;
            let (now, left) = left_alone(site, log, &view, (index, &build)).await?;
            view = now;
            check_attended(site, wanted, &left)?;
            resume(site, config, wanted, &view.current, left).await?
        }
        None if wanted.rollback => go_back(site, log, (config, &shape), &view).await?,
        None => create(site, log, (config, &shape), wanted, &view).await?,
    };
    if view.current.is_plain && !view.current.is_blocked() {
        // Behind the new one, which says that a reindex has done it. From now on: by the end a forgotten writer has been noticed.
        site.block(&view.current.name).await?;
    }
    Ok(Due::Build(succession))
}

/// What is to be gone back to may be deleted yet.
fn uncleared(new: &str) -> Error {
    Error::stop_msg(format_args!(
        "the reindex that has put '{new}' in its place has not cleared up yet"
    ))
    .remedy("run `reindex --keep-old`, which does that, and then with --rollback")
}

/// An index of somebody else's is deleted only if that is asked for, and never behind the back of who writes to it.
fn check_may_replace(wanted: &Wanted, plain: &Standing) -> Result<()> {
    let name = &plain.name;
    if !wanted.replace_index {
        return Err(failure::plain(name));
    }
    say(&format!(
        "'{name}' is an index, not an alias: writes to it are refused from now on, and it is deleted when the new one takes its place. \
         Stop whoever else writes to it: what it sends afterwards would go into the new one. Searches that run at that moment may fail"
    ));
    Ok(())
}

/// Waits until nobody is in the group of a reindex: one that has died is missed after a while.
///
/// # Errors
/// Stop: somebody stays in it.
pub(super) async fn alone(site: &Site, log: &Log, group: &str) -> Result<()> {
    let until = Instant::now() + DEAD_AFTER;
    let mut wait = Once::default();
    loop {
        let members = log.members(group).await?;
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(elsewhere(format!(
                "another reindex of '{}' is under way, on {}: it is in the consumer group '{group}'",
                site.alias,
                members.join(", ")
            ))
            .remedy("let it end; or end its process, and run the command again, which goes on"));
        }
        wait.say(|| {
            format!(
                "a reindex of '{}' was begun before: looks for {} s whether it still runs",
                site.alias,
                DEAD_AFTER.as_secs()
            )
        });
        tokio::time::sleep(LOOK).await;
    }
}

/// As [`alone`], at an index that a reindex has begun; what there is then, and what that index says of the reindex. What was seen before
/// the wait holds no more: who was in the group may have put the index in its place and deleted the other one.
///
/// # Errors
/// As [`alone`]; stop where somebody has ended the reindex meanwhile, or goes on with it.
async fn left_alone(
    site: &Site,
    log: &Log,
    before: &View,
    (index, build): (&Standing, &Build),
) -> Result<(View, (Standing, Build))> {
    alone(site, log, &build.group).await?;
    let (now, name) = (site.look().await?, &index.name);
    let left = now
        .index(name)
        .and_then(|index| Some((index.clone(), index.build()?)));
    match left {
        Some((_, found)) if found.runner != build.runner => Err(goes_on_elsewhere(name)),
        Some(left) if now.current.name == before.current.name => {
            failpoint::hit(FOUND);
            Ok((now, left))
        }
        _ => Err(elsewhere(format!(
            "another reindex of '{alias}' was under way and has ended: '{alias}' leads to '{}' now",
            now.current.name,
            alias = site.alias
        ))
        .remedy("run the command again if the index is to be built once more")),
    }
}

/// The error for a reindex whose index another one has gone on with.
pub(super) fn goes_on_elsewhere(new: &str) -> Error {
    elsewhere(format!("another reindex goes on with '{new}'")).remedy("let that one end")
}

/// Takes back that a reindex, which has ended in the middle, was about to hand over from this index. One of somebody else's stays blocked,
/// and says to which index it was to be handed over: that name is given to no other one.
///
/// # Errors
/// As [`crate::client::Client::send`].
pub(super) async fn take_back(site: &Site, old: &Standing) -> Result<()> {
    let Some(handover) = old.handover().filter(|_| !old.is_plain) else {
        return Ok(());
    };
    // Before the block goes: whatever that reindex still sends, it cannot take the place any more.
    site.change_aliases(&[requests::written_by(&old.name, &handover.claim)])
        .await?;
    site.unblock(&old.name).await?;
    site.note(&old.name, &old.notes.clone().with_handover(None))
        .await
}

/// Refuses to go on with an index that was begun for another one's place, or in another form.
fn check_same(
    site: &Site,
    wanted: &Wanted,
    shape: &Shape,
    view: &View,
    (index, build): (&Standing, &Build),
) -> Result<()> {
    let (new, abandon) = (
        &index.name,
        format!("reindex --index {} --abandon --yes", site.alias),
    );
    if build.is_back != wanted.rollback {
        let (is, words) = match build.is_back {
            true => ("to go back to", "reindex --rollback"),
            false => ("to build", "reindex"),
        };
        return Err(Error::stop_msg(format_args!(
            "an earlier command has begun {is} '{new}', and has not ended"
        ))
        .remedy(format!(
            "run `{words}`, which goes on with that; or `{abandon}` first"
        )));
    }
    if build.of != view.current.name {
        return Err(Error::stop_msg(format_args!(
            "'{new}' was begun by a reindex to take the place of '{}', and '{}' leads to '{}'",
            build.of, site.alias, view.current.name
        ))
        .remedy(format!(
            "run `{abandon}`, which {} '{new}', and the command again",
            if build.is_back { "keeps" } else { "deletes" }
        )));
    }
    if wanted.mapping.is_some() && wanted.mapping != index.given_mapping() {
        return Err(Error::stop_msg(format_args!(
            "'{new}' was begun by a reindex with another --mapping"
        ))
        .remedy(format!(
            "leave --mapping out, to go on with it; or run `{abandon}` first"
        )));
    }
    if build.documents != shape.all() {
        return Err(Error::stop_msg(format_args!(
            "'{new}' was begun by a reindex with other `elasticsearch.documents` for topic {}",
            site.topic
        ))
        .remedy(format!("run `{abandon}` first; or go on with those")));
    }
    Ok(())
}

/// What somebody has begun a service does not go on with: nobody knows by which options.
fn check_attended(site: &Site, wanted: &Wanted, (index, build): &(Standing, Build)) -> Result<()> {
    if !wanted.attended || build.is_attended {
        return Ok(());
    }
    Err(Error::stop_msg(format_args!(
        "'{}' was begun by a `reindex` that has ended in the middle, and that no service had begun",
        index.name
    ))
    .remedy(format!(
        "run `reindex --topic {}` as before, which goes on; or `reindex --topic {0} --abandon --yes`",
        site.topic
    )))
}

/// Goes on with an index that a reindex has left.
async fn resume(
    site: &Site,
    config: &Config,
    wanted: &Wanted,
    old: &Standing,
    (index, build): (Standing, Build),
) -> Result<Succession> {
    take_back(site, old).await?;
    let build = Build {
        claim: None,
        ..build
    };
    let task = sign(site, wanted, (index.clone(), build)).await?;
    if task.build.is_back {
        rollback::prepare(site, &config.engine(), &index, &task.build).await?;
    }
    say(&format!(
        "goes on with '{}', which an earlier reindex has begun",
        task.new
    ));
    Ok(task)
}

/// Says in the index that it is this process which goes on with it: another one that does stops.
async fn sign(
    site: &Site,
    wanted: &Wanted,
    (index, build): (Standing, Build),
) -> Result<Succession> {
    let build = Build {
        runner: runner(),
        is_attended: wanted.attended,
        ..build
    };
    let new = index.name;
    site.note(&new, &index.notes.with_build(Some(&build)))
        .await?;
    Ok(Succession { new, build })
}

/// Begins to read on the index that was kept.
async fn go_back(
    site: &Site,
    log: &Log,
    (config, shape): (&Config, &Shape),
    view: &View,
) -> Result<Succession> {
    let (index, _) = rollback::kept(&site.alias, view)?;
    let (group, alias) = rollback::names(site, &config.name, &index.name);
    // Two that begin at the same time have one group. What was seen before the wait holds no more.
    alone(site, log, &group).await?;
    let now = site.look().await?;
    let begun = now
        .index(&index.name)
        .is_some_and(|now| now.build().is_some());
    if begun || now.current.name != view.current.name {
        return Err(goes_on_elsewhere(&index.name));
    }
    let old = &now.current;
    let (index, kept) = rollback::kept(&site.alias, &now)?;
    rollback::check(log, shape, old, (index, &kept)).await?;
    take_back(site, old).await?;
    let build = Build {
        of: old.name.clone(),
        group,
        alias,
        runner: runner(),
        documents: shape.all(),
        claim: None,
        is_over: false,
        is_back: true,
        is_attended: false,
    };
    let new = index.name.clone();
    let notes = index.notes.clone().with_replaced_by(None);
    site.note(&new, &notes.with_build(Some(&build))).await?;
    failpoint::hit(CREATED);
    rollback::prepare(site, &config.engine(), index, &build).await?;
    say(&format!(
        "reads '{new}' on from where it was left, to take the place of '{}' again",
        old.name
    ));
    Ok(Succession { new, build })
}

async fn create(
    site: &Site,
    log: &Log,
    (config, shape): (&Config, &Shape),
    wanted: &Wanted,
    view: &View,
) -> Result<Succession> {
    let old = &view.current;
    let mark = mark_of_next(log, old).await?;
    take_back(site, old).await?;
    // A reindex that was frozen and abandoned may yet send the request that deletes the old index: it names the one that was to come.
    let named = old.handover().map(|handover| handover.to);
    let names = view
        .others
        .iter()
        .map(|index| &index.name)
        .chain([&old.name])
        .chain(&named);
    let last = names
        .map(|name| naming::number(&site.alias, name))
        .max()
        .unwrap_or(0);
    let new = naming::index(&site.alias, last + 1);
    let runner = runner();
    let build = Build {
        of: old.name.clone(),
        group: format!("{}.reindex.{runner}", config.name),
        alias: naming::beside(&site.alias, &format!("{new} {runner}")),
        runner,
        documents: shape.all(),
        claim: None,
        is_over: false,
        is_back: false,
        is_attended: wanted.attended,
    };
    let form = log.form().await?;
    let fields = form.map(|form| shape.properties(&form.row_type));
    let fields = fields.transpose()?.unwrap_or_default();
    // What was given for the one before holds until something else is.
    let given = wanted.mapping.clone().or_else(|| old.given_mapping());
    let content = content((config, shape), old, &mark, &build, (fields, given));
    if !site.create(&new, content).await? {
        return Err(elsewhere(format!("the index '{new}' is there already"))
            .remedy("if another reindex has just begun, let it end; else delete the index"));
    }
    say(&format!(
        "builds '{new}', to take the place of '{}'",
        old.name
    ));
    failpoint::hit(CREATED);
    Ok(Succession { new, build })
}

/// The index goes on in the line of the one before: the group's offsets say of both what they hold. So it has the mark of that one, with
/// no partition begun. Behind an index of somebody else's a line begins.
async fn mark_of_next(log: &Log, old: &Standing) -> Result<Mark> {
    if old.is_plain {
        return log.new_mark().await;
    }
    let Some(mark) = &old.mark else {
        return Err(Error::stop_msg(format_args!(
            "the index '{}' was made by an older version, which did not note what it was made from",
            old.name
        ))
        .remedy("start the service once with on_unfit_target = \"rebuild\""));
    };
    let mut mark = mark.clone();
    mark.caught_up_ms.clear();
    log.check(&mark).await?;
    Ok(mark)
}

fn content(
    (config, shape): (&Config, &Shape),
    old: &Standing,
    mark: &Mark,
    build: &Build,
    (fields, given): (Map<String, Value>, Option<Map<String, Value>>),
) -> Value {
    let mut mapping = given::merged(fields, given.as_ref());
    let meta = json!({"mappings": {"_meta": mark::meta(shape.topic(), mark, shape.note())}});
    let notes = crate::succession::Notes::of(&meta)
        .with_build(Some(build))
        .with_mapping(given.as_ref());
    if let Value::Object(meta) = notes.mapping() {
        mapping.extend(meta);
    }
    let mut known: Vec<_> = mark
        .key_schemas
        .iter()
        .map(|&id| Note::KeySchema(id))
        .collect();
    if mark.versions_are_offsets {
        known.push(Note::VersionsAreOffsets);
    }
    let mut settings = old.settings_to_build(&config.elasticsearch, shape);
    let mut limit = requests::set_limit(&settings);
    if let Some(Value::Object(fields)) = mapping.get_mut("properties") {
        limit = limit.max(requests::field_limit(mark.partitions, fields));
        fields.extend(mark::properties(&known));
    }
    if let Some(limit) = limit {
        settings.insert(requests::FIELD_LIMIT.to_owned(), limit.into());
    }
    json!({
        "aliases": {(build.alias.clone()): {"is_write_index": true}},
        "settings": settings,
        "mappings": mapping,
    })
}

/// Which process this is: no two have the same.
fn runner() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
