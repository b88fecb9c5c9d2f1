//! From a row to what a sink reads of its record: by the source's encode plan and the sinks' decode plans.

use tributary_runtime::{Error, Result};
use tributary_schemas::Lsn;
use tributary_schemas::avro;
use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::encode::{Change, EncodePlan, Snapshot, SourceIdentity};
use tributary_schemas::record::{Op, RecordType, Row as DecodedRow};
use tributary_schemas::table::{ColumnType, Table};

use crate::rows::Row;

/// Encodes and decodes the rows of one table as they travel.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    plan: EncodePlan,
    key: KeyPlan,
    value: ValuePlan,
}

impl Encoder {
    /// For a table, whose topic has rows of these types. Which columns travel in another form than their type's, the source's
    /// configuration says, and so do the types.
    ///
    /// # Errors
    /// Stop: the table has other columns than the topic.
    pub fn new(
        topic: &str,
        found: &Table,
        key_type: &RecordType,
        row_type: &RecordType,
    ) -> Result<Self> {
        let table = as_published(topic, found, row_type)?;
        let value = value_plan(topic, &table)?;
        let key = avro::key_schema(topic, &table).unwrap_or_default();
        let key = KeyPlan::compile(&key).map_err(Error::stop)?;
        if value.row_type() != row_type || key.row_type() != key_type {
            return Err(Error::stop_msg(format_args!(
                "the columns of table {}.{} are not those of the newest schemas of topic '{topic}'",
                table.schema, table.name
            ))
            .remedy("see whether the source runs, and run the command again when it has published the change of the table"));
        }
        let nobody = SourceIdentity {
            name: String::new(),
            db: String::new(),
            region: None,
            version: String::new(),
            connector: String::new(),
        };
        Ok(Self {
            plan: EncodePlan::compile(&table, &nobody),
            table,
            key,
            value,
        })
    }

    /// The type of the rows.
    pub const fn row_type(&self) -> &RecordType {
        self.value.row_type()
    }

    /// The type of the keys.
    pub const fn key_type(&self) -> &RecordType {
        self.key.row_type()
    }

    /// Takes what a sink reads of a row's record: its key, and its columns, which are none where one has no form. `None` where
    /// the key has none.
    pub fn read<T>(
        &self,
        line: &[u8],
        take: impl FnOnce(DecodedRow<'_>, Option<DecodedRow<'_>>) -> Option<T>,
    ) -> Option<T> {
        let mut row = Row::default();
        let cells = row.parse(line, &self.table).ok()?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let change = Change {
            op: Op::Read,
            before: None,
            after: Some(&cells),
            commit_time_us: 0,
            snapshot: Snapshot::False,
            sequence: (None, Lsn::ZERO),
            tx_id: None,
            lsn: None,
            transaction: None,
            handled_at_ns: 0,
        };
        self.plan.encode_key(&cells, &mut key).ok()?;
        let has_form = self.plan.encode_envelope(&change, &mut value).is_ok();
        let key = self.key.decode(&key).ok()?;
        let row = has_form.then(|| self.value.row(&value).ok().flatten());
        take(key, row.flatten())
    }
}

fn value_plan(topic: &str, table: &Table) -> Result<ValuePlan> {
    ValuePlan::compile(&avro::value_schema(topic, table)).map_err(Error::stop)
}

/// The table with the form of each column in which it is published.
fn as_published(topic: &str, found: &Table, row_type: &RecordType) -> Result<Table> {
    let with = |change: fn(&mut ColumnType)| -> Result<(Table, RecordType)> {
        let mut table = found.clone();
        table
            .columns
            .iter_mut()
            .for_each(|column| change(&mut column.column_type));
        let plan = value_plan(topic, &table)?;
        Ok((table, plan.row_type().clone()))
    };
    let forms = [
        with(|_| {})?,
        with(ColumnType::count_intervals)?,
        with(|column_type| *column_type = ColumnType::Text)?,
    ];
    let mut table = found.clone();
    for (place, column) in table.columns.iter_mut().enumerate() {
        let Some(published) = row_type.fields.get(place) else {
            break;
        };
        let mut forms = forms.iter();
        let form = forms.find(|(_, form)| form.fields.get(place) == Some(published));
        if let Some((form, _)) = form.and_then(|(form, row)| Some((form.columns.get(place)?, row)))
        {
            column.column_type.clone_from(&form.column_type);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use tributary_schemas::avro;
    use tributary_schemas::decode::{KeyPlan, ValuePlan};
    use tributary_schemas::record::{Datum, RecordType};
    use tributary_schemas::table::{Column, ColumnType, Table};

    use super::Encoder;

    fn table(columns: [ColumnType; 3]) -> Table {
        let names = ["id", "every", "until"].into_iter().zip(columns);
        let columns = names
            .enumerate()
            .map(|(place, (name, column_type))| Column {
                name: name.to_owned(),
                attnum: 1,
                column_type,
                key_position: (place == 0).then_some(0),
            });
        Table {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: columns.collect(),
        }
    }

    fn types(table: &Table) -> (RecordType, RecordType) {
        let key = avro::key_schema("p.s.t", table).unwrap();
        let value = avro::value_schema("p.s.t", table);
        (
            KeyPlan::compile(&key).unwrap().row_type().clone(),
            ValuePlan::compile(&value).unwrap().row_type().clone(),
        )
    }

    #[test]
    fn columns_take_the_form_in_which_they_are_published() {
        let found = table([ColumnType::Int4, ColumnType::Interval, ColumnType::Date]);
        let published = table([
            ColumnType::Int4,
            ColumnType::IntervalMicros,
            ColumnType::Text,
        ]);
        let (key, row) = types(&published);
        let encoder = Encoder::new("p.s.t", &found, &key, &row).unwrap();
        let read = encoder.read(b"0 1 (0,1)\t7\t00:00:01\t4714-11-24 BC\n", |key, row| {
            assert_eq!(key, [Datum::Int(7)]);
            let row = row.unwrap();
            assert_eq!(
                row[1..],
                [Datum::Int(1_000_000), Datum::Str("4714-11-24 BC")]
            );
            Some(())
        });
        assert_eq!(read, Some(()));
        let no_key = encoder.read(b"0 1 (0,1)\tx\t\\N\t\\N\n", |_, _| Some(()));
        assert_eq!(no_key, None);
        let no_form = encoder.read(b"0 1 (0,1)\t7\tx\t\\N\n", |_, row| Some(row.is_none()));
        assert_eq!(no_form, Some(true));
    }

    #[test]
    fn other_columns_are_told() {
        let found = table([ColumnType::Int4, ColumnType::Bool, ColumnType::Bool]);
        let (key, row) = types(&table([
            ColumnType::Int4,
            ColumnType::Bool,
            ColumnType::Int4,
        ]));
        let error = Encoder::new("p.s.t", &found, &key, &row).unwrap_err();
        assert!(
            error.to_string().contains("the columns of table s.t"),
            "{error}"
        );
    }
}
