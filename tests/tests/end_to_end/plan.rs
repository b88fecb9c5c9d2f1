//! `plan` of the sinks: it changes nothing, and what it says is what the sink then does.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);
const OK: i32 = 0;
const PROBLEMS: i32 = 3;
const TABLES: &str = "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('well'); \
    CREATE TABLE s.keyed (id bigint, \"a b\" text, price numeric(10,2), mood s.mood, tags text[], at timestamptz, doc jsonb, \
    PRIMARY KEY (id, \"a b\")); \
    CREATE TABLE s.keyless (a int, b text); \
    INSERT INTO s.keyed VALUES (1, 'x', 1.5, 'well', '{p,q}', now(), '{}')";
/// All that a database has of schemas, tables, columns and keys.
const CATALOG: &str = "SELECT n.nspname || ' ' || coalesce(c.relname, '') || ' ' || coalesce(a.attnum || ' ' || a.attname || ' ' || \
    format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull, '') || ' ' || coalesce(pg_get_constraintdef(k.oid), '') \
    FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r' \
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p' \
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

struct Scene {
    stack: Stack,
    pipeline: Pipeline,
    client: Client,
    source: Service,
    warehouse: Client,
}

impl Scene {
    /// The source has published its tables.
    async fn new(name: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let config = format!("on_gap = \"resnapshot\"\n{}", pipeline.source_config());
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
        Self {
            warehouse: pipeline.warehouse().await.unwrap(),
            stack,
            client,
            source,
            pipeline,
        }
    }

    fn sink(&self, kind: Kind, head: &str) -> Service {
        let config = self.pipeline.sink_config(kind);
        let config = format!("{head}{config}");
        self.pipeline
            .service(kind, &kind.to_string(), &config)
            .unwrap()
    }

    /// What the plan says, which changes nothing.
    async fn plan(&self, sink: &Service) -> (i32, Value) {
        let before = self.state(sink).await;
        let (code, text, errors) = sink.command(&["plan"]).unwrap();
        let (same, json, _) = sink.command(&["plan", "--output", "json"]).unwrap();
        assert_eq!(self.state(sink).await, before, "{text}");
        assert_eq!(code, same, "{text}{errors}");
        let plan: Value = serde_json::from_str(&json).unwrap();
        for topic in plan["topics"].as_array().unwrap() {
            let name = topic["topic"].as_str().unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("topic {name} ")));
            let says_it_fits = line.unwrap().ends_with(": fits");
            assert_eq!(json!(says_it_fits), topic["fits"], "{text}");
        }
        (code, plan)
    }

    /// Both targets, and the sink's group.
    async fn state(&self, sink: &Service) -> (Vec<String>, Value, Vec<String>) {
        let mut catalog = catalog(&self.warehouse).await;
        if catalog.iter().any(|line| line.starts_with("_tributary ")) {
            let ledger = "SELECT l::text FROM _tributary._tributary_ledger l ORDER BY 1";
            let rows = self.warehouse.query(ledger, &[]).await.unwrap();
            catalog.extend(rows.iter().map(|row| row.get(0)));
        }
        let indices = self.answer("?flat_settings=true").await;
        let kafka: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka())
            .create()
            .unwrap();
        let group = self.pipeline.group(sink.kind());
        let groups = kafka.fetch_group_list(Some(&group), PATIENCE).unwrap();
        let groups = groups.groups().iter();
        let groups = groups.map(|group| format!("{} {}", group.name(), group.state()));
        (catalog, indices, groups.collect())
    }

    /// All indices of this pipeline.
    async fn answer(&self, query: &str) -> Value {
        let url = format!(
            "{}/{}*{query}",
            self.stack.search_url(),
            self.pipeline.prefix()
        );
        let answer = http::client().get(url).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Runs the sink until its target is equal.
    async fn run(&self, sink: &mut Service) {
        sink.start().unwrap();
        let begun = Instant::now();
        let tables = ["s.keyed"];
        loop {
            let found = match sink.kind() {
                Kind::SinkElastic => self.pipeline.search_differences(&tables, "").await,
                _ => self.pipeline.warehouse_differences(&tables, None).await,
            };
            let (_, plan, _) = sink.command(&["plan", "--output", "json"]).unwrap();
            let plan: Value = serde_json::from_str(&plan).unwrap();
            // A table without rows has its target too.
            if found.as_ref().is_ok_and(Vec::is_empty) && fits(&plan) {
                break;
            }
            let waited = begun.elapsed();
            assert!(waited < PATIENCE, "{found:?} {plan}\n{}", sink.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(sink.stop(PATIENCE).unwrap().success());
    }

    async fn change(&mut self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
        let waited = self.pipeline.wait_source(&mut self.source, PATIENCE).await;
        waited.unwrap();
    }
}

async fn catalog(database: &Client) -> Vec<String> {
    let rows = database.query(CATALOG, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn fits(plan: &Value) -> bool {
    let topics = plan["topics"].as_array().unwrap();
    let none = json!([]);
    !topics.is_empty()
        && plan["common"] == none
        && topics
            .iter()
            .all(|topic| topic["fits"] == true && topic["steps"] == none)
}

/// The steps of the plan, in their order.
fn steps(plan: &Value) -> Vec<Value> {
    let topics = plan["topics"].as_array().unwrap().iter();
    let steps = topics.flat_map(|topic| topic["steps"].as_array().unwrap());
    plan["common"]
        .as_array()
        .unwrap()
        .iter()
        .chain(steps)
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_warehouse_sink_plans_is_what_it_makes() {
    let mut scene = Scene::new("plan_warehouse").await;
    let mut sink = scene.sink(Kind::SinkRedshift, "");
    let (code, plan) = scene.plan(&sink).await;
    assert_eq!(code, OK);
    // By hand, in a database without anything.
    let by_hand = format!("{}_by_hand", scene.pipeline.prefix());
    let make = format!("CREATE DATABASE {by_hand}");
    scene.client.batch_execute(&make).await.unwrap();
    let (server, _) = scene.pipeline.warehouse_url.rsplit_once('/').unwrap();
    let other = shop::connect(&format!("{server}/{by_hand}")).await.unwrap();
    for statement in steps(&plan) {
        other
            .batch_execute(statement.as_str().unwrap())
            .await
            .unwrap();
    }
    scene.run(&mut sink).await;
    let made = catalog(&scene.warehouse).await;
    assert_eq!(catalog(&other).await, made);
    assert!(
        made.iter()
            .any(|line| line.starts_with("s keyless 4 _tributary_offset"))
    );
    let (code, plan) = scene.plan(&sink).await;
    assert!(code == OK && fits(&plan), "{plan}");

    let alter = "ALTER TABLE s.keyed ADD COLUMN extra int; UPDATE s.keyed SET extra = 7";
    scene.change(alter).await;
    let (_, plan) = scene.plan(&sink).await;
    let add = r#"ALTER TABLE "s"."keyed" ADD COLUMN "extra" integer"#;
    assert_eq!(steps(&plan), [json!(add)], "{plan}");
    other.batch_execute(add).await.unwrap();
    scene.run(&mut sink).await;
    assert_eq!(catalog(&other).await, catalog(&scene.warehouse).await);

    // What the sink would not do is not planned.
    let alter = "ALTER TABLE s.keyed ALTER COLUMN extra TYPE date USING NULL";
    scene.warehouse.batch_execute(alter).await.unwrap();
    let (code, plan) = scene.plan(&sink).await;
    let problem = plan["problems"][0].to_string();
    assert!(
        code == PROBLEMS && problem.contains("the records need integer"),
        "{plan}"
    );
    drop(other);
    let drop = format!("DROP DATABASE {by_hand} WITH (FORCE)");
    scene.client.batch_execute(&drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_search_sink_plans_is_what_it_makes() {
    let mut scene = Scene::new("plan_search").await;
    let mut sink = scene.sink(Kind::SinkElastic, "");
    let (code, plan) = scene.plan(&sink).await;
    assert_eq!(code, OK);
    let planned = steps(&plan);
    assert_eq!(planned.len(), 2, "{plan}");
    scene.run(&mut sink).await;
    let made = scene.answer("?flat_settings=true").await;
    assert_eq!(made.as_object().unwrap().len(), 2, "{made}");
    for step in &planned {
        let index = &made[step["path"].as_str().unwrap().trim_start_matches('/')];
        let mut wanted = step["body"].clone();
        let mut found = index["mappings"].clone();
        // What the partitions have noted since, and what is another one each time.
        let fields = found["properties"].as_object_mut().unwrap();
        fields.retain(|name, _| !name.starts_with("_tributary_p") && name != "_tributary_index");
        found["dynamic"] = json!(false);
        for mapping in [&mut wanted["mappings"], &mut found] {
            mapping["_meta"]["tributary"]["generation"] = Value::Null;
        }
        assert_eq!(found, wanted["mappings"]);
        assert_eq!(index["aliases"], wanted["aliases"]);
        for (name, value) in wanted["settings"].as_object().unwrap() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(index["settings"][name], value, "{name}");
        }
    }
    let (code, plan) = scene.plan(&sink).await;
    assert!(code == OK && fits(&plan), "{plan}");

    let alter = "ALTER TABLE s.keyed ADD COLUMN extra int; UPDATE s.keyed SET extra = 7";
    scene.change(alter).await;
    let (_, plan) = scene.plan(&sink).await;
    let index = format!("{}-000001", scene.pipeline.topic("s.keyed"));
    let extra = json!({"type": "integer", "ignore_malformed": true});
    let add = json!({"method": "PUT", "path": format!("/{index}/_mapping"), "body": {"properties": {"extra": extra}}});
    assert_eq!(steps(&plan), [add], "{plan}");
    scene.run(&mut sink).await;
    let made = scene.answer("?flat_settings=true").await;
    assert_eq!(made[&index]["mappings"]["properties"]["extra"], extra);

    // A setting that the sink would set back.
    let url = format!("{}/{index}/_settings", scene.stack.search_url());
    let settings = json!({"index.gc_deletes": "60s"});
    let set = http::client()
        .put(url)
        .json(&settings)
        .send()
        .await
        .unwrap();
    set.error_for_status().unwrap();
    let (_, plan) = scene.plan(&sink).await;
    let body = json!({"index.gc_deletes": "1h"});
    assert_eq!(steps(&plan)[0]["body"], body, "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_fit_its_log_is_not_planned_but_said() {
    let mut scene = Scene::new("plan_unfit").await;
    for kind in [Kind::SinkElastic, Kind::SinkRedshift] {
        let mut sink = scene.sink(kind, "");
        scene.run(&mut sink).await;
    }
    assert!(scene.source.stop(PATIENCE).unwrap().success());
    let topic = scene.pipeline.topic("s.keyed");
    scene.pipeline.delete_topic(&topic).await.unwrap();
    scene.source.start().unwrap();
    scene.source.wait_ready(PATIENCE).unwrap();
    scene.change("").await;
    for kind in [Kind::SinkElastic, Kind::SinkRedshift] {
        let mut sink = scene.sink(kind, "");
        let (code, plan) = scene.plan(&sink).await;
        let problem = &plan["problems"][0];
        assert_eq!((code, steps(&plan).len()), (PROBLEMS, 0), "{plan}");
        // As `run` says it.
        sink.start().unwrap();
        assert!(!sink.wait(PATIENCE).unwrap().success());
        for text in ["what", "remedy"] {
            let text = problem[text].as_str().unwrap();
            let log = sink.log().replace("\\\"", "\"");
            assert!(log.contains(text), "{text}\n{}", sink.log_tail());
        }
        let mut sink = scene.sink(kind, "on_unfit_target = \"rebuild\"\n");
        let before = scene.answer("").await;
        let (code, plan) = scene.plan(&sink).await;
        let steps = steps(&plan);
        assert_eq!(code, OK, "{plan}");
        match kind {
            Kind::SinkElastic => {
                assert_eq!(steps.len(), 2, "{plan}");
                assert_eq!(steps[0]["method"], "DELETE");
                assert_eq!(steps[1]["path"], format!("/{topic}-000001"));
            }
            _ => assert_eq!(steps, [json!(r#"TRUNCATE TABLE "s"."keyed""#)]),
        }
        scene.run(&mut sink).await;
        if kind == Kind::SinkElastic {
            let (index, made) = (format!("{topic}-000001"), scene.answer("").await);
            assert!(made[&index] != before[&index], "{made}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_missing_and_one_without_schemas_are_said() {
    let scene = Scene::new("plan_nothing").await;
    let topic = scene.pipeline.topic("s.unknown");
    scene.pipeline.create_topic(&topic, 1).await.unwrap();
    for kind in [Kind::SinkElastic, Kind::SinkRedshift] {
        let config = scene.pipeline.sink_config(kind);
        let all = format!("[\"{}.*\"]", scene.pipeline.prefix());
        let two = format!("[\"{topic}\", \"{topic}.no\"]");
        let config = config.replacen(&all, &two, 1);
        let sink = scene.pipeline.service(kind, "two", &config).unwrap();
        let (code, plan) = scene.plan(&sink).await;
        assert_eq!(
            (code, plan["topics"].as_array().unwrap().len()),
            (PROBLEMS, 1)
        );
        let problem = plan["problems"][0]["what"].as_str().unwrap();
        assert_eq!(problem, format!("there is no topic '{topic}.no' in Kafka"));
        let found = &plan["topics"][0];
        let note = found["notes"][0]["what"].as_str().unwrap();
        assert!(note.contains("the first record makes its target"), "{plan}");
        assert_eq!(
            (&found["fits"], &found["steps"]),
            (&json!(false), &json!([]))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_topics_for_one_table_are_said() {
    let scene = Scene::new("plan_two").await;
    let topics = ["a.t", "b.t"].map(|table| scene.pipeline.topic(table));
    for topic in &topics {
        scene.pipeline.create_topic(topic, 1).await.unwrap();
    }
    let group = scene.pipeline.group(Kind::SinkRedshift);
    let config = scene.pipeline.redshift_config(&group, Some("one"));
    let sink = scene.pipeline.service(Kind::SinkRedshift, "one", &config);
    let (code, plan) = scene.plan(&sink.unwrap()).await;
    let problem = plan["problems"][0]["what"].as_str().unwrap();
    let two = format!(
        "\"one\".\"t\" would be kept from two topics, '{}' and '{}'",
        topics[0], topics[1]
    );
    assert_eq!((code, problem), (PROBLEMS, two.as_str()), "{plan}");
}
