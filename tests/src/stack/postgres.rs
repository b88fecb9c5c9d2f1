//! PostgreSQL: which versions there are, how a cluster is made, and the command that runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::launch::{Account, cached, configure, run};
use super::pinned::pinned;
use super::process::is_unreaped;

/// The list of what may be named as an output plug-in: of 14.24, 15.20, 16.15, 17.11, 18.6 and later.
const PLUGINS: &str = "output_plugin_libraries";

/// A major version of PostgreSQL: Debian's, which has wal2json and the client programs, or another one, which has the
/// server only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Postgres(u32);

impl Postgres {
    /// Debian's.
    pub const DEBIAN: Self = Self(15);
    /// The first one with failover slots.
    pub const V17: Self = Self(17);

    /// The version that `TRIBUTARY_POSTGRES` names; none where it is unset or empty.
    ///
    /// # Errors
    /// The variable holds another number.
    pub fn from_env() -> Result<Option<Self>> {
        match std::env::var("TRIBUTARY_POSTGRES") {
            Ok(major) if !major.is_empty() => major.parse().map(Some),
            _ => Ok(None),
        }
    }

    /// The number: 15.
    pub const fn major(self) -> u32 {
        self.0
    }

    /// The whole version of what is installed: 15.14.
    pub(super) fn version(self) -> Result<String> {
        let output = Command::new(self.program("postgres")?)
            .arg("--version")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace()
            .nth(2)
            .map(str::to_owned)
            .context("postgres --version printed no version")
    }

    fn program(self, name: &str) -> Result<PathBuf> {
        if self == Self::DEBIAN {
            return postgres_program(name);
        }
        let version = pinned(&format!("POSTGRES_{}", self.0))?;
        Ok(cached("postgres", &version)?.join("bin").join(name))
    }

    /// Makes a cluster in `home` where there is none, writes its configuration, and returns the command that runs it.
    pub(super) fn command(
        self,
        home: &Path,
        port: u16,
        settings: &BTreeMap<String, String>,
    ) -> Result<Command> {
        let data = home.join("data");
        let account = Account::if_root("postgres")?;
        account.folder(home)?;
        if !data.exists() {
            self.make_cluster(home, &data, account)?;
        }
        let mut template = include_str!("../../stack/postgres/postgresql.conf").to_owned();
        template.push_str(&self.allowed_plugins()?);
        for (name, value) in settings {
            // The last one of a name counts.
            template.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        configure(&data.join("postgresql.conf"), &template, &[("port", &port)])?;
        forget_dead_postmaster(home, port)?;
        let mut server = account.command(self.program("postgres")?);
        server.arg("-D").arg(&data).current_dir(home);
        Ok(server)
    }

    /// The line by which a server lets wal2json be used; none where it has no such list, as it would not start with it.
    fn allowed_plugins(self) -> Result<String> {
        if self != Self::DEBIAN {
            return Ok(String::new());
        }
        let mut server = Command::new(self.program("postgres")?);
        let output = server.arg("--describe-config").output()?;
        if !output.status.success() {
            bail!("{server:?} does not describe its settings");
        }
        let described = String::from_utf8_lossy(&output.stdout);
        let allowed = default_plugins(&described);
        Ok(allowed.map_or_else(String::new, |allowed| {
            format!("{PLUGINS} = '{allowed}, wal2json'\n")
        }))
    }

    fn make_cluster(self, home: &Path, data: &Path, account: Account) -> Result<()> {
        let (fresh, password) = (home.join("data.new"), home.join("password"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)
                .with_context(|| format!("cannot remove {}", fresh.display()))?;
        }
        fs::write(&password, "postgres\n")
            .with_context(|| format!("cannot write {}", password.display()))?;
        account.give(&password)?;
        let mut initdb = account.command(self.program("initdb")?);
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        initdb
            .arg("--no-sync")
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(&fresh);
        run(initdb.current_dir(home))?;
        fs::rename(&fresh, data).with_context(|| format!("cannot rename {}", fresh.display()))
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::DEBIAN
    }
}

impl FromStr for Postgres {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(major @ 14..=18) => Ok(Self(major)),
            _ => {
                bail!("unknown PostgreSQL '{text}' in TRIBUTARY_POSTGRES: use 14, 15, 16, 17 or 18")
            }
        }
    }
}

/// A program of Debian's package, which keeps most of them off PATH.
///
/// # Errors
/// It is not installed.
pub fn postgres_program(name: &str) -> Result<PathBuf> {
    let path = Path::new("/usr/lib/postgresql")
        .join(Postgres::DEBIAN.0.to_string())
        .join("bin")
        .join(name);
    if !path.exists() {
        bail!("{} is missing: run tests/stack/install.sh", path.display());
    }
    Ok(path)
}

/// What `postgres --describe-config` prints as the default of the list: one setting a line, its fields parted by tabs,
/// the name first and the default fifth.
fn default_plugins(described: &str) -> Option<&str> {
    let mut settings = described.lines().map(|line| line.split('\t'));
    settings.find_map(|mut fields| (fields.next() == Some(PLUGINS)).then(|| fields.nth(3))?)
}

/// Removes the lock files of a postmaster that was killed and that its parent has not collected yet: Postgres asks
/// kill(2) whether the process exists, takes it for alive, and would refuse to start.
fn forget_dead_postmaster(home: &Path, port: u16) -> Result<()> {
    for lock in [
        home.join("data/postmaster.pid"),
        home.join(format!(".s.PGSQL.{port}.lock")),
    ] {
        let Ok(text) = fs::read_to_string(&lock) else {
            continue;
        };
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        if pid.is_some_and(is_unreaped) {
            fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::process::Process;
    use super::*;

    #[test]
    fn only_the_locks_of_a_dead_postmaster_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let locks = ["data/postmaster.pid", ".s.PGSQL.5432.lock"].map(|name| dir.path().join(name));
        fs::create_dir(dir.path().join("data")).unwrap();
        forget_dead_postmaster(dir.path(), 5432).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        for lock in &locks {
            fs::write(lock, format!("{}\n/data\n", child.id())).unwrap();
        }
        forget_dead_postmaster(dir.path(), 5432).unwrap();
        assert!(locks.iter().all(|lock| lock.exists()));
        let process = Process::of(child.id()).unwrap();
        assert!(
            process
                .kill_tree(std::time::Duration::from_secs(10))
                .unwrap()
        );
        forget_dead_postmaster(dir.path(), 5432).unwrap();
        assert!(!locks.iter().any(|lock| lock.exists()));
        child.wait().unwrap();
    }

    #[test]
    fn the_list_of_plugins_is_found_where_there_is_one() {
        let old = "wal_level\tpostmaster\tWrite-Ahead Log / Settings\tENUM\treplica\t\t\t\t\n";
        assert_eq!(default_plugins(old), None);
        let new = "output_plugin_libraries\tsuperuser\tReplication / Sending Servers\tSTRING\tpgoutput, test_decoding\t\t\tLists libraries.\t\n";
        let both = format!("{old}{new}");
        assert_eq!(default_plugins(&both), Some("pgoutput, test_decoding"));
    }

    #[test]
    fn every_version_but_debians_is_pinned() {
        assert_eq!(pinned("POSTGRES").unwrap(), Postgres::DEBIAN.0.to_string());
        for major in [14, 16, 17, 18] {
            let version = pinned(&format!("POSTGRES_{major}")).unwrap();
            assert!(version.starts_with(&format!("{major}.")), "{version}");
        }
        assert!("13".parse::<Postgres>().is_err());
    }
}
