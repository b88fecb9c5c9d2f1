//! Servers whose certificates are not as they should be, and what `check` says to each.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tributary_tests::certificates::{Authority, Issued};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::{Files, with};

/// All that `check` wants to know.
const ANSWER: &str =
    r#"{"version": {"number": "3.4.0", "distribution": "opensearch"}, "status": "green"}"#;

/// A server with this certificate on a port of `localhost`; with an authority it wants a client certificate from that one.
async fn server(
    identity: &Issued,
    clients: Option<&Authority>,
    version: &'static SupportedProtocolVersion,
) -> String {
    let builder = ServerConfig::builder_with_protocol_versions(&[version]);
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(authority.certificate())).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = builder.with_single_cert(vec![certificate(&identity.certificate)], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut connection = acceptor.accept(connection).await?;
                let mut request = Vec::new();
                while !request.windows(4).any(|part| part == b"\r\n\r\n") {
                    if connection.read_buf(&mut request).await? == 0 {
                        return Ok(());
                    }
                }
                let length = ANSWER.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                connection.write_all((head + ANSWER).as_bytes()).await?;
                connection.shutdown().await
            });
        }
    });
    format!("https://localhost:{port}")
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// What the servers of a test are made of.
struct Scene {
    pipeline: Pipeline,
    files: Files,
    ours: Authority,
    other: Authority,
    plain: String,
}

impl Scene {
    async fn new(name: &str) -> Self {
        tributary_tests::http::client();
        let stack = Stack::from_env().unwrap();
        let pipeline = Pipeline::new(&stack, name).await.unwrap();
        // That there is none would be one more fault.
        let topic = pipeline.topic("s.t");
        pipeline.create_topic(&topic, 1).await.unwrap();
        Self {
            files: Files::new(pipeline.dir()),
            ours: Authority::new("ours").unwrap(),
            other: Authority::new("other").unwrap(),
            plain: stack.search_url().replace("http:", "https:"),
            pipeline,
        }
    }

    fn trusting(&self, authority: &Authority) -> String {
        let path = self.files.put("ca.pem", authority.certificate());
        format!("ca_file = \"{path}\"\n")
    }

    /// The exit code of `check`, and all that it prints.
    fn check(&self, url: &str, more: &str) -> (i32, String) {
        let group = self.pipeline.group(Kind::SinkElastic);
        let config = with(&self.pipeline.elastic_config(&group, ""), url, more);
        let service = self.pipeline.service(Kind::SinkElastic, "sink", &config);
        let (code, out, err) = service.unwrap().command(&["check"]).unwrap();
        (code, out + &err)
    }

    fn refuses(&self, url: &str, more: &str, expected: &[&str]) {
        let (code, said) = self.check(url, more);
        assert_ne!(code, 0, "{expected:?}: {said}");
        for part in expected {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        // Nor as the numbers of its bytes: that of '-' is 45.
        assert!(
            !said.contains("PRIVATE KEY") && !said.contains("45, 45"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_the_engines_certificate_is_named_with_its_remedy() {
    let scene = Scene::new("tls_engine").await;
    let ours = scene.trusting(&scene.ours);
    let sound = scene.ours.issue("node", &["localhost"]).unwrap();
    for version in [&version::TLS13, &version::TLS12] {
        let url = server(&sound, None, version).await;
        let (code, said) = scene.check(&url, &ours);
        assert_eq!(code, 0, "{said}");
    }
    let url = server(&sound, None, &version::TLS13).await;
    let untrusted = "has a certificate of an authority that is not trusted";
    scene.refuses(&url, "", &[untrusted, "set `elasticsearch.ca_file`"]);
    let names = [
        "for another name than that in the URL 127.0.0.1",
        "localhost",
    ];
    scene.refuses(&url.replace("localhost", "127.0.0.1"), &ours, &names);
    let others = scene.other.issue("node", &["localhost"]).unwrap();
    let url = server(&others, None, &version::TLS13).await;
    scene.refuses(&url, &ours, &[untrusted]);
    let old = scene.ours.issue_expired("node", &["localhost"]).unwrap();
    let url = server(&old, None, &version::TLS13).await;
    let expired = [
        "has a certificate that has expired, ",
        "days ago",
        "renew the engine's",
    ];
    scene.refuses(&url, &ours, &expired);
    // A port without TLS.
    scene.refuses(&scene.plain, &ours, &["does not speak TLS", "http://"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_the_client_certificate_is_named_with_its_remedy() {
    let scene = Scene::new("tls_client").await;
    let ours = scene.trusting(&scene.ours);
    let node = scene.ours.issue("node", &["localhost"]).unwrap();
    let sound = scene.ours.issue("sink", &[]).unwrap();
    let old = scene.ours.issue_expired("sink", &[]).unwrap();
    let others = scene.other.issue("sink", &[]).unwrap();
    for version in [&version::TLS13, &version::TLS12] {
        let url = server(&node, Some(&scene.ours), version).await;
        let named = |name, identity| ours.clone() + &scene.files.identity(name, identity);
        let (code, said) = scene.check(&url, &named("sound.pem", &sound));
        assert_eq!(code, 0, "{said}");
        let missing = [
            "client certificate",
            "elasticsearch.client_certificate_file",
        ];
        scene.refuses(&url, &ours, &missing);
        let refused = ["refuses the client certificate", "see the engine's log"];
        scene.refuses(&url, &named("old.pem", &old), &refused);
        scene.refuses(&url, &named("others.pem", &others), &refused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_combinations_that_cannot_be_used_are_named_before_any_connection() {
    let scene = Scene::new("tls_files").await;
    let (one, two) = (
        scene.ours.issue("one", &[]).unwrap(),
        scene.ours.issue("two", &[]).unwrap(),
    );
    let file = |name, text: &str| scene.files.put(name, text);
    let certificate = format!(
        "client_certificate_file = {:?}\n",
        file("one.pem", &one.certificate)
    );
    let key = |name, text| format!("client_key_file = {:?}\n", file(name, text));
    let cases = [
        (
            "ca_file = \"/nowhere/ca.pem\"\n".to_owned(),
            "`elasticsearch.ca_file` names cannot be read: No such file",
        ),
        (
            format!("ca_file = {:?}\n", file("key-as-ca.pem", &one.key)),
            "`elasticsearch.ca_file` names has no certificate in PEM form",
        ),
        (
            certificate.clone(),
            "is set without `elasticsearch.client_key_file`",
        ),
        (
            certificate.clone() + &key("two.key", &two.key),
            "has the key of another certificate than `elasticsearch.client_certificate_file`",
        ),
        (
            certificate.clone() + &key("no.key", &one.certificate),
            "has no private key in PEM form that is not encrypted",
        ),
        (
            // Its lines are lost, as by a shell.
            scene
                .files
                .identity_text("line.pem", &one.pem().replace('\n', " ")),
            "`elasticsearch.client_certificate_file` names has damaged PEM",
        ),
        (
            "api_key = \"geheim\"\nbearer_token = \"geheim\"\n".to_owned(),
            "`elasticsearch.api_key` and `elasticsearch.bearer_token` are set together",
        ),
    ];
    for (more, expected) in &cases {
        scene.refuses("https://localhost:1", more, &[expected]);
    }
    let both = certificate + &key("one.key", &one.key);
    let open = "begins with http://, and certificates are set";
    scene.refuses("http://localhost:1", &both, &[open]);
    // A note: it is the user's network.
    let login = "username = \"sink\"\npassword = \"geheim\"\n";
    let readable = "credentials go to search.invalid without TLS";
    scene.refuses("http://search.invalid:1", login, &[readable]);
    let (_, said) = scene.check("http://127.0.0.1:1", login);
    assert!(
        !said.contains("without TLS") && !said.contains("geheim"),
        "{said}"
    );
}
