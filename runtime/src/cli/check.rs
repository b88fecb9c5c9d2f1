//! `check`: what it found, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use super::answer::Format;
use super::exit;
use super::service::Service;
use crate::Problem;

/// How long all the attempts of a check may take together.
const CHECK_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
pub(super) struct Report {
    service: &'static str,
    version: &'static str,
    ok: bool,
    problems: Vec<Problem>,
    /// What somebody should know although nothing is wrong.
    notes: Vec<Problem>,
    /// The connections were not tried: the configuration is wrong.
    #[serde(skip)]
    misconfigured: bool,
}

/// Tries the service's connections and privileges.
pub(super) async fn tried<S: Service>(config: S::Config) -> Report {
    let problems = tokio::time::timeout(CHECK_TIMEOUT, S::check(config)).await;
    let problems = problems.unwrap_or_else(|_| {
        let seconds = CHECK_TIMEOUT.as_secs();
        vec![Problem::new(format!(
            "the check did not end within {seconds} s"
        ))]
    });
    Report::tried(S::NAME, problems)
}

impl Report {
    pub(super) fn tried(service: &'static str, found: Vec<Problem>) -> Self {
        let (notes, problems): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.is_note);
        Self {
            service,
            version: env!("CARGO_PKG_VERSION"),
            ok: problems.is_empty(),
            problems,
            notes,
            misconfigured: false,
        }
    }

    pub(super) fn misconfigured(service: &'static str, problems: Vec<Problem>) -> Self {
        Self {
            misconfigured: true,
            ..Self::tried(service, problems)
        }
    }

    pub(super) const fn exit_code(&self) -> u8 {
        match (self.ok, self.misconfigured) {
            (true, _) => exit::OK,
            (false, true) => exit::USAGE,
            (false, false) => exit::PROBLEMS,
        }
    }

    pub(super) fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            // Strings and booleans always serialize.
            Format::Json => serde_json::to_string(self).unwrap_or_default() + "\n",
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.misconfigured {
            text.push_str("ok: the configuration is valid\n");
        }
        if self.ok {
            text.push_str("ok: every connection and privilege is there\n");
        }
        let problems = self.problems.iter().map(|problem| ("problem", problem));
        let notes = self.notes.iter().map(|note| ("note", note));
        for (kind, problem) in problems.chain(notes) {
            text.push_str(&format!("{kind}: {}\n", problem.what));
            if let Some(remedy) = &problem.remedy {
                text.push_str(&format!("  to do: {}\n", remedy.replace('\n', "\n  ")));
            }
        }
        text
    }
}
