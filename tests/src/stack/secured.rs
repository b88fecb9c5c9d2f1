//! An OpenSearch of its own with the security plug-in: TLS on both layers, users, roles, client certificates, tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Identity, Method};
use serde_json::{Value, json};

use super::guard::Guard;
use super::jdk::Jdk;
use super::launch::{Account, cached, configure, last_lines, spawn};
use super::pinned::pinned;
use super::process::Process;
use super::{ports, server};
use crate::certificates::Authority;

const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Small, and soon there: what runs for seconds is not worth the second compiler.
const JVM: [&str; 4] = [
    "-Xms512m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
];
/// Who may do everything, by certificate.
const ADMIN: &str = "admin";
/// Base64 of 64 and of 32 bytes: what signs and encrypts the tokens that this server gives out.
const SIGNING_KEY: &str =
    "dHJpYnV0YXJ5LXRlc3RzLXNpZ24tdG9rZW5zLXdpdGgtc2l4dHktZm91ci1ieXRlcy1oZXJlLTAxMjM0NTY3ODk=";
const ENCRYPTION_KEY: &str = "dHJpYnV0YXJ5LXRlc3RzLWVuY3J5cHQtMzItYnl0ZXM=";

/// The server. Dropping it ends the process, as does the end of this one.
#[derive(Debug)]
pub struct SecuredEngine {
    port: u16,
    log: PathBuf,
    process: Process,
    /// Shows the administrator's certificate.
    admin: reqwest::Client,
    _guard: Guard,
}

impl SecuredEngine {
    /// Whether this machine's JDK runs it: 21 or newer.
    ///
    /// # Errors
    /// There is no JDK.
    pub fn can_run() -> Result<bool> {
        Ok(Jdk::newest()?.major >= 21)
    }

    /// Starts one in `dir`, whose certificate this authority issues for the name `localhost` alone and whose clients may show
    /// one of the same authority, and waits until it takes requests.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub async fn start(dir: &Path, authority: &Authority) -> Result<Self> {
        let home = dir.join("secured");
        let account = Account::if_root("nobody")?;
        let (config, security) = (home.join("config"), home.join("config/opensearch-security"));
        let data = home.join("data");
        for path in [&home, &config, &security, &data, &home.join("tmp")] {
            account.folder(path)?;
        }
        let version = pinned("OPENSEARCH_SECURED")?;
        let installed = cached("opensearch-secured", &version)?;
        let (port, inner_port) = (ports::any_free()?, ports::any_free()?);
        let node = authority.issue("node", &["localhost"])?;
        for (name, text) in [
            ("ca.pem", authority.certificate()),
            ("node.pem", &node.certificate),
            ("node.key", &node.key),
        ] {
            fs::write(config.join(name), text)?;
        }
        let places: [(&str, &dyn std::fmt::Display); 4] = [
            ("port", &port),
            ("inner_port", &inner_port),
            ("data", &data.display()),
            ("logs", &home.display()),
        ];
        let template = concat!(
            include_str!("../../stack/search/engine.yml"),
            include_str!("../../stack/opensearch-secured/security.yml")
        );
        configure(&config.join("opensearch.yml"), template, &places)?;
        let logging = include_str!("../../stack/search/log4j2.properties");
        configure(&config.join("log4j2.properties"), logging, &[])?;
        for (kind, content) in security_index() {
            fs::write(security.join(format!("{kind}.yml")), content.to_string())?;
        }
        let mut command = server::engine_java(account, &version, &home, &JVM)?;
        server::opensearch(&mut command, &installed, &config);
        let (log, pids) = (home.join("server.log"), home.join("pids"));
        let guard = Guard::start(&pids)?;
        let process = spawn(&command, &log)?;
        fs::write(&pids, process.guard_line_of_process())?;
        let admin = authority.issue(ADMIN, &[])?;
        let engine = Self {
            port,
            log,
            process,
            admin: client(authority)
                .identity(Identity::from_pem(admin.pem().as_bytes())?)
                .build()?,
            _guard: guard,
        };
        engine.wait().await?;
        Ok(engine)
    }

    /// Its URL, by the name that its certificate has.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Its URL by another name, at which it is reached as well.
    pub fn url_by_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A request of the administrator: status and body.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.admin.request(method, format!("{}{path}", self.url()));
        answer(request, body).await
    }

    /// A request of a user with a password: status and body.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn call_as(
        &self,
        authority: &Authority,
        (user, password): (&str, &str),
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        let request = client(authority)
            .build()?
            .request(method, format!("{}{path}", self.url()))
            .basic_auth(user, Some(password));
        answer(request, body).await
    }

    /// Makes or changes a part of the security configuration: `roles/…`, `internalusers/…`, `rolesmapping/…`.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn define(&self, what: &str, body: &Value) -> Result<()> {
        let path = format!("/_plugins/_security/api/{what}");
        let (status, answer) = self.call(Method::PUT, &path, body).await?;
        if !(200..300).contains(&status) {
            bail!("PUT {path}: {status} {answer}");
        }
        Ok(())
    }

    /// A token by which its holder is this user for some minutes.
    ///
    /// # Errors
    /// The server gives none.
    pub async fn token(&self, authority: &Authority, user: &str, password: &str) -> Result<String> {
        let path = "/_plugins/_security/api/generateonbehalfoftoken";
        let request = client(authority)
            .build()?
            .post(format!("{}{path}", self.url()));
        let body = json!({"description": "tests", "durationSeconds": "300"});
        let request = request.basic_auth(user, Some(password)).json(&body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let token = answer.get("authenticationToken").and_then(Value::as_str);
        token
            .map(str::to_owned)
            .with_context(|| format!("POST {path}: {status} {answer}"))
    }

    async fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            // It asks who is there before it has the index that says who may do what.
            let health = "/_plugins/_security/health";
            let answer = self.call(Method::GET, health, &Value::Null).await;
            if answer.is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if !self.process.is_alive() || Instant::now() >= deadline {
                bail!(
                    "the secured engine does not start; the end of {}:\n{}",
                    self.log.display(),
                    last_lines(&self.log)
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for SecuredEngine {
    fn drop(&mut self) {
        if self.process.signal(libc::SIGKILL).is_err() || !self.process.wait_gone(STOP_LIMIT) {
            super::readiness::say("the secured engine could not be ended");
        }
    }
}

/// A client that trusts this authority alone.
async fn answer(request: reqwest::RequestBuilder, body: &Value) -> Result<(u16, Value)> {
    let request = if body.is_null() {
        request
    } else {
        request.json(body)
    };
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await.unwrap_or(Value::Null)))
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    let ca = Certificate::from_pem(authority.certificate().as_bytes());
    crate::http::builder().tls_certs_only(ca)
}

/// With what the server's security index begins; YAML takes JSON.
fn security_index() -> Vec<(&'static str, Value)> {
    let meta = |kind: &str| json!({"type": kind, "config_version": 2});
    let config = json!({
        "_meta": meta("config"),
        "config": {"dynamic": {
            "http": {"anonymous_auth_enabled": false},
            "authc": {
                "certificate": {
                    "http_enabled": true, "order": 1,
                    "http_authenticator": {"type": "clientcert", "challenge": false, "config": {"username_attribute": "cn"}},
                    "authentication_backend": {"type": "noop"},
                },
                "password": {
                    "http_enabled": true, "order": 2,
                    "http_authenticator": {"type": "basic", "challenge": true},
                    "authentication_backend": {"type": "intern"},
                },
            },
            "on_behalf_of": {"enabled": true, "signing_key": SIGNING_KEY, "encryption_key": ENCRYPTION_KEY},
        }},
    });
    let empty = [
        "internal_users:internalusers",
        "roles",
        "roles_mapping:rolesmapping",
        "action_groups:actiongroups",
        "tenants",
    ];
    let empty = empty.into_iter().map(|names| {
        let (file, kind) = names.split_once(':').unwrap_or((names, names));
        (file, json!({"_meta": meta(kind)}))
    });
    [("config", config)].into_iter().chain(empty).collect()
}
