//! What the documents of a topic hold, by the configuration and the columns.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tributary_runtime::{Error, Result};
use tributary_schemas::record::RecordType;

use crate::config::{ElasticConfig, OnUnfitMapping};
use crate::options::DocumentOptions;
use crate::{given, mapping};

/// What the configuration says of the documents of a topic.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    topic: String,
    options: DocumentOptions,
    on_unfit_mapping: OnUnfitMapping,
}

/// A column that documents hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its place in the row.
    pub(crate) column: usize,
    /// The document's field.
    pub(crate) field: String,
}

impl Shape {
    pub(crate) fn of(config: &ElasticConfig, topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            options: config.documents_of(topic).cloned().unwrap_or_default(),
            on_unfit_mapping: config.on_unfit_mapping,
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// What is done with an index that cannot take what a column has become.
    pub(crate) const fn on_unfit_mapping(&self) -> OnUnfitMapping {
        self.on_unfit_mapping
    }

    /// The columns that a document holds, in their order.
    ///
    /// # Errors
    /// Stop: two columns would be one field.
    pub(crate) fn members(&self, row_type: &RecordType) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        let mut columns: BTreeMap<Cow<'_, str>, &str> = BTreeMap::new();
        for (place, column) in row_type.fields.iter().enumerate() {
            if !self.options.holds(&column.name) {
                continue;
            }
            let field = self.field(&column.name);
            if let Some(other) = columns.insert(field.clone(), &column.name) {
                return Err(self.clash([other, &column.name], &field));
            }
            members.push(Member {
                column: place,
                field: field.into_owned(),
            });
        }
        Ok(members)
    }

    /// The mapping's `properties` for rows of this type.
    ///
    /// # Errors
    /// As [`Shape::members`].
    pub(crate) fn properties(&self, row_type: &RecordType) -> Result<Map<String, Value>> {
        let fields = self.members(row_type)?.into_iter().filter_map(|member| {
            let column = row_type.fields.get(member.column)?;
            Some((member.field, &column.field_type))
        });
        let mut properties = mapping::properties(fields);
        // What only adds to a field of ours has nothing to add to in rows without that column, older ones perhaps.
        let mut given = self.options.fields.clone();
        given.retain(|name, field| given::is_whole(field) || properties.contains_key(name));
        given::lay_over(&mut properties, given);
        Ok(properties)
    }

    /// What an index that is created has set.
    pub(crate) fn settings(&self) -> Map<String, Value> {
        self.options.flat_settings()
    }

    /// The fields of which the configuration says how they are mapped.
    pub(crate) const fn given_fields(&self) -> &Map<String, Value> {
        &self.options.fields
    }

    /// Whether the configuration says nothing of such documents.
    pub(crate) fn is_usual(&self) -> bool {
        self.given_fields().is_empty() && self.options.settings.is_empty() && self.note().is_none()
    }

    /// All that the configuration says of such documents; nothing where that is nothing.
    pub(crate) fn all(&self) -> Option<Value> {
        let (fields, settings) = (&self.options.fields, self.settings());
        (!self.is_usual())
            .then(|| json!({"shape": self.note(), "fields": fields, "settings": settings}))
    }

    /// What an index says of the documents in it; nothing where they hold all columns by their names.
    pub(crate) fn note(&self) -> Option<Value> {
        let DocumentOptions {
            include,
            exclude,
            rename,
            ..
        } = &self.options;
        let is_usual = include.is_empty() && exclude.is_empty() && rename.is_empty();
        (!is_usual).then(|| json!({"include": include, "exclude": exclude, "rename": rename}))
    }

    /// What the configuration names and no column of such rows is; not where it speaks of topics by a pattern, for any of them.
    pub(crate) fn unknown_columns(&self, row_type: &RecordType) -> Option<String> {
        let is_pattern = |name: &&String| name.contains(['*', '?']);
        if self.options.topics.iter().any(|topic| is_pattern(&topic)) {
            return None;
        }
        let lists = [&self.options.include, &self.options.exclude];
        let names = lists
            .into_iter()
            .flatten()
            .chain(self.options.rename.keys());
        let is_column = |name: &String| row_type.fields.iter().any(|column| column.name == *name);
        let unknown: Vec<String> = names
            .filter(|name| !is_pattern(name) && !is_column(name))
            .map(|name| format!("'{name}'"))
            .collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "`elasticsearch.documents` names {}, and no column of topic {} is called so",
                unknown.join(", "),
                self.topic
            )
        })
    }

    fn field<'c>(&'c self, column: &'c str) -> Cow<'c, str> {
        match self.options.rename.get(column) {
            Some(field) => Cow::Borrowed(field),
            None => mapping::field_name(column),
        }
    }

    fn clash(&self, [one, other]: [&str; 2], field: &str) -> Error {
        Error::stop_msg(format_args!(
            "the columns \"{one}\" and \"{other}\" of topic {} would both be the field '{field}'",
            self.topic
        ))
        .remedy("rename or exclude one of them in `elasticsearch.documents`")
    }
}
