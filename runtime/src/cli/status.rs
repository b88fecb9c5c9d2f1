//! `status`: asks the running service over its HTTP port.

use clap::ArgMatches;
use serde_json::Value;

use super::answer::Answer;
use super::exit;
use super::running::Running;
use super::service::Service;
use crate::Result;
use crate::config::Settings;

/// What the running service says of itself. The exit code tells whether all is well.
pub(super) async fn ask<S: Service>(settings: &Settings, arguments: &ArgMatches) -> Result<Answer> {
    let running = Running::of(settings, S::DEFAULT_PORT).or_at(arguments);
    Ok(answer::<S>(running.get("status").await?))
}

fn answer<S: Service>(status: Value) -> Answer {
    let is = |key: &str| status[key].as_bool().unwrap_or(false);
    let word = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let state = match (is("alive"), is("ready")) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => "not alive",
    };
    let mut text = format!(
        "{} {}: {}, {state}, up {} s\n",
        word("service"),
        word("version"),
        word("phase"),
        status["uptime_seconds"]
    );
    if let Some(reason) = status["reason"].as_str() {
        text.push_str(&format!("reason: {reason}\n"));
    }
    let warnings = status["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    for warning in warnings {
        text.push_str(&format!(
            "warning: {}\n",
            warning.as_str().unwrap_or_default()
        ));
    }
    text.push_str(&S::details_text(&status["details"]));
    let well = is("alive") && is("ready") && warnings.is_empty();
    Answer {
        text,
        json: status,
        code: if well { exit::OK } else { exit::PROBLEMS },
    }
}
