//! docker-compose.yml and what it mounts: no image can be pulled here, but the file can be read, and the services
//! can be asked what they think of their configurations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::{Stack, postgres_program};

/// `check` found problems, but not in the configuration (that would be 2).
const PROBLEMS: i32 = 3;

#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    #[serde(default)]
    secrets: BTreeMap<String, Secret>,
    #[serde(default)]
    volumes: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: String,
    build: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default, rename = "entrypoint")]
    _entrypoint: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    healthcheck: Option<HealthCheck>,
    #[serde(rename = "restart")]
    _restart: Option<String>,
    #[serde(rename = "stop_grace_period")]
    _stop_grace_period: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dependency {
    condition: String,
}

#[derive(Debug, Deserialize)]
struct HealthCheck {
    test: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Secret {
    file: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn compose() -> Result<Compose> {
    let text = fs::read_to_string(root().join("docker-compose.yml"))?;
    serde_yaml_ng::from_str(&text).context("parse docker-compose.yml")
}

impl Compose {
    fn ours(&self) -> impl Iterator<Item = (&str, &Service, Kind)> {
        let kinds = [Kind::Source, Kind::SinkElastic, Kind::SinkRedshift];
        kinds.into_iter().filter_map(|kind| {
            let name = kind.binary().strip_prefix("tributary-")?;
            Some((name, self.services.get(name)?, kind))
        })
    }

    /// The file of this repository that a service finds under a path.
    fn mounted(&self, service: &Service, path: &str) -> Result<PathBuf> {
        if let Some(secret) = path.strip_prefix("/run/secrets/") {
            ensure!(
                service.secrets.iter().any(|name| name == secret),
                "secret {secret} is not given to the service"
            );
            let secret = self.secrets.get(secret).context("no such secret")?;
            return Ok(root().join(&secret.file));
        }
        for volume in &service.volumes {
            if let Some((file, target)) = volume.split_once(':')
                && target.trim_end_matches(":ro") == path
            {
                return Ok(root().join(file));
            }
        }
        bail!("nothing is mounted at {path}")
    }
}

#[test]
fn what_services_name_is_there() -> Result<()> {
    let compose = compose()?;
    for (name, service) in &compose.services {
        for (other, dependency) in &service.depends_on {
            let other_service = compose
                .services
                .get(other)
                .with_context(|| format!("{name} depends on {other}, which is not there"))?;
            match dependency.condition.as_str() {
                "service_healthy" => ensure!(
                    other_service.healthcheck.is_some(),
                    "{name} waits for {other}, which has no health check"
                ),
                "service_completed_successfully" => {}
                condition => bail!("{name} waits for {other} by {condition}"),
            }
        }
        for secret in &service.secrets {
            let file = compose.mounted(service, &format!("/run/secrets/{secret}"))?;
            ensure!(file.is_file(), "{}", file.display());
        }
        for volume in &service.volumes {
            let source = volume.split(':').next().unwrap_or_default();
            ensure!(
                compose.volumes.contains_key(source) || root().join(source).is_file(),
                "{name} mounts {source}, which is not there"
            );
        }
        for port in &service.ports {
            ensure!(
                port.starts_with("127.0.0.1:"),
                "{name} is open to the network: {port}"
            );
        }
    }
    Ok(())
}

#[test]
fn all_our_services_are_one_image() -> Result<()> {
    let compose = compose()?;
    let ours: Vec<_> = compose.ours().collect();
    ensure!(ours.len() == 3, "{ours:?}");
    let dockerfile = fs::read_to_string(root().join("Dockerfile"))?;
    for (name, service, kind) in ours {
        ensure!(service.image == "tributary" && service.build.as_deref() == Some("."));
        ensure!(service.command.first().map(String::as_str) == Some(kind.binary()));
        ensure!(
            dockerfile.contains(&format!("target/release/{}", kind.binary())),
            "the image lacks {name}"
        );
    }
    Ok(())
}

/// Variables as compose would set them where the user sets none: `${NAME:-default}`.
fn defaults(environment: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let default = |value: &String| match value.strip_prefix("${") {
        None => Ok(value.clone()),
        Some(rest) => rest
            .strip_suffix('}')
            .and_then(|rest| rest.split_once(":-"))
            .map(|(_, default)| default.to_owned())
            .with_context(|| format!("{value} has no default")),
    };
    environment
        .iter()
        .map(|(name, value)| Ok((name.clone(), default(value)?)))
        .collect()
}

#[test]
fn the_services_accept_their_configurations() -> Result<()> {
    let compose = compose()?;
    let mut checks = Vec::new();
    for (name, service, kind) in compose.ours() {
        let path = service.command.last().context("no command")?;
        let file = compose.mounted(service, path)?;
        let config: toml::Table = toml::from_str(&fs::read_to_string(&file)?)?;
        let listen = config["http"]["listen"].as_str().context("http.listen")?;
        let port = listen
            .strip_prefix("0.0.0.0:")
            .context("it must be reached from other containers")?;
        let health = service.healthcheck.as_ref().context("no health check")?;
        ensure!(
            health.test == ["CMD", "tributary-ready", port],
            "{name}: {health:?}"
        );

        let mut command = Command::new(kind.path()?);
        command.arg("check").arg("--config").arg(&file);
        command.args(["--output", "json"]);
        command.envs(defaults(&service.environment)?);
        let prefix = kind.binary().to_uppercase().replace('-', "_");
        for (section, keys) in config
            .iter()
            .filter_map(|(key, value)| Some((key, value.as_table()?)))
        {
            if let Some(password) = keys.get("password_file").and_then(toml::Value::as_str) {
                // Where the secret is outside of the container.
                let variable = format!("{prefix}__{}__PASSWORD_FILE", section.to_uppercase());
                command.env(variable, compose.mounted(service, password)?);
            }
        }
        checks.push((name, command.stdout(Stdio::piped()).spawn()?));
    }
    for (name, check) in checks {
        let output = check.wait_with_output()?;
        // Nobody of these names is there, so connecting fails; reading the configuration does not.
        ensure!(
            output.status.code() == Some(PROBLEMS),
            "{name}: {:?}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(())
}

#[test]
fn a_wrong_key_would_be_noticed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let good = fs::read_to_string(root().join("deploy/config/sink-elastic.toml"))?;
    let file = dir.path().join("sink.toml");
    fs::write(
        &file,
        good.replace("number_of_replicas", "number_of_replica"),
    )?;
    let output = Command::new(Kind::SinkElastic.path()?)
        .args(["check", "--config"])
        .arg(&file)
        .output()?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}

#[test]
fn the_health_check_reads_the_status() -> Result<()> {
    use std::io::{Read, Write};
    for (answer, ready) in [("200 OK", true), ("503 Service Unavailable", false)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let server = std::thread::spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
                request.push(byte[0]);
            }
            ensure!(request.starts_with(b"GET /ready "));
            // All at once: the script leaves after the first line.
            stream
                .write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
            Ok(())
        });
        let status = Command::new(root().join("deploy/tributary-ready"))
            .arg(port.to_string())
            .status()?;
        server
            .join()
            .map_err(|_| anyhow::anyhow!("the server panicked"))??;
        ensure!(status.success() == ready, "{answer}: {status:?}");
    }
    Ok(())
}

/// What runs once in the shop's database leaves nothing for the source's role to miss.
#[tokio::test]
async fn the_shop_lets_the_source_in() -> Result<()> {
    let stack = Stack::from_env()?;
    let mut pipeline = Pipeline::new(&stack, "compose_shop").await?;
    let filled = Command::new(postgres_program("psql")?)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .args(["-v", "source_password=choose-one", "-f"])
        .arg(root().join("deploy/shop.sql"))
        .arg(&pipeline.source_url)
        .output()?;
    let said = String::from_utf8_lossy(&filled.stderr);
    ensure!(filled.status.success(), "{said}");
    let url = &pipeline.source_url;
    pipeline.source_url = url.replace("//postgres:postgres@", "//tributary:choose-one@");
    let name = format!("name = \"{}\"", pipeline.prefix());
    let config = pipeline
        .source_config()
        .replacen(&name, "name = \"shop\"", 1);
    let source = pipeline.service(Kind::Source, "source", &config)?;
    let (code, out, err) = source.command(&["check"])?;
    ensure!(code == 0, "{out}{err}");
    Ok(())
}
