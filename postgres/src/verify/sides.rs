//! The two sides that are compared.

use std::future::Future;

use bytes::Bytes;
use tributary_runtime::Result;
use tributary_schemas::Lsn;

/// A row of the table, as it was in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its key's columns as Postgres prints them, in key order.
    pub key: Vec<String>,
    /// Which version of the row it is: another one each time that the row is written.
    pub stamp: String,
    /// The line of COPY that it came in.
    pub text: Bytes,
}

/// What a row is in the replica when the replica is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name there.
    pub id: String,
    /// Stands for all its values; `None` where one of them has no form.
    pub digest: Option<[u8; 32]>,
}

/// What the replica has of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Another one each time that it is written.
    pub version: i64,
    /// Stands for all its values.
    pub digest: [u8; 32],
}

/// Whose a name in the replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The row's with this key, if there is such a row: each column as text that Postgres takes.
    Key(Vec<String>),
    /// No row can have it.
    Nobody,
    /// The name does not tell.
    Unknown,
}

/// The table.
pub trait Original: Send {
    /// The next rows in the order of the key, at most so many, as they are in one snapshot; none behind the last.
    ///
    /// # Errors
    /// Those of the server that do not pass.
    fn range(
        &mut self,
        after: Option<&[String]>,
        rows: usize,
    ) -> impl Future<Output = Result<Vec<Line>>> + Send;

    /// The rows that there are of these keys, as they are in one snapshot.
    ///
    /// # Errors
    /// Those of the server that do not pass.
    fn rows(&mut self, keys: &[&[String]]) -> impl Future<Output = Result<Vec<Line>>> + Send;

    /// A position behind everything that was read.
    ///
    /// # Errors
    /// Those of the server that do not pass.
    fn position(&mut self) -> impl Future<Output = Result<Lsn>> + Send;

    /// Whether everything up to a position is in the log.
    ///
    /// # Errors
    /// Those of the server that do not pass; stop where nobody brings anything into the log.
    fn is_published(&mut self, position: Lsn) -> impl Future<Output = Result<bool>> + Send;
}

/// What a sink has made of the table.
pub trait Replica: Send {
    /// Where the log ended at one time.
    type Ends: Send + Sync;

    /// What a row is here; `None` where its key has no form.
    fn image(&self, line: &Line) -> Option<Image>;

    /// What there is of these names now, in their order.
    ///
    /// # Errors
    /// Those of the target that do not pass.
    fn read(&mut self, ids: &[&str]) -> impl Future<Output = Result<Vec<Option<Held>>>> + Send;

    /// The next names of all that are here, some of them perhaps once more; none where these were all.
    ///
    /// # Errors
    /// Those of the target that do not pass.
    fn list(&mut self) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// Whose a name is.
    fn named(&self, id: &str) -> Named;

    /// Where the log ends now.
    ///
    /// # Errors
    /// Those of the log that do not pass.
    fn ends(&mut self) -> impl Future<Output = Result<Self::Ends>> + Send;

    /// How many records below these ends are not here yet.
    ///
    /// # Errors
    /// Those of the log that do not pass.
    fn unread(&mut self, ends: &Self::Ends) -> impl Future<Output = Result<u64>> + Send;
}
