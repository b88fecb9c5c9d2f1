//! Named places at which a test kills the process: one in every window between two steps that are not one.
//!
//! `TRIBUTARY_FAILPOINT="produced:3"` sends the process SIGKILL at the third hit of `produced`; without a number, at the
//! first. `TRIBUTARY_PAUSE="produced:/some/file"` lets it wait there, or at a [`pause`], for as long as that file exists and says
//! what it said when the wait began; so a file that says something else lets it go on to the next place. Beside it stands
//! `/some/file.held` meanwhile, a line of what the file says, a space and where it waits. Only debug builds look: in a release
//! build [`hit`] and [`pause`] are empty.

/// Kills the process if this is the hit that it is armed for.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::LazyLock;
    static ARMED: LazyLock<Option<Armed>> =
        LazyLock::new(|| Armed::parse(&std::env::var("TRIBUTARY_FAILPOINT").ok()?));
    if ARMED.as_ref().is_some_and(|armed| armed.is_due(name)) {
        kill();
    }
    // Blocks its thread: only where that is the producer's.
    if let Some(pause) = PauseFile::asked(name) {
        let held = pause.begin("");
        while held.lasts() {
            std::thread::sleep(PauseFile::POLL);
        }
    }
}

/// Kills the process if this is the hit that it is armed for: never, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn hit(_name: &str) {}

/// Waits for a test, if this is the pause that it has asked for, and tells it where.
#[cfg(debug_assertions)]
pub async fn pause(name: &str, place: impl FnOnce() -> String) {
    if let Some(pause) = PauseFile::asked(name) {
        let held = pause.begin(&place());
        while held.lasts() {
            tokio::time::sleep(PauseFile::POLL).await;
        }
    }
}

/// Waits for a test: never, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
#[expect(clippy::unused_async, reason = "as in a debug build")]
pub async fn pause(_name: &str, _place: impl FnOnce() -> String) {}

/// Which hit of which failpoint.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct Armed {
    name: String,
    /// Hits that are let pass, counted down.
    left: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
impl Armed {
    /// `name`, or `name:N` for the N-th hit. What is neither arms nothing.
    fn parse(text: &str) -> Option<Self> {
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse::<u64>().ok()?),
            None => (text, 1),
        };
        Some(Self {
            name: name.to_owned(),
            left: nth.checked_sub(1)?.into(),
        })
    }

    fn is_due(&self, name: &str) -> bool {
        use std::sync::atomic::Ordering;
        // The process ends at the hit that finds nothing left, so that the count never has to wrap.
        self.name == name
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_err()
    }
}

/// A file for whose end a place waits.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct PauseFile {
    name: String,
    file: std::path::PathBuf,
}

#[cfg(debug_assertions)]
impl PauseFile {
    const POLL: std::time::Duration = std::time::Duration::from_millis(5);

    /// The pause of this name, if it was asked for and is not over.
    fn asked(name: &str) -> Option<&'static Self> {
        use std::sync::LazyLock;
        static ASKED: LazyLock<Option<PauseFile>> =
            LazyLock::new(|| PauseFile::parse(&std::env::var("TRIBUTARY_PAUSE").ok()?));
        ASKED
            .as_ref()
            .filter(|asked| asked.name == name && asked.file.exists())
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, file) = text.split_once(':')?;
        Some(Self {
            name: name.to_owned(),
            file: file.into(),
        })
    }

    fn says(&self) -> Option<String> {
        std::fs::read_to_string(&self.file).ok()
    }

    fn held(&self) -> std::path::PathBuf {
        self.file.with_added_extension("held")
    }

    /// Without its file the test fails: it waits for that.
    fn begin(&'static self, place: &str) -> PauseWait {
        let said = self.says();
        let line = format!("{} {place}\n", said.as_deref().unwrap_or_default());
        let _ = std::fs::write(self.held(), line);
        PauseWait { pause: self, said }
    }
}

/// A wait at a place.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct PauseWait {
    pause: &'static PauseFile,
    said: Option<String>,
}

#[cfg(debug_assertions)]
impl PauseWait {
    fn lasts(&self) -> bool {
        let lasts = self.said.is_some() && self.pause.says() == self.said;
        if !lasts {
            let _ = std::fs::remove_file(self.pause.held());
        }
        lasts
    }
}

#[cfg(debug_assertions)]
fn kill() {
    // SIGKILL and not an abort: no destructor, no handler, no flush, as when the machine takes the process away.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::Armed;

    #[test]
    fn the_nth_hit_of_the_name_is_due() {
        let armed = Armed::parse("produced:3").unwrap();
        let hits = ["produced", "committed", "produced", "produced"].map(|name| armed.is_due(name));
        assert_eq!(hits, [false, false, false, true]);
        assert!(Armed::parse("committed").unwrap().is_due("committed"));
        assert!(Armed::parse("committed:0").is_none() && Armed::parse("committed:x").is_none());
    }
}
