//! Certificates and credentials: what the search sink says to engines that it cannot trust, or that do not let it in, and an
//! OpenSearch with its security plug-in from beginning to end.

mod engine;
mod handshakes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tributary_tests::certificates::Issued;

const PATIENCE: Duration = Duration::from_secs(60);

/// The certificates and secrets of one test.
struct Files(PathBuf);

impl Files {
    fn new(dir: &Path) -> Self {
        let dir = dir.join("files");
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// Writes one as whoever renews it does: the new one takes the place of the old one in one step.
    fn put(&self, name: &str, text: &str) -> String {
        let (path, new) = (self.0.join(name), self.0.join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A certificate and its key, in one file; what the configuration says of it.
    fn identity(&self, name: &str, identity: &Issued) -> String {
        self.identity_text(name, &identity.pem())
    }

    fn identity_text(&self, name: &str, text: &str) -> String {
        let path = self.put(name, text);
        format!("client_certificate_file = \"{path}\"\nclient_key_file = \"{path}\"\n")
    }
}

/// A configuration with another URL, and more in the section of the engine.
fn with(config: &str, url: &str, more: &str) -> String {
    let (before, rest) = config.split_once("\nurl = \"").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    format!("{before}\nurl = \"{url}\"\n{more}{after}")
}
