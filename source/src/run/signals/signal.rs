//! One signal, in our form and in Debezium's.

use serde::Deserialize;
use serde_json::{Value, json};

use tributary_postgres::catalog::TablePattern;

/// The largest signal that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// One signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signal {
    /// The one source that it is for; all sources of the prefix without it.
    pub(crate) source: Option<String>,
    pub(crate) action: Action,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read tables again, beside the stream.
    Snapshot(Vec<Request>),
    /// Read no further until [`Action::Resume`], also after a restart.
    Pause,
    /// Go on.
    Resume,
    /// Give up the snapshots that are not finished: of these tables, or of all. What was read stays in the
    /// topics.
    Cancel(Option<Vec<TablePattern>>),
}

/// A snapshot of some tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) tables: Vec<TablePattern>,
    /// An SQL condition on the rows; all rows without it.
    pub(crate) filter: Option<String>,
    /// Whether rows that are in the topic and not in the table any more shall vanish.
    pub(crate) sweep: bool,
}

impl Signal {
    /// Reads a record's value.
    ///
    /// # Errors
    /// Why it is none, without quoting it.
    pub(crate) fn parse(value: Option<&[u8]>) -> Result<Self, String> {
        let value = value.ok_or("the record has no value")?;
        if value.len() > MAX_BYTES {
            return Err(format!("the signal is longer than {MAX_BYTES} bytes"));
        }
        let wire: Wire = serde_json::from_slice(value).map_err(|error| {
            // serde's message may quote; its class and place do not.
            let class = match error.classify() {
                serde_json::error::Category::Data => "not a signal's fields",
                _ => "not JSON",
            };
            format!("{class} (line {}, column {})", error.line(), error.column())
        })?;
        let source = wire.source.clone();
        wire.action().map(|action| Self { source, action })
    }

    /// Whether a source of this name is meant.
    pub(crate) fn is_for(&self, source: &str) -> bool {
        self.source.as_deref().is_none_or(|own| own == source)
    }

    /// The record's value, in our own form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let names = |tables: &[TablePattern]| -> Vec<String> {
            tables.iter().map(ToString::to_string).collect()
        };
        let mut value = match &self.action {
            // One request per record in our own form: the command line makes no others.
            Action::Snapshot(requests) => match requests.first() {
                Some(request) => json!({
                    "type": "snapshot", "tables": names(&request.tables),
                    "where": request.filter, "sweep": request.sweep,
                }),
                None => json!({ "type": "snapshot", "tables": [] }),
            },
            Action::Pause => json!({ "type": "pause" }),
            Action::Resume => json!({ "type": "resume" }),
            Action::Cancel(tables) => {
                json!({ "type": "cancel", "tables": tables.as_deref().map(names) })
            }
        };
        if let (Some(fields), Some(source)) = (value.as_object_mut(), &self.source) {
            fields.insert("source".to_owned(), source.as_str().into());
        }
        value.to_string().into_bytes()
    }
}

/// The fields of both forms. Unknown fields are ignored, as Debezium does (its signals carry an `id`).
#[derive(Deserialize)]
struct Wire {
    r#type: String,
    source: Option<String>,
    tables: Option<Vec<String>>,
    r#where: Option<String>,
    sweep: Option<bool>,
    /// Debezium's parameters: an object, or its text.
    data: Option<Value>,
}

/// Debezium's `data`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Data {
    data_collections: Option<Vec<String>>,
    r#type: Option<String>,
    additional_condition: Option<String>,
    #[serde(default)]
    additional_conditions: Vec<Condition>,
    surrogate_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Condition {
    data_collection: String,
    filter: String,
}

impl Wire {
    fn action(self) -> Result<Action, String> {
        match self.r#type.as_str() {
            "snapshot" => self.snapshot(),
            "pause" | "pause-snapshot" => Ok(Action::Pause),
            "resume" | "resume-snapshot" => Ok(Action::Resume),
            "cancel" => {
                let tables = self.tables.as_deref().map(patterns).transpose()?;
                Ok(Action::Cancel(tables))
            }
            "execute-snapshot" => execute_snapshot(self.data()?),
            "stop-snapshot" => {
                let data = self.data()?;
                incremental(&data)?;
                let tables = data.data_collections.as_deref().map(patterns).transpose()?;
                Ok(Action::Cancel(tables))
            }
            _ => Err("`type` is none of snapshot, pause, resume, cancel, execute-snapshot, stop-snapshot, pause-snapshot, resume-snapshot".to_owned()),
        }
    }

    fn snapshot(self) -> Result<Action, String> {
        let tables = patterns(self.tables.as_deref().unwrap_or_default())?;
        if tables.is_empty() {
            return Err("`tables` is missing or empty".to_owned());
        }
        let filter = self.r#where.filter(|filter| !filter.trim().is_empty());
        let sweep = self.sweep.unwrap_or(false);
        if sweep && filter.is_some() {
            return Err(SWEEP_AND_FILTER.to_owned());
        }
        Ok(Action::Snapshot(vec![Request {
            tables,
            filter,
            sweep,
        }]))
    }

    fn data(&self) -> Result<Data, String> {
        let data = match &self.data {
            None => return Ok(Data::default()),
            Some(Value::String(text)) => serde_json::from_str(text),
            Some(value) => serde_json::from_value(value.clone()),
        };
        data.map_err(|_| "`data` does not have the fields of this signal".to_owned())
    }
}

/// Why a condition and a sweep exclude each other.
pub(crate) const SWEEP_AND_FILTER: &str = "a snapshot with a condition cannot sweep: every row that does not meet the condition would vanish";

/// One request per table, since each may have a condition of its own. Debezium matches names by regular
/// expressions; a plain name, with its dots escaped or not, is the expression that people write.
fn execute_snapshot(data: Data) -> Result<Action, String> {
    incremental(&data)?;
    if data.surrogate_key.is_some_and(|key| !key.is_empty()) {
        return Err("`surrogate-key` cannot be chosen: a table is read by its key".to_owned());
    }
    let tables = patterns(data.data_collections.as_deref().unwrap_or_default())?;
    if tables.is_empty() {
        return Err("`data-collections` is missing or empty".to_owned());
    }
    let mut conditions = Vec::new();
    for condition in data.additional_conditions {
        conditions.push((pattern(&condition.data_collection)?, condition.filter));
    }
    let mut requests = Vec::new();
    for table in tables {
        let own = conditions.iter().find(|(of, _)| *of == table);
        let filter = own
            .map(|(_, filter)| filter)
            .or(data.additional_condition.as_ref());
        requests.push(Request {
            tables: vec![table],
            filter: filter.filter(|filter| !filter.trim().is_empty()).cloned(),
            sweep: false,
        });
    }
    if let Some((_, _)) = conditions
        .iter()
        .find(|(of, _)| !requests.iter().any(|request| request.tables.contains(of)))
    {
        return Err(
            "`additional-conditions` names a table that `data-collections` does not".to_owned(),
        );
    }
    Ok(Action::Snapshot(requests))
}

fn incremental(data: &Data) -> Result<(), String> {
    match data.r#type.as_deref() {
        None => Ok(()),
        Some(kind) if kind.eq_ignore_ascii_case("incremental") => Ok(()),
        Some(_) => Err(
            "`data.type` is not incremental: snapshots are always taken beside the stream"
                .to_owned(),
        ),
    }
}

fn patterns(names: &[String]) -> Result<Vec<TablePattern>, String> {
    names.iter().map(|name| pattern(name)).collect()
}

fn pattern(name: &str) -> Result<TablePattern, String> {
    let plain = name.trim().replace("\\.", ".");
    TablePattern::parse(&plain)
        .ok_or_else(|| "a table is not written as schema.table or schema.*".to_owned())
}
