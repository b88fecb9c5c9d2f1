//! What a table needs before it can take records, as data: the dialect makes statements of it.

use tributary_runtime::Error;
use tributary_schemas::record::RecordType;

use crate::warehouse::rules::{Fit, Misfit, TableRules};
use crate::warehouse::target::{Target, Wanted};

/// One change of a table's form. Types are spelled as the catalog does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// A column more, null in the rows that are there.
    Add { column: String, sql_type: String },
    /// A column gets a type that holds what it holds and more.
    Widen { column: String, to: String },
    /// A column of a table without rows gets a type to which nothing could be converted.
    Replace { column: String, to: String },
    /// A column takes null.
    AllowNull { column: String },
    /// The table has no primary key any more.
    DropKey,
    /// These columns are its primary key.
    SetKey { columns: Vec<String> },
}

impl Target {
    /// What the table needs before it can take records of this kind; deletes, which have no row, need its key alone.
    ///
    /// # Errors
    /// What cannot be done safely: another key, a column of a type that cannot be widened to the new one, a
    /// column of somebody else's that must not be null.
    pub(crate) fn need<R: TableRules>(
        &self,
        wanted: &Wanted,
        row_type: Option<&RecordType>,
    ) -> Result<Vec<Alteration>, Error> {
        let misfit = |misfit: &Misfit<'_>| misfit.error::<R>(&self.name);
        if !self.has_key(&wanted.key) {
            let (have, want) = (&self.key, &wanted.key);
            return Err(misfit(&match have.is_empty() {
                true => Misfit::NoKey { want },
                false => Misfit::Key { have, want },
            }));
        }
        let mut growth = Vec::new();
        for (alteration, fits) in self.columns_for::<R>(wanted) {
            match fits {
                Ok(()) => growth.push(alteration),
                Err(type_misfit) => return Err(misfit(&type_misfit)),
            }
        }
        let unknown = self.columns.iter().find(|have| {
            row_type.is_some()
                && have.required
                && !wanted.columns.iter().any(|want| want.name == have.name)
        });
        match unknown {
            Some(have) => Err(misfit(&Misfit::Required { column: &have.name })),
            None => Ok(growth),
        }
    }

    /// What the table needs to take records of this kind if it has no rows: nothing is lost where nothing is converted.
    pub(crate) fn reform<R: TableRules>(&self, wanted: &Wanted) -> Vec<Alteration> {
        let has_key = self.has_key(&wanted.key);
        let mut reform = Vec::new();
        if !has_key {
            reform.push(Alteration::DropKey);
            let freed = self.key.iter().filter(|name| !wanted.key.contains(name));
            reform.extend(freed.map(|name| Alteration::AllowNull {
                column: name.clone(),
            }));
        }
        reform.extend(
            self.columns_for::<R>(wanted)
                .map(|(alteration, _)| alteration),
        );
        if !has_key {
            reform.push(Alteration::SetKey {
                columns: wanted.key.clone(),
            });
        }
        reform
    }

    /// What brings the columns to the wanted ones, and which of that only a table without rows can bear.
    fn columns_for<'a, R: TableRules>(
        &'a self,
        wanted: &'a Wanted,
    ) -> impl Iterator<Item = (Alteration, Result<(), Misfit<'a>>)> {
        wanted.columns.iter().filter_map(|want| {
            let column = want.name.clone();
            let Some(have) = self.column(&want.name) else {
                let sql_type = want.sql_type.clone();
                return Some((Alteration::Add { column, sql_type }, Ok(())));
            };
            match R::fit(&have.sql_type, &want.sql_type) {
                Fit::Holds => None,
                Fit::Widen(to) => Some((Alteration::Widen { column, to }, Ok(()))),
                Fit::Contradicts => {
                    let to = want.sql_type.clone();
                    let misfit = Misfit::Type {
                        column: &have.name,
                        have: &have.sql_type,
                        want: &want.sql_type,
                    };
                    Some((Alteration::Replace { column, to }, Err(misfit)))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::FieldType;

    use super::Alteration;
    use crate::warehouse::name::Qualified;
    use crate::warehouse::rules::plain::{Plain, record};
    use crate::warehouse::target::{SEQ, Target, TargetColumn, Wanted};

    fn target(columns: &[(&str, &str)], key: &[&str]) -> Target {
        let columns = columns.iter().map(|(name, sql_type)| TargetColumn {
            name: (*name).to_owned(),
            sql_type: (*sql_type).to_owned(),
            required: false,
        });
        let key = key.iter().map(|&name| name.to_owned()).collect();
        Target::new(&Qualified::new("s", "t"), columns.collect(), key).unwrap()
    }

    fn add(column: &str, sql_type: &str) -> Alteration {
        Alteration::Add {
            column: column.to_owned(),
            sql_type: sql_type.to_owned(),
        }
    }

    #[test]
    fn a_table_grows_by_what_is_missing_or_too_narrow() {
        let key = record(&[("id", FieldType::Int64)]);
        let value = record(&[("id", FieldType::Int64), ("new", FieldType::Bool)]);
        let wanted = Wanted::new::<Plain>(Some(&key), Some(&value)).unwrap();
        let have = target(&[("id", "small"), ("old", "text"), (SEQ, "large")], &["id"]);
        let widen = Alteration::Widen {
            column: "id".to_owned(),
            to: "large".to_owned(),
        };
        assert_eq!(
            have.need::<Plain>(&wanted, Some(&value)).unwrap(),
            [widen, add("new", "text")]
        );
        let fits = target(&[("id", "large"), ("new", "text"), (SEQ, "large")], &["id"]);
        assert_eq!(fits.need::<Plain>(&wanted, Some(&value)).unwrap(), []);
    }

    #[test]
    fn what_contradicts_stops_with_the_remedy() {
        let key = record(&[("id", FieldType::Int64)]);
        let wanted = Wanted::new::<Plain>(Some(&key), Some(&key)).unwrap();
        let mut required = target(&[("id", "large"), ("x", "text"), (SEQ, "large")], &["id"]);
        required.columns[1].required = true;
        for (have, what, cure) in [
            (
                &target(&[("id", "date"), (SEQ, "large")], &["id"]),
                r#"column "id" of table "s"."t" is date, the records need large"#,
                r#"cure "s"."t" of Type"#,
            ),
            (
                &target(&[("id", "large"), (SEQ, "large")], &["id", "region"]),
                r#"has the primary key ("id", "region"), the records have ("id")"#,
                r#"cure "s"."t" of Key"#,
            ),
            (
                &required,
                r#"has the column "x" that the records lack"#,
                r#"cure "s"."t" of Required"#,
            ),
        ] {
            let message = have
                .need::<Plain>(&wanted, Some(&key))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(what) && message.contains(cure),
                "{message}"
            );
        }
        // A delete brings no row for which the column could be missing.
        assert_eq!(required.need::<Plain>(&wanted, None).unwrap(), []);
    }

    #[test]
    fn a_table_without_rows_takes_any_form() {
        let key = record(&[("id", FieldType::Int64), ("region", FieldType::String)]);
        let wanted = Wanted::new::<Plain>(Some(&key), Some(&key)).unwrap();
        let have = target(&[("id", "date"), ("nr", "large"), (SEQ, "large")], &["nr"]);
        assert_eq!(
            have.reform::<Plain>(&wanted),
            [
                Alteration::DropKey,
                Alteration::AllowNull {
                    column: "nr".to_owned()
                },
                Alteration::Replace {
                    column: "id".to_owned(),
                    to: "large".to_owned()
                },
                add("region", "key text"),
                Alteration::SetKey {
                    columns: vec!["id".to_owned(), "region".to_owned()]
                },
            ]
        );
    }
}
