//! What Postgres' catalog says of the tables: the facts that Relation messages lack (keys, labels, domains).

mod fingerprint;
mod identity;
mod known_types;
mod pattern;
mod pgtype;
mod read;
mod row_security;
mod selection;
mod storage;
mod table;

pub use fingerprint::Fingerprint;
pub use known_types::KnownTypes;
pub use pattern::TablePattern;
pub use read::Catalog;
pub use selection::{PartitionTopics, Selection, TopicNames, Unusable, Wanted};
pub use storage::Storage;
pub use table::{CatalogTable, KEY_REMEDY, LeafState, without_key};
