//! The form of a topic's rows before there is one, as the registry knows it.

use std::fmt;

use tributary_runtime::Result;
use tributary_runtime::registry::Registry;
use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::record::RecordType;

use crate::config::SinkConfig;
use crate::flow::plans::SchemaCache;

/// What the rows of a topic look like, by the newest schemas of its subjects.
#[derive(Debug, Clone, PartialEq)]
pub struct RowForm {
    /// The key's columns; `None` for a table without a key.
    pub key_type: Option<RecordType>,
    /// The table's columns.
    pub row_type: RecordType,
}

/// Asks the registry what the rows of topics look like.
pub struct Forms(SchemaCache);

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forms").finish_non_exhaustive()
    }
}

impl Forms {
    /// Of the registry that a service with this configuration asks.
    ///
    /// # Errors
    /// Stop: the address is malformed.
    pub fn new(config: &SinkConfig) -> Result<Self> {
        let registry = Registry::new(&config.kafka.registry)?;
        Ok(Self(SchemaCache::new(registry)))
    }

    /// The form of a topic's rows by the newest schemas; `None` where the registry has none of a table's changes.
    ///
    /// # Errors
    /// The registry's.
    pub async fn of(&self, topic: &str) -> Result<Option<RowForm>> {
        of_topic(&self.0, topic).await
    }
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
