//! The records inside a row: those of Debezium, which all tables share, and those of composite types.

use crate::name::escape_avro;
use crate::table::ColumnType;

/// A record type of Debezium's. A schema defines it where it is needed first, and refers to it afterwards.
pub(super) struct Shared {
    pub(super) full_name: &'static str,
    /// `name`, `namespace` and `fields`, as members of a JSON object.
    pub(super) definition: &'static str,
    pub(super) doc: &'static str,
}

const VARIABLE_SCALE_DECIMAL: Shared = Shared {
    full_name: "io.debezium.data.VariableScaleDecimal",
    definition: concat!(
        r#","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":["#,
        r#"{"name":"scale","type":"int"},{"name":"value","type":"bytes"}]"#
    ),
    doc: "Variable scaled decimal",
};

const POINT: Shared = Shared {
    full_name: "io.debezium.data.geometry.Point",
    definition: concat!(
        r#","name":"Point","namespace":"io.debezium.data.geometry","fields":["#,
        r#"{"name":"x","type":"double"},{"name":"y","type":"double"},"#,
        r#"{"name":"wkb","type":["null","bytes"],"default":null},"#,
        r#"{"name":"srid","type":["null","int"],"default":null}]"#
    ),
    doc: "Geometry (POINT)",
};

const GEOMETRY: Shared = Shared {
    full_name: "io.debezium.data.geometry.Geometry",
    definition: concat!(
        r#","name":"Geometry","namespace":"io.debezium.data.geometry","fields":["#,
        r#"{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}]"#
    ),
    doc: "Geometry",
};

const GEOGRAPHY: Shared = Shared {
    full_name: "io.debezium.data.geometry.Geography",
    definition: concat!(
        r#","name":"Geography","namespace":"io.debezium.data.geometry","fields":["#,
        r#"{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}]"#
    ),
    doc: "Geography",
};

impl Shared {
    /// The record that values of this type are, if it is one of these.
    pub(super) const fn of(column_type: &ColumnType) -> Option<Self> {
        Some(match column_type {
            ColumnType::VariableNumeric => VARIABLE_SCALE_DECIMAL,
            ColumnType::Point => POINT,
            ColumnType::Geometry => GEOMETRY,
            ColumnType::Geography => GEOGRAPHY,
            _ => return None,
        })
    }
}

/// The named types of one schema: Avro wants each defined once.
pub(super) struct Names<'t> {
    /// Where the records of composites are: beside `Key`, `Value` and `Envelope`, none of which they may meet.
    namespace: String,
    /// From the column down to the place at hand: columns and attributes.
    path: Vec<&'t str>,
    /// The shared records that are defined already.
    defined: Vec<&'static str>,
}

impl<'t> Names<'t> {
    /// The names of the record `record` (`key` or `value`) of a topic.
    pub(super) fn new(topic_namespace: &str, record: &str) -> Self {
        Self {
            namespace: format!("{topic_namespace}.{record}"),
            path: Vec::new(),
            defined: Vec::new(),
        }
    }

    /// Whether this is the first use of a shared record, which then has to define it.
    pub(super) fn defines(&mut self, shared: &Shared) -> bool {
        let first = !self.defined.contains(&shared.full_name);
        if first {
            self.defined.push(shared.full_name);
        }
        first
    }

    /// Does something inside a column or an attribute.
    pub(super) fn inside<R>(&mut self, name: &'t str, act: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(name);
        let result = act(self);
        self.path.pop();
        result
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the composite's record at hand: the names that lead to it joined by dots, and those escaped.
    ///
    /// It depends on nothing but the place, so it is stable; a dot or a backslash inside a name has a backslash in
    /// front, so that different places have different names.
    pub(super) fn composite(&self) -> String {
        let steps: Vec<_> = self
            .path
            .iter()
            .map(|name| name.replace('\\', "\\\\").replace('.', "\\."))
            .collect();
        escape_avro(&steps.join("."))
    }
}
