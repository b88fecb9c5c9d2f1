//! Tables that appear, go and change while the stream runs: what the catalog's watch tells, and what of it the stream
//! itself says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::membership::Membership;
use crate::log::progress::Progress;
use crate::run::session::Session;
use crate::run::watch::CatalogWatch;

/// The catalog's watch, and what is made of it.
pub(super) struct TablesFollowed {
    pub(super) watch: CatalogWatch,
    pub(super) membership: Membership,
    /// Tables that could not be taken in, and when that is tried again.
    pub(super) left: Option<Instant>,
    /// Up to this topic its tables are taken in, or were tried; the next ones are due.
    pub(super) taken_to: Option<String>,
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
            membership: Membership::new(session.config.snapshot.mode),
            left: None,
            taken_to: None,
            told: BTreeSet::new(),
        }
    }
}
