//! The indices of a topic, as they stand: which one is in use, what reindexes have made, and what of an index the next one takes over.

use serde_json::{Map, Value, json};
use tributary_engine::Mark;

use crate::config::ElasticConfig;
use crate::found;
use crate::mark::{self, Identity};
use crate::requests::{self, OF_SERVICE};
use crate::shape::Shape;
use crate::succession::{self, BLOCK, Build, Handover, Kept, Notes};

/// Settings that are of one index only, or the engine's own; the shards are the configuration's.
const NOT_TAKEN_OVER: [&str; 12] = [
    "index.blocks.",
    "index.creation_date",
    "index.history.",
    "index.mapping.total_fields.limit",
    "index.number_of_routing_shards",
    "index.number_of_shards",
    "index.provided_name",
    "index.resize.",
    "index.routing.allocation.initial_recovery.",
    "index.uuid",
    "index.verified_before_close",
    "index.version.",
];

/// The settings that name ingest pipelines.
const PIPELINES: [&str; 2] = ["index.default_pipeline", "index.final_pipeline"];

/// An index of the topic, or the one that has its alias' name.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) name: String,
    /// It has the alias' own name: somebody else has made it, and the service does not write to it.
    pub(super) is_plain: bool,
    pub(super) notes: Notes,
    pub(super) aliases: Map<String, Value>,
    pub(super) mark: Option<Mark>,
    /// From a snapshot, perhaps: what was written since may not be in it.
    pub(super) is_restored: bool,
    /// The mapping, without `_meta`.
    mappings: Map<String, Value>,
    settings: Map<String, Value>,
}

impl Standing {
    /// As the engine describes it; `None` for an index of another topic.
    pub(super) fn of(name: &str, index: &Value, topic: &str) -> Option<Self> {
        let notes = Notes::of(index);
        let ours = notes.ours();
        if ours.get("topic").and_then(Value::as_str) != Some(topic) {
            return None;
        }
        let properties = index.pointer("/mappings/properties");
        let properties = properties.and_then(Value::as_object).cloned();
        let mark = mark::read(&ours, &properties.unwrap_or_default());
        Some(Self {
            mark,
            is_plain: false,
            ..Self::plain(name, index)
        })
    }

    /// The one that has the alias' name.
    pub(super) fn plain(name: &str, index: &Value) -> Self {
        let object = |path: &str| index.pointer(path).and_then(Value::as_object).cloned();
        Self {
            name: name.to_owned(),
            is_plain: true,
            mark: None,
            is_restored: is_restored(index),
            notes: Notes::of(index),
            mappings: object("/mappings").unwrap_or_default(),
            aliases: object("/aliases").unwrap_or_default(),
            settings: object("/settings").unwrap_or_default(),
        }
    }

    pub(super) fn build(&self) -> Option<Build> {
        succession::build(&self.notes.ours())
    }

    pub(super) fn handover(&self) -> Option<Handover> {
        succession::handover(&self.notes.ours())
    }

    /// The index that has taken the place of this one.
    pub(super) fn replaced_by(&self) -> Option<String> {
        succession::replaced_by(&self.notes.ours()).map(str::to_owned)
    }

    /// Up to where it was read then.
    pub(super) fn kept(&self) -> Option<Kept> {
        succession::kept(&self.notes.ours())
    }

    /// What it says of the documents in it.
    pub(super) fn documents(&self) -> Option<Value> {
        self.notes.ours().get(mark::DOCUMENTS).cloned()
    }

    pub(super) fn given_mapping(&self) -> Option<Map<String, Value>> {
        succession::given_mapping(&self.notes.ours()).cloned()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.settings.get(BLOCK).and_then(Value::as_str) == Some("true")
    }

    /// How a field is mapped.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.mappings.get("properties")?.get(name)
    }

    /// Why the documents in it are not what the service has sent, where they may be others.
    pub(super) fn changes_documents(&self) -> Option<&'static str> {
        let is_pipeline = |name: &str| {
            let set = self.settings.get(name).and_then(Value::as_str);
            set.is_some_and(|pipeline| pipeline != "_none")
        };
        if PIPELINES.into_iter().any(is_pipeline) {
            return Some("an ingest pipeline changes them");
        }
        let is_partial = self.mappings.contains_key("_source")
            || self.settings.contains_key("index.mapping.source.mode");
        is_partial.then_some("it does not keep them as they were sent")
    }

    /// As [`found::preference`].
    pub(super) fn preference(&self) -> Option<(&'static str, &'static str)> {
        found::preference(&self.settings)
    }

    /// The settings of an index that is built in the place of this one.
    pub(super) fn settings_to_build(
        &self,
        config: &ElasticConfig,
        shape: &Shape,
    ) -> Map<String, Value> {
        let set = requests::settings(config, shape);
        // Of an analyzer that the configuration has, nothing is left of what it was.
        let analyses: Vec<&str> = set.keys().filter_map(|name| analysis(name)).collect();
        // Those of another product serve its documents: pipelines, life cycles, sort orders.
        let is_taken_over = |name: &str| {
            !self.is_plain
                && !OF_SERVICE.contains(&name)
                && !NOT_TAKEN_OVER.iter().any(|not| name.starts_with(not))
                && !analysis(name).is_some_and(|of| analyses.contains(&of))
        };
        let mut settings: Map<String, Value> = self
            .settings
            .iter()
            .filter(|(name, _)| is_taken_over(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        settings.extend(set);
        settings.insert("index.refresh_interval".to_owned(), "-1".into());
        settings.insert("index.number_of_replicas".to_owned(), 0.into());
        settings
    }

    /// What is set behind that, as this one has it.
    pub(super) fn settings_to_serve(&self) -> Value {
        let of = |name: &str| {
            let value = self.settings.get(name).cloned();
            (name.to_owned(), value.unwrap_or_default())
        };
        Value::Object(OF_SERVICE.into_iter().map(of).collect())
    }

    /// Whether searches find copies of this one elsewhere.
    pub(super) fn has_replicas(&self) -> bool {
        let set = |name: &str| self.settings.get(name).and_then(Value::as_str);
        set("index.number_of_replicas").is_some_and(|replicas| replicas != "0")
            || set("index.auto_expand_replicas").is_some_and(|expand| expand != "false")
    }

    /// The actions that give `to` all aliases of this one, `alias` with the writes. An index of that name goes with them.
    pub(super) fn hand_over_aliases(&self, to: &str, alias: &str) -> Vec<Value> {
        let removed = |name: &str| json!({"remove": {"index": self.name, "alias": name}});
        let let_go = match self.is_plain {
            true => json!({"remove_index": {"index": self.name}}),
            false => removed(alias),
        };
        let mut actions = vec![requests::written_by(to, alias), let_go];
        let others = self
            .aliases
            .iter()
            .filter(|(name, _)| *name != alias && !name.contains("~~"));
        for (name, properties) in others {
            let mut added = properties.as_object().cloned().unwrap_or_default();
            added.insert("index".to_owned(), to.into());
            added.insert("alias".to_owned(), name.as_str().into());
            actions.push(json!({ "add": added }));
            actions.extend((!self.is_plain).then(|| removed(name)));
        }
        actions
    }
}

fn is_restored(index: &Value) -> bool {
    let object = |path: &str| index.pointer(path).and_then(Value::as_object);
    let noted = object("/mappings/properties").and_then(Identity::noted);
    let settings = object("/settings").cloned().unwrap_or_default();
    mark::has_come_back(noted.as_ref(), Identity::told(index).as_ref(), &settings)
}

/// Which analyzer, filter and the like a setting is of: `index.analysis.analyzer.name`.
fn analysis(setting: &str) -> Option<&str> {
    let inside = setting.strip_prefix("index.analysis.")?;
    let (kind, rest) = inside.split_once('.')?;
    let (name, _) = rest.split_once('.')?;
    setting.get(..setting.len() - inside.len() + kind.len() + 1 + name.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Standing;
    use crate::config::ElasticConfig;
    use crate::shape::Shape;

    fn index() -> Value {
        json!({
            "aliases": {"t": {"is_write_index": true}, "mine": {"filter": {"term": {"a": 1}}}, "t~~0": {}},
            "mappings": {"_meta": {"tributary": {"topic": "T"}}},
            "settings": {
                "index.uuid": "u", "index.version.created": "1", "index.number_of_shards": "1", "index.blocks.write": "true",
                "index.max_result_window": "50000", "index.number_of_replicas": "2",
                "index.analysis.analyzer.a.type": "custom", "index.analysis.analyzer.a.tokenizer": "standard",
                "index.analysis.filter.a.type": "stop",
            },
        })
    }

    fn standing() -> Standing {
        Standing::of("t-000001", &index(), "T").unwrap()
    }

    #[test]
    fn settings_of_somebody_are_taken_over_and_those_of_one_index_are_not() {
        let config: ElasticConfig = toml::from_str(
            "url = \"http://s:1\"\nnumber_of_shards = 3\n[[documents]]\ntopics = [\"T\"]\nsettings.analysis.analyzer.a.type = \"simple\"",
        )
        .unwrap();
        let shape = Shape::of(&config, "T");
        let built = Value::Object(standing().settings_to_build(&config, &shape));
        assert_eq!(
            built,
            json!({
                "index.max_result_window": "50000", "index.number_of_shards": 3, "index.gc_deletes": "1h",
                "index.refresh_interval": "-1", "index.number_of_replicas": 0,
                "index.analysis.analyzer.a.type": "simple", "index.analysis.filter.a.type": "stop",
            })
        );
        assert_eq!(
            standing().settings_to_serve(),
            json!({"index.refresh_interval": null, "index.number_of_replicas": "2", "index.auto_expand_replicas": null})
        );
        assert!(standing().has_replicas() && standing().is_blocked());
    }

    #[test]
    fn all_aliases_are_handed_over_but_those_of_reindexes() {
        assert_eq!(
            standing().hand_over_aliases("t-000002", "t"),
            [
                json!({"add": {"index": "t-000002", "alias": "t", "is_write_index": true}}),
                json!({"remove": {"index": "t-000001", "alias": "t"}}),
                json!({"add": {"index": "t-000002", "alias": "mine", "filter": {"term": {"a": 1}}}}),
                json!({"remove": {"index": "t-000001", "alias": "mine"}}),
            ]
        );
    }

    #[test]
    fn of_another_products_index_its_aliases_and_copies_are_taken_over_and_it_goes_with_the_move() {
        let mut index = index();
        index["mappings"] = json!({});
        let plain = Standing::plain("t", &index);
        let config: ElasticConfig = toml::from_str("url = \"http://s:1\"").unwrap();
        let built = plain.settings_to_build(&config, &Shape::of(&config, "T"));
        assert!(!built.contains_key("index.max_result_window"), "{built:?}");
        assert_eq!(plain.settings_to_serve()["index.number_of_replicas"], "2");
        assert_eq!(
            plain.hand_over_aliases("t-000001", "t"),
            [
                json!({"add": {"index": "t-000001", "alias": "t", "is_write_index": true}}),
                json!({"remove_index": {"index": "t"}}),
                json!({"add": {"index": "t-000001", "alias": "mine", "filter": {"term": {"a": 1}}}}),
            ]
        );
    }
}
