//! The id of the key's schema is in every key: it outlives the registry, or the source says why it does not.

use serde_json::{Value, json};
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::stack::{Lifetime, Options, Part, Stack};

use super::gaps::{change, stopped_source, stops_with};
use super::{PATIENCE, TABLE, fold, records, start_source, table};

/// A registry's Confluent API.
struct Registry(String);

impl Registry {
    async fn ask(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn versions(&self, subject: &str) -> String {
        format!("{}/subjects/{subject}/versions", self.0)
    }

    /// Registers a text; its id.
    async fn register(&self, subject: &str, text: &str) -> u64 {
        let request = http::client().post(self.versions(subject));
        let answer = self.ask(request.json(&json!({"schema": text}))).await;
        answer["id"].as_u64().unwrap()
    }

    /// The id and the text of a subject's newest version.
    async fn latest(&self, subject: &str) -> (u64, String) {
        let url = format!("{}/latest", self.versions(subject));
        let answer = self.ask(http::client().get(url)).await;
        let text = answer["schema"].as_str().unwrap();
        (answer["id"].as_u64().unwrap(), text.to_owned())
    }

    async fn delete(&self, subject: &str) {
        let url = format!("{}/subjects/{subject}", self.0);
        self.ask(http::client().delete(url)).await;
    }

    /// Deletes a version for good. One that is deleted softly still answers for its text.
    async fn delete_version(&self, subject: &str, version: u32) {
        let url = format!("{}/{version}", self.versions(subject));
        self.ask(http::client().delete(&url)).await;
        self.ask(http::client().delete(format!("{url}?permanent=true")))
            .await;
    }

    /// Lets a version count again that was deleted, by Apicurio's own API.
    async fn enable(&self, subject: &str, version: u32) {
        let base = self.0.strip_suffix("/ccompat/v7").unwrap();
        let url = format!(
            "{base}/registry/v3/groups/default/artifacts/{subject}/versions/{version}/state"
        );
        let request = http::client().put(url).json(&json!({"state": "ENABLED"}));
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success(),
            "{status}: {}",
            answer.text().await.unwrap()
        );
    }
}

fn key_subject(pipeline: &Pipeline) -> String {
    format!("{}-key", pipeline.topic("s.t"))
}

/// The source goes on, under the same keys: each row once, and so many changes that were `unread`.
async fn goes_on(
    pipeline: &Pipeline,
    client: &tokio_postgres::Client,
    (round, unread): (i32, usize),
) {
    let before = records(pipeline).await.len();
    let mut source = start_source(pipeline, "goes_on", "");
    source.wait_ready(PATIENCE).unwrap();
    change(client, round).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(source.stop(PATIENCE).unwrap().success());
    let records = records(pipeline).await;
    assert_eq!(fold(&records), table(client).await);
    // An insert, an update, a delete and its tombstone: nothing was read again.
    assert_eq!(records.len(), before + 4 * (unread + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_schema_id_says_what_happened() {
    let stack = Stack::from_env().unwrap();
    let registry = Registry(stack.registry_url().to_owned());
    let (pipeline, client) = stopped_source(&stack, "key_type").await;
    let (id, text) = registry.latest(&key_subject(&pipeline)).await;
    let alter = "ALTER TABLE s.t ALTER id TYPE bigint";
    client.batch_execute(alter).await.unwrap();
    change(&client, 2).await;
    let was = format!("another id, it was {id} before: the text has changed");
    stops_with(&pipeline, &[&was, "different keys", "undo the change"]);

    // Somebody else, who writes the same schema with spaces, was there first.
    let mut other = Pipeline::new(&stack, "key_deleted").await.unwrap();
    other.tables = vec!["s.*".to_owned()];
    let subject = key_subject(&other);
    let text = text.replace(pipeline.prefix(), other.prefix());
    let theirs = registry.register(&subject, &text.replace(':', ": ")).await;
    let client = other.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    let mut source = start_source(&other, "source", "");
    // The rows that are there are in the log.
    source.wait_ready(PATIENCE).unwrap();
    other.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(source.stop(PATIENCE).unwrap().success());
    let ours = registry.register(&subject, &text).await;
    registry.delete(&subject).await;
    if ours == theirs {
        // Apicurio 3.3 takes both for one, as long as the first is there.
        change(&client, 2).await;
        let was = format!(
            "another id, it was {theirs} before: the subject's version with that id was deleted"
        );
        stops_with(
            &other,
            &[&was, "different keys", "set its state to ENABLED"],
        );
        // What it says to do is enough.
        registry.enable(&subject, 1).await;
        registry.delete_version(&subject, 2).await;
        goes_on(&other, &client, (3, 1)).await;
    } else {
        // Apicurio 2.6 goes by the text, and the text has its id for ever.
        goes_on(&other, &client, (2, 0)).await;
    }
}

fn owned(parts: &[Part], registry: &str) -> Options {
    Options {
        parts: parts.to_vec(),
        registry: Some(registry.to_owned()),
        lifetime: Lifetime::Owned,
        ..Options::default()
    }
}

/// In place the newer one refuses the older one's store. What it imports of an export keeps its ids.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute, and both lines of the registry: make test-long"]
async fn key_schema_id_survives_the_registrys_upgrade() {
    let dir = |name: &str| {
        let prefix = format!("registry-{name}-");
        tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(tributary_tests::target_dir())
            .unwrap()
    };
    let (old_dir, new_dir) = (dir("old"), dir("new"));
    let parts = [Part::Postgres, Part::Kafka, Part::Registry];
    let old = Stack::up(old_dir.path(), &owned(&parts, "2.6")).unwrap();
    // An id that is not one of ours comes first.
    let before = Registry(old.registry_url().to_owned());
    before
        .register("other", r#"{"type": "fixed", "name": "F", "size": 9}"#)
        .await;
    let (mut pipeline, client) = stopped_source(&old, "key_upgrade").await;
    let subject = key_subject(&pipeline);
    let known = before.latest(&subject).await;

    let new = Stack::up(new_dir.path(), &owned(&[Part::Registry], "3.3")).unwrap();
    let api = |url: &str, path: &str| {
        let base = url.strip_suffix("/ccompat/v7").unwrap();
        format!("{base}/registry/{path}")
    };
    let http = http::client();
    let export = http
        .get(api(old.registry_url(), "v2/admin/export"))
        .header("accept", "application/zip");
    let export = export.send().await.unwrap().error_for_status().unwrap();
    let import = http
        .post(api(new.registry_url(), "v3/admin/import"))
        .header("content-type", "application/zip")
        .body(export.bytes().await.unwrap());
    import.send().await.unwrap().error_for_status().unwrap();
    old.stop(Part::Registry).unwrap();

    let after = Registry(new.registry_url().to_owned());
    assert_eq!(after.latest(&subject).await.0, known.0);
    pipeline.registry = new.registry_url().to_owned();
    goes_on(&pipeline, &client, (2, 0)).await;
    // A text that is equal to the byte has its own id, as before.
    assert_eq!(after.register(&subject, &known.1).await, known.0);
}
