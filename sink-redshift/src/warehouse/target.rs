//! The table that a topic becomes: as it is, and as the records ask for it.

use tributary_runtime::Error;
use tributary_schemas::record::{FieldType, RecordType};

use crate::warehouse::name::Qualified;
use crate::warehouse::rules::{TableRules, identifier};

/// The row's version, in every target table.
pub(crate) const SEQ: &str = "_tributary_seq";
/// Where a row of a table without a key comes from: its partition.
pub(crate) const PARTITION: &str = "_tributary_partition";
/// Where a row of a table without a key comes from: its offset.
pub(crate) const OFFSET: &str = "_tributary_offset";
/// In temporary tables only: whether the row is to be deleted.
pub(crate) const DELETED: &str = "_tributary_deleted";
/// In temporary tables only: the columns of which the row has no value, by their index.
pub(crate) const LACKING: &str = "_tributary_lacking";
/// What the names of our own columns begin with.
const OWN_PREFIX: &str = "_tributary_";

/// A target table as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: Qualified,
    /// In the table's order; generated columns are not among them.
    pub(crate) columns: Vec<TargetColumn>,
    /// The primary key's columns, in the order of its index.
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    pub(crate) name: String,
    /// As the catalog spells it.
    pub(crate) sql_type: String,
    /// Whether an insert that says nothing about the column fails.
    pub(crate) required: bool,
}

/// What the records ask for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) columns: Vec<WantedColumn>,
    /// The key's columns in key order, or partition and offset.
    pub(crate) key: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct WantedColumn {
    pub(crate) name: String,
    pub(crate) sql_type: String,
}

impl Wanted {
    /// The table for rows with this key and value; without a key each row is told by partition and offset.
    ///
    /// # Errors
    /// A column that the dialect could not name, or that has the name of one of ours.
    pub(crate) fn new<R: TableRules>(
        key_type: Option<&RecordType>,
        row_type: Option<&RecordType>,
    ) -> Result<Self, Error> {
        let key_fields = key_type.map_or(&[][..], |key| &key.fields);
        let row_fields = row_type.map_or(&[][..], |row| &row.fields);
        let in_key = |name: &str| key_fields.iter().any(|field| field.name == name);
        let only_in_key = key_fields
            .iter()
            .filter(|field| !row_fields.iter().any(|other| other.name == field.name));
        let mut columns = Vec::with_capacity(row_fields.len() + 3);
        for field in only_in_key.chain(row_fields) {
            identifier::<R>(&field.name)?;
            if field.name.starts_with(OWN_PREFIX) {
                return Err(Error::stop_msg(format_args!(
                    "column '{}' has the prefix of our own columns, {OWN_PREFIX}",
                    field.name
                ))
                .remedy("rename the column at its source, or leave it out there"));
            }
            columns.push(WantedColumn {
                name: field.name.clone(),
                sql_type: R::column_type(&field.field_type, in_key(&field.name)),
            });
        }
        let own = |name: &str, field_type| WantedColumn {
            name: name.to_owned(),
            sql_type: R::column_type(&field_type, false),
        };
        let mut key: Vec<_> = key_fields.iter().map(|field| field.name.clone()).collect();
        if key_type.is_none() {
            columns.push(own(PARTITION, FieldType::Int32));
            columns.push(own(OFFSET, FieldType::Int64));
            key = vec![PARTITION.to_owned(), OFFSET.to_owned()];
        }
        columns.push(own(SEQ, FieldType::Int64));
        Ok(Self { columns, key })
    }

    /// Whether a column must not be null.
    pub(crate) fn requires(&self, column: &WantedColumn) -> bool {
        column.name == SEQ || self.key.contains(&column.name)
    }
}

impl Target {
    /// The table of which the catalog says this.
    ///
    /// # Errors
    /// It is not ours.
    pub(crate) fn new(
        name: &Qualified,
        columns: Vec<TargetColumn>,
        key: Vec<String>,
    ) -> Result<Self, Error> {
        let target = Self {
            name: name.clone(),
            columns,
            key,
        };
        if target.column(SEQ).is_none() {
            return Err(foreign(name, &format!("has no column {SEQ}")));
        }
        Ok(target)
    }

    pub(crate) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The columns' names, in the table's order.
    pub(crate) fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Whether a table without a key is kept here.
    pub(crate) fn is_keyless(&self) -> bool {
        self.key == [PARTITION, OFFSET]
    }

    /// Whether its primary key is of these columns.
    pub(crate) fn has_key(&self, wanted: &[String]) -> bool {
        self.key.len() == wanted.len() && wanted.iter().all(|name| self.key.contains(name))
    }
}

/// What has the table's name is somebody else's.
pub(crate) fn foreign(name: &Qualified, why: &str) -> Error {
    Error::stop_msg(format_args!("{name} {why}: it was not made by Tributary"))
        .remedy("move it away, or set [warehouse] schema to a schema of Tributary's own")
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::FieldType;

    use super::Wanted;
    use crate::warehouse::rules::plain::{Plain, record};

    fn columns(wanted: &Wanted) -> Vec<String> {
        let columns = wanted.columns.iter();
        columns
            .map(|column| {
                let null = if wanted.requires(column) {
                    " not null"
                } else {
                    ""
                };
                format!("{} {}{null}", column.name, column.sql_type)
            })
            .collect()
    }

    #[test]
    fn columns_follow_from_key_and_value() {
        let key = record(&[("b", FieldType::Int64), ("a", FieldType::Json)]);
        let value = record(&[("n", FieldType::String), ("b", FieldType::Int64)]);
        let wanted = Wanted::new::<Plain>(Some(&key), Some(&value)).unwrap();
        assert_eq!(
            columns(&wanted),
            [
                "a key text not null",
                "n text",
                "b large not null",
                "_tributary_seq large not null"
            ]
        );
        assert_eq!(wanted.key, ["b", "a"]);
    }

    #[test]
    fn a_row_without_a_key_is_told_by_its_place() {
        let value = record(&[("n", FieldType::String)]);
        let wanted = Wanted::new::<Plain>(None, Some(&value)).unwrap();
        assert_eq!(
            columns(&wanted),
            [
                "n text",
                "_tributary_partition small not null",
                "_tributary_offset large not null",
                "_tributary_seq large not null"
            ]
        );
    }

    #[test]
    fn a_column_with_our_prefix_or_too_long_a_name_is_refused() {
        for (name, part) in [
            ("_tributary_seq", "prefix of our own columns"),
            ("a name of 21 letters.", "Plain takes 1 to 20 bytes"),
        ] {
            let value = record(&[(name, FieldType::Int64)]);
            let error = Wanted::new::<Plain>(None, Some(&value)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
