//! `plan`: what `run` would make and change in the target, by the topics and the registry as they are now.

use std::collections::BTreeMap;

use clap::Command;
use serde_json::{Value, json};
use tributary_runtime::cli::{Answer, exit};
use tributary_runtime::registry::Registry;
use tributary_runtime::{Error, Policy, Problem, Result, ResultExt};

use crate::check::missing_topics;
use crate::cluster::{Cluster, TopicFacts};
use crate::config::{OnUnfitTarget, SinkConfig};
use crate::flow::form;
use crate::flow::plans::SchemaCache;
use crate::group::queries::Queries;
use crate::mark::{Known, Mark};
use crate::outlook::{Foresight, Intent, Needs, Outlook};
use crate::outside::now_ms;
use crate::topics::{Subscription, TopicPartition, table_of};
use crate::write::judge::{self, Case, Judgement};

/// The command's name.
pub const PLAN: &str = "plan";
/// What is said of a topic whose rows have no form yet.
const UNKNOWN_FORM: &str = "the registry has no schema of a table's changes for this topic: the first record makes its target";
/// In the place of what is another one each time.
const NEW_GENERATION: &str = "(a new one)";

/// For the command line.
pub(crate) fn definition() -> Command {
    Command::new(PLAN).about(
        "Prints what `run` would make and change in the target, topic by topic; changes nothing",
    )
}

/// Asks Kafka, the registry and the target, and says what is missing for the rows to come.
///
/// # Errors
/// Kafka, the registry or the target do not answer, or refuse.
pub async fn plan<T: Foresight>(config: SinkConfig, target: &T) -> Result<Answer> {
    let subscription =
        Subscription::new(&config.topics).map_err(|_| Error::stop_msg("`topics`"))?;
    let queries = Queries::new(&config)?;
    let topics = queries.topics(&subscription).await?;
    let names: Vec<&str> = topics.keys().map(String::as_str).collect();
    let mut plan = Summary::default();
    plan.problems.extend(missing_topics(&subscription, &names));
    plan.common(target.common().await?);
    let planner = Planner {
        schemas: SchemaCache::new(Registry::new(&config.kafka.registry)?),
        queries,
        config,
        target,
    };
    for topic in names {
        let prospect = planner.topic(topic).await;
        let prospect = prospect.doing(|| format!("plan topic {topic}"))?;
        plan.add(topic, prospect);
    }
    Ok(plan.answer())
}

struct Planner<'t, T> {
    config: SinkConfig,
    schemas: SchemaCache,
    queries: Queries,
    target: &'t T,
}

/// What becomes of a topic.
#[derive(Default)]
struct Prospect {
    target: String,
    /// Whether the form of its rows is known.
    has_form: bool,
    /// Why the target does not fit its log.
    unfit: Option<String>,
    needs: Needs,
    problem: Option<Problem>,
}

impl<T: Foresight> Planner<'_, T> {
    /// What stops the service is a problem of the topic; what may pass is this command's error.
    async fn topic(&self, topic: &str) -> Result<Prospect> {
        let mut prospect = Prospect::default();
        match self.look(topic, &mut prospect).await {
            Err(error) if error.policy() == Policy::Stop => {
                prospect.problem = Some(Problem::from(&error));
            }
            looked => looked?,
        }
        Ok(prospect)
    }

    async fn look(&self, topic: &str, prospect: &mut Prospect) -> Result<()> {
        let facts = self.queries.topic(topic).await?;
        let table = table_of(topic);
        let outlook = self.target.outlook(topic, &table).await?;
        prospect.target.clone_from(&outlook.target);
        prospect.unfit = self.unfit(topic, &facts, &outlook).await?;
        if let Some(reason) = &prospect.unfit
            && self.config.on_unfit_target == OnUnfitTarget::Stop
        {
            return Err(judge::unfit(reason.clone()));
        }
        let form = form::of_topic(&self.schemas, topic).await?;
        // As where a target without rows is made: a compacted topic has a key, whatever the registry knows yet.
        let is_compacted = facts.tombstones_live.is_some();
        let form = form.filter(|form| form.key_type.is_some() || !is_compacted);
        prospect.has_form = form.is_some();
        let mut mark = Mark::new(facts.id, facts.partitions);
        NEW_GENERATION.clone_into(&mut mark.generation);
        let is_rebuilt = prospect.unfit.is_some();
        let needs = self
            .target
            .needs(topic, &table, &mark, form.as_ref(), is_rebuilt);
        prospect.needs = needs.await?;
        Ok(())
    }

    /// Why the target does not fit its log, if it does not: judged as at the opening of each partition.
    async fn unfit(
        &self,
        topic: &str,
        facts: &TopicFacts,
        outlook: &Outlook,
    ) -> Result<Option<String>> {
        let mark = match &outlook.known {
            Known::Nothing => return Ok(None),
            Known::Unfit { reason, .. } => return Ok(Some(reason.clone())),
            Known::Marked(mark) => mark,
        };
        for number in 0..facts.partitions {
            let partition = TopicPartition {
                topic: topic.to_owned(),
                partition: number,
            };
            let stands_at = match &outlook.stands {
                Some(stands) => stands.get(&number).copied(),
                None => {
                    let committed = self.queries.committed(&partition).await?;
                    committed.and_then(|committed| committed.of(&mark.generation))
                }
            };
            let (low, high) = self.queries.log_of(&partition).await?;
            let case = Case {
                partition: &partition,
                facts,
                mark,
                stands_at,
                low,
                high,
                now_ms: now_ms(),
            };
            if let Judgement::Unfit(reason) = case.judge()? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }
}

/// What is said.
#[derive(Default)]
struct Summary {
    text: String,
    common: Vec<Value>,
    topics: Vec<Value>,
    problems: Vec<Problem>,
    /// What one topic's target makes is there for the next one: a schema.
    known: Vec<Intent>,
    /// Whose each target is.
    targets: BTreeMap<String, String>,
}

impl Summary {
    fn common(&mut self, steps: Vec<Intent>) {
        if !steps.is_empty() {
            self.say("for all topics:");
        }
        for step in steps {
            self.say(&format!("  {}", step.text));
            self.common.push(step.json.clone());
            self.known.push(step);
        }
    }

    /// One target has one topic. Of two that have not begun, none has it yet.
    fn claim(&mut self, topic: &str, prospect: &mut Prospect) {
        let target = &prospect.target;
        if target.is_empty() {
            return;
        }
        if let Some(first) = self.targets.get(target) {
            let two = Problem::new(format_args!(
                "{target} would be kept from two topics, '{first}' and '{topic}'"
            ));
            let two = two.remedy("leave one of the two topics to another service");
            prospect.problem.get_or_insert(two);
            prospect.needs = Needs::default();
        } else {
            self.targets.insert(target.clone(), topic.to_owned());
        }
    }

    fn add(&mut self, topic: &str, mut prospect: Prospect) {
        self.claim(topic, &mut prospect);
        let Needs {
            mut steps,
            mut notes,
        } = prospect.needs;
        steps.retain(|step| !self.known.contains(step));
        let fits = prospect.has_form && prospect.problem.is_none() && steps.is_empty();
        if !prospect.has_form && prospect.problem.is_none() {
            notes.push(Problem::note(UNKNOWN_FORM));
        }
        let end = if fits { " fits" } else { "" };
        self.say(&format!("topic {topic} -> {}:{end}", prospect.target));
        if let (Some(reason), None) = (&prospect.unfit, &prospect.problem) {
            self.say(&format!("  rebuild: {reason}"));
        }
        for step in &steps {
            self.say(&format!("  {}", step.text));
        }
        for note in &notes {
            self.say(&format!("  note: {note}"));
        }
        if let Some(problem) = &prospect.problem {
            self.say(&format!("  problem: {problem}"));
        }
        self.topics.push(json!({
            "topic": topic,
            "target": prospect.target,
            "fits": fits,
            "unfit": prospect.unfit,
            "steps": steps.iter().map(|step| &step.json).collect::<Vec<_>>(),
            "notes": notes,
            "problem": prospect.problem,
        }));
        self.problems.extend(prospect.problem);
        self.known.extend(steps);
    }

    fn say(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn answer(self) -> Answer {
        Answer {
            text: self.text,
            code: if self.problems.is_empty() {
                exit::OK
            } else {
                exit::PROBLEMS
            },
            json: json!({
                "common": self.common,
                "topics": self.topics,
                "problems": self.problems,
            }),
        }
    }
}
