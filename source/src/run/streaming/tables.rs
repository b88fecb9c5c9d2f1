//! Tables that appear, go and change while the stream runs: what the catalog's watch tells, and what of it the stream
//! itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tributary_schemas::Lsn;

use crate::log::progress::Progress;
use crate::run::session::Session;
use crate::run::watch::{CatalogWatch, Survey};

/// The catalog's watch, and what is made of it.
pub(super) struct TablesFollowed {
    pub(super) watch: CatalogWatch,
    /// The survey that counts, for what is compared with the one before.
    pub(super) last: Option<Arc<Survey>>,
    /// Tables of it that could not be taken in, and when that is tried again.
    pub(super) left: Option<Instant>,
    /// Up to this topic its tables are taken in, or were tried; the next ones are due.
    pub(super) taken_to: Option<String>,
    /// By topic, where the stream told that its table has another name: an older survey does not know that.
    pub(super) renamed: BTreeMap<String, Lsn>,
    /// What was warned of.
    pub(super) told: BTreeSet<String>,
}

impl TablesFollowed {
    pub(super) fn begin(session: &Session, progress: &Progress) -> Self {
        let followed = progress.tables.values();
        let followed = followed.filter(|table| !table.followed.absent);
        let settled = followed.map(|table| (table.oid, table.followed.place));
        Self {
            watch: CatalogWatch::begin(
                Arc::clone(&session.config),
                session.database.clone(),
                settled.collect(),
            ),
            last: None,
            left: None,
            taken_to: None,
            renamed: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }
}
