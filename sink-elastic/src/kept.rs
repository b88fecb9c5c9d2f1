//! What documents have of the columns that a record has no value for: it is kept.

use tributary_engine::Change;
use tributary_runtime::Result;
use tributary_schemas::record::Datum;

use crate::client::Client;
use crate::document::Document;
use crate::failure;
use crate::id;
use crate::index::Index;
use crate::stored;

/// So many documents are read and written together: their values are large ones.
pub(crate) const AT_ONCE: usize = 20;

/// Whether a change's row lacks values.
pub(crate) fn is_incomplete(change: &Change<'_>) -> bool {
    let row = change.row();
    row.is_some_and(|row| row.row.contains(&Datum::Unavailable))
}

/// Whether the keys of two changes are of one type: of those, each row is there once.
pub(crate) fn have_one_key_type(one: &Change<'_>, other: &Change<'_>) -> bool {
    let types = [one, other].map(|change| change.key.as_ref().map(|key| key.key_type));
    match types {
        [Some(one), Some(other)] => std::ptr::eq(one, other),
        _ => false,
    }
}

/// The documents that the index has of the rows of these changes, each beside its change.
///
/// # Errors
/// As [`Client::send`]; retry where a document cannot be read.
pub(crate) async fn documents(
    client: &Client,
    index: &Index,
    changes: &[Change<'_>],
) -> Result<Vec<Option<Document>>> {
    let ids: Vec<_> = changes.iter().map(id_of).collect();
    let found = index.find().await?;
    let write_index = found.ok_or_else(|| failure::vanished(index.alias()))?;
    let asked: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
    let mut known = stored::documents(client, &write_index, &asked).await?;
    let documents = ids.into_iter();
    Ok(documents.map(|id| known.remove(&id?)?.source).collect())
}

/// `None` of a row whose key has no form, which is refused later, and of one without a key, which is new.
fn id_of(change: &Change<'_>) -> Option<String> {
    let mut id = String::new();
    id::of_key(change.key.as_ref()?, &mut id).ok()?;
    Some(id)
}
