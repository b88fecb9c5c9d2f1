//! The Java that the servers run by.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

const FIND_JDK: &str = include_str!("../../stack/jdk.sh");

/// A Java development kit.
pub(super) struct Jdk {
    pub(super) major: u32,
    pub(super) home: PathBuf,
}

impl Jdk {
    /// Which of the versions that `versions.env` names by JDK it runs.
    pub(super) const fn family(&self) -> &'static str {
        if self.major >= 21 { "JDK21" } else { "JDK17" }
    }

    /// The newest one of this machine.
    pub(super) fn newest() -> Result<Self> {
        let output = Command::new("sh")
            .args(["-c", FIND_JDK])
            .output()
            .context("cannot run sh")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let (major, home) = text
            .trim()
            .split_once(' ')
            .context("jdk.sh printed no JDK")?;
        let major = major
            .parse()
            .with_context(|| format!("'{major}' is no JDK version"))?;
        Ok(Self {
            major,
            home: home.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jdk_found_has_a_compiler() {
        let jdk = Jdk::newest().unwrap();
        assert!(jdk.major >= 17);
        assert!(jdk.home.join("bin/javac").exists());
    }
}
