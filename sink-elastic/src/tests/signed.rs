//! Requests that are signed for AWS, behind a gate that lets no others in.

use axum::Router;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tributary_runtime::{Error, Policy};
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, delete, listen, record_type, text_key, upsert};
use super::gate::Gate;
use super::sigv4::{Come, Lock};
use crate::check;
use crate::client::{Client, Content, Reply};
use crate::config::{Compression, Config, ElasticConfig};
use crate::lane::Elastic;

pub(super) const ID: &str = "AKIDEXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "hush//////////+token==";

pub(super) fn lock(id: &str, token: Option<&str>, service: &str) -> Lock {
    Lock {
        id: id.to_owned(),
        secret: SECRET.to_owned(),
        token: token.map(str::to_owned),
        region: "eu-central-1".to_owned(),
        service: service.to_owned(),
    }
}

/// The configuration as the service reads it.
pub(super) fn config(url: &str, aws: &str) -> Config {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "name = \"s\"\ntopics = [\"shop.t\"]\n[kafka]\nbrokers = [\"kafka:9092\"]\nregistry = \"http://registry:8081\"\n\
         [elasticsearch]\nurl = \"{url}\"\nrequest_timeout_ms = 120000\nnumber_of_replicas = 0\n\
         [elasticsearch.aws]\nregion = \"eu-central-1\"\n{aws}"
    );
    std::fs::write(file.path(), text).unwrap();
    tributary_runtime::config::load(file.path(), "TEST", []).unwrap()
}

fn given() -> String {
    format!(
        "access_key_id = \"{ID}\"\nsecret_access_key = \"{SECRET}\"\nsession_token = \"{TOKEN}\"\n"
    )
}

async fn ask(config: &ElasticConfig) -> Result<StatusCode, Error> {
    let client = Client::new(config).unwrap();
    version(&client).await
}

pub(super) async fn version(client: &Client) -> Result<StatusCode, Error> {
    let reply = client.send(Method::GET, &[], &[], Content::Nothing).await;
    reply.map(|reply| reply.status)
}

#[tokio::test]
async fn every_request_of_the_sink_is_signed() {
    let key = text_key();
    let row = record_type(&[("text", FieldType::String)]);
    let ids = ["a/b", "naïve 🦀 %2F+?&=#", "*~'\"\\", "..", "a\nb", " "];
    for (service, compression) in [("es", Compression::None), ("aoss", Compression::Gzip)] {
        let gate = Gate::start(lock(ID, Some(TOKEN), service)).await;
        let mut fixture = Fixture::new();
        let aws = format!("service = \"{service}\"\n{}", given());
        let mut config = config(&gate.url, &aws);
        config.topics = vec![fixture.topic.clone()];
        config.elasticsearch.compression = compression;
        fixture.config = config.elasticsearch.clone();
        fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();

        let writer = fixture.writer().await;
        let text = "naïve 🦀 ".repeat(1000);
        let values = [Datum::Str(&text)];
        let rows = (1..)
            .zip(ids)
            .map(|(seq, id)| upsert(1, seq, (&key, Datum::Str(id)), (&row, &values)));
        writer.put(rows).await.unwrap();
        let gone = delete(7, 7, (&key, Datum::Str(ids[0])));
        writer.put([gone].into_iter()).await.unwrap();
        // Searches, scrolls, and deletes.
        assert!(fixture.documents().await.len() == ids.len() - 1);
        writer.sweep_all(3).await.unwrap();
        let left = fixture.ids().await;
        assert_eq!(left, &ids[2..]);

        let problems = check::engine(&config).await;
        assert_eq!(problems, []);
        assert_eq!(gate.refused(), [""; 0]);
        let let_in = gate.let_in();
        for request in ["GET /", "GET /_cluster/health", "/_bulk", "/_search"] {
            assert!(
                let_in.iter().any(|let_in| let_in.ends_with(request)),
                "{request}: {let_in:?}"
            );
        }
        fixture.finish().await;
    }
}

/// An alias may lead to an index of a name that the sink would not give one.
#[tokio::test]
async fn names_of_all_kinds_are_signed_as_they_are_sent() {
    let gate = Gate::start(lock(ID, Some(TOKEN), "es")).await;
    let config = config(&gate.url, &given()).elasticsearch;
    let client = Client::new(&config).unwrap();
    let fixture = Fixture::new();
    for (number, name) in ["größe-50%-%2f", "a+b@(!$&';=)", "~c^[]{}`🦀"]
        .iter()
        .enumerate()
    {
        let index = format!("{}-{number}{name}", fixture.topic);
        let query = [
            ("filter_path", "acknowledged,*.a+b c~d"),
            ("timeout", "60s"),
        ];
        let made = client
            .send(Method::PUT, &[&index], &query, Content::Json(json!({})))
            .await
            .unwrap();
        assert_eq!(made.status, 200, "{index}: {made:?}");
        let path = [&*index, "_doc", "a/b %2F+ü"];
        let written = client
            .send(Method::PUT, &path, &[], Content::Json(json!({})))
            .await
            .unwrap();
        assert_eq!(written.status, 201, "{index}: {written:?}");
        let gone = client
            .send(Method::DELETE, &[&index], &[], Content::Nothing)
            .await
            .unwrap();
        assert_eq!(gone.status, 200, "{index}: {gone:?}");
    }
    // There is no index of the second name, nor can there be.
    for (name, status) in [
        (format!("{}*", fixture.topic), 200),
        ("a|b<c>\\\"#? ".to_owned(), 404),
    ] {
        let counted = client
            .send(Method::GET, &[&name, "_count"], &[], Content::Nothing)
            .await
            .unwrap();
        assert_eq!(counted.status, status, "{name}: {counted:?}");
    }
    assert_eq!(gate.refused(), [""; 0]);
}

const MISMATCH: &str =
    "refuses the signature (403 (The request signature we calculated does not match";

async fn write(client: &Client) -> Result<Reply, Error> {
    let content = Content::Lines("{\"delete\":{\"_id\":\"a\"}}\n".into());
    let query = [("require_alias", "true")];
    client
        .send(Method::POST, &["test.t", "_bulk"], &query, content)
        .await
}

#[tokio::test]
async fn what_is_changed_on_the_way_is_refused() {
    let gate = Gate::start(lock(ID, Some(TOKEN), "es")).await;
    let client = Client::new(&config(&gate.url, &given()).elasticsearch).unwrap();
    let planted: [fn(&mut Come); 6] = [
        |come| come.body[3] ^= 1,
        |come| come.path = "/test.u/_bulk".to_owned(),
        |come| come.query = "require_alias=false".to_owned(),
        |come| come.method = "PUT".to_owned(),
        |come| set(come, "content-type", "text/plain"),
        |come| set(come, "host", "elsewhere"),
    ];
    for tampering in planted {
        gate.tamper(tampering);
        let error = write(&client).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(MISMATCH), "{text}");
        assert_eq!(error.policy(), Policy::Stop, "{text}");
        // The gate says what it would have signed, behind the first line.
        assert!(!text.contains("hush"), "{text}");
    }
    assert_eq!(gate.refused().len(), planted.len());
}

#[tokio::test]
async fn a_wrong_clock_is_waited_for_and_wrong_keys_stop_the_service() {
    let gate = Gate::start(lock(ID, Some(TOKEN), "es")).await;
    let client = Client::new(&config(&gate.url, &given()).elasticsearch).unwrap();
    for (ahead, said) in [
        (360, "Signature expired"),
        (-360, "Signature not yet current"),
    ] {
        gate.set_ahead(ahead);
        let error = write(&client).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said), "{text}");
        assert!(text.contains("set this machine's clock"), "{text}");
        assert_eq!(error.policy(), Policy::Retry);
    }
    gate.set_ahead(0);

    type Change = fn(&mut Lock);
    let wrong: [(Change, &str); 4] = [
        (|lock| lock.secret.push('x'), MISMATCH),
        (|lock| lock.region.push('x'), "is invalid"),
        (|lock| lock.service.push('x'), "is invalid"),
        (|lock| lock.token = Some("x".to_owned()), "is expired"),
    ];
    for (change, said) in wrong {
        let mut lock = lock(ID, Some(TOKEN), "es");
        change(&mut lock);
        gate.set_lock(lock);
        let error = write(&client).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said), "{text}");
        assert!(text.contains("correct elasticsearch.aws."), "{text}");
        assert_eq!(error.policy(), Policy::Stop, "{text}");
    }
    gate.set_lock(lock(ID, Some(TOKEN), "es"));
    assert_eq!(write(&client).await.unwrap().status, 200);
}

fn set(come: &mut Come, name: &str, value: &str) {
    let mut headers = come.headers.iter_mut();
    let header = headers.find(|(header, _)| header == name);
    value.clone_into(&mut header.unwrap().1);
}

#[tokio::test]
async fn keys_from_files_are_those_that_the_files_have_when_they_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |id: &str, token: &str| {
        for (name, text) in [("id", id), ("secret", SECRET), ("token", token)] {
            std::fs::write(file(name), text).unwrap();
        }
    };
    let gate = Gate::start(lock(ID, Some(TOKEN), "es")).await;
    write("AKIDOLD", "old");
    let aws = format!(
        "access_key_id_file = {:?}\nsecret_access_key_file = {:?}\nsession_token_file = {:?}\n",
        file("id"),
        file("secret"),
        file("token")
    );
    let client = Client::new(&config(&gate.url, &aws).elasticsearch).unwrap();
    // Whoever changes the keys may change the file a little later.
    let error = version(&client).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    write(ID, TOKEN);
    assert_eq!(version(&client).await.unwrap(), 200);
    assert_eq!(gate.refused().len(), 2);
}

/// What AWS' policies forbid is told in the service's words, and stops it; so does the engine behind, in its own.
#[tokio::test]
async fn what_policies_forbid_stops_the_service_with_their_words() {
    let answers = [
        (
            403,
            r#"{"Message":"User: arn:aws:iam::1:user/x is not authorized to perform: es:ESHttpGet"}"#,
            "is not authorized to perform: es:ESHttpGet",
        ),
        (
            403,
            r#"{"status":403,"error":{"reason":"403 Forbidden","type":"Forbidden"}}"#,
            "Forbidden",
        ),
        (
            403,
            r#"{"error":{"type":"security_exception","reason":"no permissions for [x]"}}"#,
            "no permissions for [x]",
        ),
    ];
    for (status, body, said) in answers {
        let url = answering(status, body).await;
        let error = ask(&config(&url, &given()).elasticsearch)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(said) && text.contains("policies of AWS"),
            "{text}"
        );
        assert_eq!(error.policy(), Policy::Stop);
    }
    // A request that OpenSearch Service does not have says nothing of the credentials.
    let url = answering(
        401,
        r#"{"Message":"Your request: '/_security' is not allowed."}"#,
    )
    .await;
    assert_eq!(
        ask(&config(&url, &given()).elasticsearch).await.unwrap(),
        401
    );
}

async fn answering(status: u16, body: &'static str) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    listen(Router::new().fallback(move || async move { (status, body) })).await
}
