//! A column's form that the configuration demands where the subject has another one.

use serde_json::Value as Json;
use tributary_runtime::Error;
use tributary_runtime::registry::BACKWARD_TRANSITIVE;
use tributary_schemas::avro;
use tributary_schemas::name::escape_avro;
use tributary_schemas::table::{ColumnType, Table};

use super::registrar::Registrar;

/// A table's columns that travel as text because `[[columns]]` says so.
#[derive(Debug)]
pub(super) struct TextColumns {
    /// The table as it would travel without.
    typed: Table,
    columns: Vec<usize>,
}

impl TextColumns {
    /// `typed` is the table before [`SourceConfig::apply_forms`](crate::config::SourceConfig::apply_forms), `table` the
    /// one behind it.
    pub(super) fn new(typed: Table, table: &Table) -> Self {
        let pairs = typed.columns.iter().zip(&table.columns).enumerate();
        let columns = pairs.filter(|(_, (typed, column))| {
            column.column_type == ColumnType::Text && typed.column_type != ColumnType::Text
        });
        let columns = columns.map(|(index, _)| index).collect();
        Self { typed, columns }
    }

    /// The table in the forms that this schema of its values has; `None` if they are those that are wanted.
    fn as_in(&self, schema: &str, table: &Table) -> Option<Table> {
        let schema: Json = serde_json::from_str(schema).ok()?;
        let fields = schema["fields"][0]["type"][1]["fields"].as_array()?;
        let mut before = table.clone();
        let mut differs = false;
        for &index in &self.columns {
            let name = escape_avro(&table.columns[index].name);
            let field = fields.iter().find(|field| field["name"] == name.as_str());
            if field.is_some_and(|field| !is_text(&field["type"])) {
                before.columns[index].column_type = self.typed.columns[index].column_type.clone();
                differs = true;
            }
        }
        differs.then_some(before)
    }
}

/// Whether a field of this type holds text that has no other meaning.
fn is_text(field: &Json) -> bool {
    let plain = match field {
        Json::Array(of) => of.last().unwrap_or(field),
        plain => plain,
    };
    plain == "string" || plain["type"] == "string" && plain["connect.name"].is_null()
}

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

#[cfg(test)]
mod tests {
    use tributary_schemas::avro;
    use tributary_schemas::table::{Column, ColumnType, Table};

    use super::TextColumns;

    fn table(types: [ColumnType; 3]) -> Table {
        let names = ["id", "at", "Größe"];
        let columns = names.into_iter().zip(types).zip(1_u16..);
        let columns = columns.map(|((name, column_type), place)| Column {
            name: name.to_owned(),
            attnum: place.cast_signed(),
            column_type,
            key_position: (place == 1).then_some(0),
        });
        Table {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: columns.collect(),
        }
    }

    #[test]
    fn the_form_of_each_column_is_found_in_a_schema() {
        use ColumnType::{Int4, Text, Uuid};
        let (typed, wanted) = (table([Int4, Uuid, Uuid]), table([Int4, Text, Text]));
        let text = TextColumns::new(typed.clone(), &wanted);
        let before = |table: &Table| text.as_in(&avro::value_schema("p.s.t", table), &wanted);
        assert_eq!(before(&typed), Some(typed.clone()));
        assert_eq!(before(&wanted), None);
        let half = table([Int4, Text, Uuid]);
        assert_eq!(before(&half), Some(half.clone()));
        let own = TextColumns::new(table([Int4, Text, Text]), &wanted);
        assert!(own.columns.is_empty(), "text anyway");
    }
}
