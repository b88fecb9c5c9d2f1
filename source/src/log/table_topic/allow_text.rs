//! Prepares a subject for columns that travel as text from now on.

use tributary_runtime::Error;
use tributary_runtime::registry::BACKWARD_TRANSITIVE;
use tributary_schemas::avro;
use tributary_schemas::table::Table;

use super::forms::TextColumns;
use super::registrar::Registrar;

impl Registrar {
    /// Prepares a subject for a schema in which columns travel as text. The registry would refuse it where the subject has
    /// them in their types' forms: and it may have them there because of rows that came before the one that does not fit,
    /// or for no row at all. So it is told not to compare, if the form is all that differs from what the subject has.
    ///
    /// Returns whether versions from before the form are in the subject: no schema reads both, and the newer ones are
    /// compared with the one before them only.
    pub(super) async fn allow_text(
        &self,
        topic: &str,
        table: &Table,
        text: &TextColumns,
    ) -> Result<bool, Error> {
        if text.columns.is_empty() {
            return Ok(false);
        }
        let subject = format!("{topic}-value");
        let Some(latest) = self.registry.latest(&subject).await? else {
            return Ok(false);
        };
        if let Some(before) = text.as_in(&latest.schema, table) {
            let before = avro::value_schema(topic, &before);
            if self.registry.lookup(&subject, &before).await?.is_some() {
                self.set_compatibility(&subject, "NONE").await?;
                let columns = text
                    .columns
                    .iter()
                    .map(|index| &*table.columns[*index].name);
                tracing::warn!(
                    table = format!("{}.{}", table.schema, table.name),
                    columns = columns.collect::<Vec<_>>().join(", "),
                    topic,
                    "columns travel as text from here on, as `columns` says; records before this have them in their types' forms"
                );
                return Ok(true);
            }
        }
        let level = self.registry.compatibility(&subject).await?;
        Ok(level.is_some_and(|level| level != BACKWARD_TRANSITIVE))
    }
}
