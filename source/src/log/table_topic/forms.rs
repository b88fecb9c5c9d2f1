//! A column's form that the configuration demands where the subject has another one.

use serde_json::Value as Json;
use tributary_schemas::name::escape_avro;
use tributary_schemas::table::{ColumnType, Table};

/// A table's columns that travel as text because `[[columns]]` says so.
#[derive(Debug)]
pub(super) struct TextColumns {
    /// The table as it would travel without.
    typed: Table,
    pub(super) columns: Vec<usize>,
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
    pub(super) fn as_in(&self, schema: &str, table: &Table) -> Option<Table> {
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
