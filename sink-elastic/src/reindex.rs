//! `reindex`: builds a topic's index again from the beginning of the log, beside the running service, and puts it in the place of the one
//! that is in use (docs/adr/0013-reindex.md). What it has done stands in the indices' `_meta`, in their aliases and in the offsets of
//! its consumer group: killed at any moment, the next one goes on from there.

mod abandon;
mod building;
mod compare;
mod documents;
mod finish;
mod level;
mod moments;
mod reading;
mod rollback;
mod site;
mod standing;
mod swap;
mod wanted;

use clap::{ArgMatches, Command};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tributary_engine::Log;
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, Policy, Result};

use crate::config::Config;
use crate::naming;
use building::{Due, is_elsewhere};
use site::Site;
use swap::Swapped;
use wanted::Wanted;

/// The command's name.
pub(crate) const NAME: &str = "reindex";

/// The option of who runs the command for the service.
pub(crate) const ATTENDED: &str = "--attended";

/// For the command line.
pub(crate) fn definition() -> Command {
    wanted::definition(NAME)
}

/// Does what the command asks for.
///
/// # Errors
/// What is in the way, and what to do about it. Nothing is lost by any of them: the next run goes on.
pub(crate) async fn command(config: Config, arguments: &ArgMatches) -> Result<Answer> {
    let wanted = Wanted::read(arguments)?;
    match carry_out(&config, &wanted).await {
        Err(error) if wanted.attended && is_elsewhere(&error) => {
            Ok(Answer::ok(format!("{error}\n"), json!({"elsewhere": true})))
        }
        Err(error) if wanted.attended && error.policy() == Policy::Retry => Ok(Answer::ok(
            format!("{error}\n"),
            json!({"passing": error.to_string()}),
        )),
        done => done,
    }
}

async fn carry_out(config: &Config, wanted: &Wanted) -> Result<Answer> {
    let topic = topic_of(config, wanted).await?;
    let log = Log::of(&config.engine(), &topic)?;
    let site = Site::new(config, &topic)?;
    let stop = interruption(wanted.attended)?;
    if wanted.abandon {
        return abandon::abandon(&site, &log, wanted.yes, &stop).await;
    }
    // That the engine tells of its tasks is known before anything is begun.
    site.searches().await?;
    let (task, swapped) = match building::begin(&site, &log, config, wanted).await? {
        Due::Build(task) => {
            let swapped = swap::build_and_swap(&site, &log, config, wanted, &task, &stop).await?;
            (task, Some(swapped))
        }
        Due::Finish(task) => (task, None),
    };
    let is_old_there = finish::finish(&site, &log, config, wanted, &task, swapped.as_ref(), &stop);
    let is_old_there = is_old_there.await?;
    Ok(answer(&site, &task, swapped.as_ref(), is_old_there))
}

fn answer(
    site: &Site,
    task: &building::Succession,
    swapped: Option<&Swapped>,
    is_old_there: bool,
) -> Answer {
    let (old, new) = (&task.build.of, &task.new);
    let mut text = format!(
        "{}: '{new}' has taken the place of '{old}', which ",
        site.alias
    );
    text.push_str(if is_old_there {
        "is kept\n"
    } else {
        "is deleted\n"
    });
    let mut json = json!({"alias": site.alias, "topic": site.topic, "index": new, "replaced": old, "is_kept": is_old_there});
    if let (Some(swapped), Some(object)) = (swapped, json.as_object_mut()) {
        let window_ms = swapped.window.as_millis();
        if *old != site.alias {
            text.push_str(&format!("  writes waited {window_ms} ms\n"));
        }
        object.insert("window_ms".to_owned(), json!(window_ms as u64));
        if let Some(counts) = &swapped.counts {
            text.push_str(&format!(
                "  documents: {} before, {} now\n",
                counts.old, counts.new
            ));
            object.insert("documents_before".to_owned(), counts.old.into());
            object.insert("documents".to_owned(), counts.new.into());
        }
        if let Some(compared) = swapped.compared {
            let changing = match compared.changing {
                0 => String::new(),
                changing => format!(", of which {changing} changed all the while"),
            };
            text.push_str(&format!(
                "  compared: {} documents of both{changing}\n",
                compared.documents
            ));
            object.insert("compared".to_owned(), compared.documents.into());
        }
    }
    Answer::ok(text, json)
}

/// The topic whose index is meant.
async fn topic_of(config: &Config, wanted: &Wanted) -> Result<String> {
    let prefix = &config.elasticsearch.index_prefix;
    let topics = Log::topics(&config.engine()).await?;
    let found = topics.iter().find(|topic| match &wanted.topic {
        Some(wanted) => wanted == *topic,
        None => wanted.alias.as_deref() == Some(&naming::alias(prefix, topic)),
    });
    found.cloned().ok_or_else(|| {
        let error = match (&wanted.topic, &wanted.alias) {
            (Some(topic), _) => {
                format!("there is no topic '{topic}' in Kafka that `topics` matches")
            }
            (None, alias) => format!(
                "'{}' is the alias of no topic that `topics` matches",
                alias.as_deref().unwrap_or_default()
            ),
        };
        Error::stop_msg(error).remedy("see `plan`, which names topics and aliases")
    })
}

/// Cancelled by SIGINT and SIGTERM, and by the end of the service that runs the command.
fn interruption(is_attended: bool) -> Result<CancellationToken> {
    let listen =
        |kind| signal(kind).map_err(|error| Error::stop(error).context("listen for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    if is_attended {
        let ended = stop.clone();
        // Nothing is ever written there: it is closed when the service ends, however it does.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.cancel();
        });
    }
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(stop)
}
