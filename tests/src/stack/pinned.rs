//! The versions that are installed.

use anyhow::{Context, Result};

const VERSIONS: &str = include_str!("../../stack/versions.env");

/// A version from `versions.env`.
pub(super) fn pinned(name: &str) -> Result<String> {
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, version)| version.to_owned())
        .with_context(|| format!("tests/stack/versions.env has no {name}"))
}
