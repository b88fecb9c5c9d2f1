//! Keys that AWS gives a container, a profile or the environment. Where they come from says the environment of a process: each of
//! these tests runs itself once more, in a process with another one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::json;
use tributary_runtime::Policy;

use super::fixture::listen;
use super::gate::Gate;
use super::signed::{ID, SECRET, config, lock, version};
use crate::client::Client;

/// In such a process: the gate's URL.
const INSIDE: &str = "TRIBUTARY_TEST_GATE";
const CONTAINER: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const PROFILES: &str = "AWS_SHARED_CREDENTIALS_FILE";
/// So long are keys good of which the sink is to see the end: for 10 s before that they are asked for again.
const GOOD_FOR: Duration = Duration::from_secs(12);

fn inside() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs a test of this file in a process of this environment.
async fn run(name: &'static str, gate: &str, variables: &[(&'static str, String)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("tests::roles::{name}"), "--nocapture"])
        .env_clear()
        .env(INSIDE, gate)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().cloned());
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = run.await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}\n{failed}"
    );
}

/// What gives a container its keys, other ones each time, of which the gate takes the newest alone.
struct Role {
    gate: Gate,
    asked: AtomicUsize,
}

impl Role {
    /// From now on only keys are taken that nobody has yet.
    fn expire(&self) {
        let next = self.asked.load(Ordering::SeqCst) + 1;
        self.gate
            .set_lock(lock(&format!("AKID{next}"), Some("t"), "es"));
    }
}

async fn keys(State(role): State<Arc<Role>>, headers: HeaderMap) -> String {
    assert_eq!(headers["authorization"], "let me in");
    role.expire();
    let number = role.asked.fetch_add(1, Ordering::SeqCst) + 1;
    let until = DateTime::from(SystemTime::now() + GOOD_FOR);
    json!({
        "AccessKeyId": format!("AKID{number}"),
        "SecretAccessKey": SECRET,
        "Token": "t",
        "Expiration": until.fmt(Format::DateTime).unwrap(),
    })
    .to_string()
}

#[tokio::test]
async fn keys_of_a_container_are_asked_for_before_they_expire_and_when_they_are_refused() {
    if let Some(gate) = inside() {
        return in_a_container(&gate).await;
    }
    let role = Arc::new(Role {
        gate: Gate::start(lock("none", None, "es")).await,
        asked: AtomicUsize::new(0),
    });
    let asked = |State(role): State<Arc<Role>>| async move {
        role.asked.load(Ordering::SeqCst).to_string()
    };
    let expire = |State(role): State<Arc<Role>>| async move { role.expire() };
    let router = Router::new()
        .route("/keys", get(keys))
        .route("/asked", get(asked))
        .route("/expire", get(expire));
    let url = listen(router.with_state(Arc::clone(&role))).await;
    let variables = [
        (CONTAINER, format!("{url}/keys")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in".to_owned()),
    ];
    run(
        "keys_of_a_container_are_asked_for_before_they_expire_and_when_they_are_refused",
        &role.gate.url,
        &variables,
    )
    .await;
    // That one for which the keys were taken away.
    assert_eq!(role.gate.refused().len(), 1);
    assert!(role.gate.let_in().len() > 3);
}

async fn in_a_container(gate: &str) {
    let client = Client::new(&config(gate, "").elasticsearch).unwrap();
    let role = std::env::var(CONTAINER).unwrap().replace("/keys", "");
    let tell = async |what: &str| {
        reqwest::get(format!("{role}/{what}"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    for _ in 0..2 {
        assert_eq!(version(&client).await.unwrap(), 200);
    }
    assert_eq!(tell("asked").await, "1");
    // None is refused meanwhile.
    let renewed = async {
        while tell("asked").await != "2" {
            assert_eq!(version(&client).await.unwrap(), 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GOOD_FOR, renewed).await.unwrap();
    tell("expire").await;
    assert_eq!(version(&client).await.unwrap(), 200);
    assert_eq!(tell("asked").await, "3");
}

#[tokio::test]
async fn keys_of_a_profile_are_those_that_its_file_has_when_they_are_refused() {
    if let Some(gate) = inside() {
        return with_a_profile(&gate).await;
    }
    let gate = Gate::start(lock(ID, None, "es")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials").display().to_string();
    run(
        "keys_of_a_profile_are_those_that_its_file_has_when_they_are_refused",
        &gate.url,
        // The profile goes before the environment's keys.
        &[
            (PROFILES, file),
            ("AWS_ACCESS_KEY_ID", "AKIDOTHER".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ],
    )
    .await;
    assert_eq!(gate.refused().len(), 2);
}

async fn with_a_profile(gate: &str) {
    let write = |id: &str| {
        let keys = format!("aws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n");
        std::fs::write(
            std::env::var(PROFILES).unwrap(),
            format!("[default]\n[search]\n{keys}"),
        )
        .unwrap();
    };
    write("AKIDOLD");
    let config = config(gate, "profile = \"search\"\n").elasticsearch;
    let client = Client::new(&config).unwrap();
    let error = version(&client).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    write(ID);
    assert_eq!(version(&client).await.unwrap(), 200);
}

#[tokio::test]
async fn keys_of_the_environment_sign_and_none_at_all_are_waited_for() {
    const NAME: &str = "keys_of_the_environment_sign_and_none_at_all_are_waited_for";
    if let Some(gate) = inside() {
        return in_an_environment(&gate).await;
    }
    let gate = Gate::start(lock(ID, Some("t"), "es")).await;
    let keys = [
        ("AWS_ACCESS_KEY_ID", ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "t"),
    ];
    run(
        NAME,
        &gate.url,
        &keys.map(|(name, value)| (name, value.to_owned())),
    )
    .await;
    assert_eq!(gate.let_in(), ["GET /"]);
    run(NAME, &gate.url, &[]).await;
    assert_eq!(gate.let_in(), [""; 0]);
    assert_eq!(gate.refused(), [""; 0]);
}

async fn in_an_environment(gate: &str) {
    let asked = version(&Client::new(&config(gate, "").elasticsearch).unwrap()).await;
    if std::env::var("AWS_ACCESS_KEY_ID").is_ok() {
        assert_eq!(asked.unwrap(), 200);
        return;
    }
    let error = asked.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    let text = error.to_string();
    assert!(
        text.contains("no keys of AWS from the environment, a profile or a role"),
        "{text}"
    );
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");

    let other = config(gate, "profile = \"search\"\n").elasticsearch;
    let text = version(&Client::new(&other).unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("the profile 'search'"), "{text}");
}
