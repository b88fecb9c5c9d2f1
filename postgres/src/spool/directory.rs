//! The folder with a source's spooled transactions.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tributary_runtime::Error;

/// Files named `<owner>.<transaction id>.spool`, readable by us alone; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    folder: PathBuf,
    /// Tells sources that share a folder apart.
    owner: String,
}

impl Directory {
    pub(super) fn open(folder: &Path, owner: &str) -> Result<Self, Error> {
        let directory = Self {
            folder: folder.to_owned(),
            owner: owner.to_owned(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| directory.clear())
            .map_err(|error| directory.failed(error))?;
        Ok(directory)
    }

    /// A transaction's file, to be written at its end. The first time it must not exist: we follow no link that
    /// somebody else has put there.
    pub(super) fn append(&self, xid: u32, first: bool) -> io::Result<File> {
        let mut options = File::options();
        if first {
            options.create_new(true).mode(0o600);
        }
        options.append(true).open(self.path(xid))
    }

    pub(super) fn read(&self, xid: u32) -> io::Result<File> {
        File::open(self.path(xid))
    }

    pub(super) fn truncate(&self, xid: u32, bytes: u64) -> io::Result<()> {
        File::options()
            .write(true)
            .open(self.path(xid))?
            .set_len(bytes)
    }

    /// Removes a transaction's file, if it has one.
    pub(super) fn remove(&self, xid: u32) -> Result<(), Error> {
        match fs::remove_file(self.path(xid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        let stop = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::AlreadyExists
        );
        let context = format!("spool a streamed transaction in {self}");
        if stop {
            return Error::stop(error).context(context).remedy(
                "let spool.dir name a folder of the source's own, which it may write, or set postgres.streaming = false",
            );
        }
        Error::retry(error).context(context)
    }

    fn path(&self, xid: u32) -> PathBuf {
        self.folder.join(format!("{}.{xid}.spool", self.owner))
    }

    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let ours = name
                .and_then(|name| name.strip_prefix(&self.owner)?.strip_prefix('.'))
                .and_then(|rest| rest.strip_suffix(".spool"))
                .is_some_and(|xid| xid.parse::<u32>().is_ok());
            if ours {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.folder.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(%error, folder = %self, "spooled transactions stay on disk until the next start");
        }
    }
}
