//! The versions that are installed.

use anyhow::{Context, Result};

const VERSIONS: &str = include_str!("../../stack/versions.env");

/// The version of a release line.
pub(super) fn of_line(server: &str, line: &str) -> Result<String> {
    pinned(&format!("{server}_{}", line.replace('.', "_")))
}

/// The release lines that `versions.env` has of a server.
pub(super) fn pinned_lines(server: &str) -> Vec<String> {
    let prefix = format!("{server}_");
    let keys = VERSIONS.lines().filter_map(|line| line.split_once('='));
    let lines = keys.filter_map(|(key, _)| key.strip_prefix(&prefix));
    let lines = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    lines.map(|line| line.replace('_', ".")).collect()
}

/// A version from `versions.env`.
pub(super) fn pinned(name: &str) -> Result<String> {
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, version)| version.to_owned())
        .with_context(|| format!("tests/stack/versions.env has no {name}"))
}
