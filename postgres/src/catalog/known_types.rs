//! The types of a table's columns that may be dropped, as the catalog had them: changes from before are read later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pgtype::PgType;

/// By OID, all but the system's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnownTypes(pub(super) BTreeMap<u32, PgType>);

impl KnownTypes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds others, which are newer.
    pub fn add(&mut self, newer: &Self) {
        self.0.extend(newer.0.clone());
    }
}
