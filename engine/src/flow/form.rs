//! The form of a topic's rows before there is one, as the registry knows it.

use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::record::RecordType;

use tributary_runtime::Result;

use crate::flow::plans::SchemaCache;

/// What the rows of a topic look like, by the newest schemas of its subjects.
#[derive(Debug, Clone, PartialEq)]
pub struct RowForm {
    /// The key's columns; `None` for a table without a key.
    pub key_type: Option<RecordType>,
    /// The table's columns.
    pub row_type: RecordType,
}

/// Asks for the form of a topic's rows: `<topic>-value` and `<topic>-key` are its subjects, as Kafka's serializers name them where
/// nobody says otherwise. `None` where there are no such subjects, or their schemas are not those of a table's changes.
///
/// The value's subject is asked for first: whoever registers the key's before it is never taken for one without a key.
///
/// # Errors
/// The registry's.
pub(crate) async fn of_topic(schemas: &SchemaCache, topic: &str) -> Result<Option<RowForm>> {
    let Some(value) = schemas.latest(&format!("{topic}-value")).await? else {
        return Ok(None);
    };
    let Ok(value) = ValuePlan::compile(&value) else {
        return Ok(None);
    };
    let key_type = match schemas.latest(&format!("{topic}-key")).await? {
        None => None,
        Some(key) => match KeyPlan::compile(&key) {
            Ok(key) => Some(key.row_type().clone()),
            Err(_) => return Ok(None),
        },
    };
    Ok(Some(RowForm {
        key_type,
        row_type: value.row_type().clone(),
    }))
}
