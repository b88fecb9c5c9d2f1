//! A value that cannot be printed.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// The name under which a [`Secret`] announces itself to the loader, which then also takes the
/// value from the file that `<key>_file` names.
pub(super) const SECRET: &str = "tributary::Secret";

/// A password, token or key. `Debug` and `Display` print `***`.
///
/// A field `password: Option<Secret>` is set by `password = "…"`, or by `password_file = "/path"`:
/// [`load`](super::load) reads the file itself, the configuration type declares only `password`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    /// Where it was read.
    file: Option<PathBuf>,
}

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            file: None,
        }
    }

    /// The value itself: for the place that hands it to a server, never for a message.
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Whether it was read from a file, which may have another one by now.
    pub const fn is_from_file(&self) -> bool {
        self.file.is_some()
    }

    /// The secret that the file has now; `None` if that is the same, or there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or has none; without its path.
    pub fn renewed(&self) -> Result<Option<Self>, String> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let value = read_file(file)?;
        Ok((value != self.value).then(|| Self {
            value,
            file: Some(file.clone()),
        }))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wrapped;

        impl<'de> Visitor<'de> for Wrapped {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Secret, D::Error> {
                String::deserialize(deserializer).map(Secret::new)
            }

            /// From a file: the value, and the path.
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Secret, A::Error> {
                let (value, file) = (parts.next_element()?, parts.next_element::<String>()?);
                Ok(Secret {
                    value: value.ok_or_else(|| de::Error::invalid_length(0, &self))?,
                    file: file.map(PathBuf::from),
                })
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, Wrapped)
    }
}

/// The most that a secret's file may hold, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Reads a secret's file and drops one newline at its end. The message does not quote the path: whoever
/// wrote the secret itself there would see it printed.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let cannot_read =
        |error: std::io::Error| format!("the file named here cannot be read: {error}");
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(cannot_read)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "the file named here is larger than {FILE_BYTES_MAX} bytes"
        ));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("the file named here is empty".to_owned());
    }
    Ok(text)
}
