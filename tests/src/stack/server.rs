//! The four servers: which version, how its data are prepared, and the command that runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::choice::Choice;
use super::jdk::Jdk;
use super::launch::{Account, cached, configure, run};
use super::part::{Engine, Part};
use super::pinned::{of_line, pinned};
use super::state::{Folder, State};

/// The version of a part that this machine would run.
///
/// # Errors
/// What it needs (Debian's package, a JDK) is not installed.
pub(super) fn version(part: Part, choice: &Choice) -> Result<String> {
    match part {
        Part::Postgres => choice.postgres.version(),
        Part::Kafka => of_line("KAFKA", &choice.kafka),
        Part::Registry => of_line("REGISTRY", &choice.registry),
        Part::Search => {
            let line = choice.engine_line.clone();
            let line = line.map_or_else(|| choice.engine.default_line(), Ok)?;
            of_line(&choice.engine.pinned(), &line)
        }
    }
}

/// Prepares the data and configuration of a part where they are missing, and returns the command that runs it.
pub(super) fn command(part: Part, folder: &Folder, state: &State) -> Result<Command> {
    match part {
        Part::Postgres => state.choice.postgres.command(
            &folder.of(Part::Postgres),
            state.part(Part::Postgres)?.port,
            &state.postgres_settings,
        ),
        Part::Kafka => kafka(folder, state),
        Part::Registry => registry(folder, state),
        Part::Search => search(folder, state),
    }
}

/// Where `install.sh` put the peer that the tests compare us with.
///
/// # Errors
/// It is not installed.
pub fn debezium() -> Result<PathBuf> {
    cached("debezium", &pinned("DEBEZIUM")?)
}

/// Where `install.sh` put the peer's JDBC sink.
///
/// # Errors
/// It is not installed.
pub fn debezium_jdbc() -> Result<PathBuf> {
    cached("debezium-jdbc", &pinned("DEBEZIUM_JDBC")?)
}

/// The newest Java of this machine.
///
/// # Errors
/// There is none with a compiler.
pub fn newest_java() -> Result<PathBuf> {
    Ok(Jdk::newest()?.home.join("bin/java"))
}

/// Where `install.sh` put the Kafka by whose Connect the peer runs.
///
/// # Errors
/// It is not installed.
pub fn connect() -> Result<PathBuf> {
    cached("kafka", &of_line("KAFKA", &pinned("CONNECT")?)?)
}

fn kafka(folder: &Folder, state: &State) -> Result<Command> {
    // Any name of 22 characters that base64 could have made: a stack is no part of a larger cluster.
    const CLUSTER: &str = "TributaryLocalStack00A";
    let entry = state.part(Part::Kafka)?;
    let home = folder.of(Part::Kafka);
    let (data, properties, formatted) = (
        home.join("data"),
        home.join("server.properties"),
        home.join("formatted"),
    );
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let places: [(&str, &dyn std::fmt::Display); 3] = [
        ("port", &entry.port),
        ("inner_port", &entry.inner_port.unwrap_or_default()),
        ("data", &data.display()),
    ];
    configure(
        &properties,
        include_str!("../../stack/kafka/server.properties"),
        &places,
    )?;
    let logging = home.join("log4j2.yaml");
    configure(&logging, include_str!("../../stack/kafka/log4j2.yaml"), &[])?;
    let java = |heap: &str| -> Result<Command> {
        let mut java = Command::new("java");
        java.arg(heap)
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        java.arg("-cp")
            .arg(cached("kafka", &entry.version)?.join("jars").join("*"))
            .current_dir(&home);
        Ok(java)
    };
    if !formatted.exists() {
        if data.exists() {
            fs::remove_dir_all(&data)
                .with_context(|| format!("cannot remove {}", data.display()))?;
        }
        run(java("-Xmx128m")?
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(&properties))?;
        fs::write(&formatted, "")
            .with_context(|| format!("cannot write {}", formatted.display()))?;
    }
    let mut server = java("-Xmx512m")?;
    server.arg("kafka.Kafka").arg(&properties);
    Ok(server)
}

fn registry(folder: &Folder, state: &State) -> Result<Command> {
    let entry = state.part(Part::Registry)?;
    let home = folder.of(Part::Registry);
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    // H2 would write a commit half a second later; a schema that was answered must outlive a kill.
    let url = format!("jdbc:h2:file:{}/store;WRITE_DELAY=0", home.display());
    let (java, jar) = registry_program(&entry.version)?;
    let mut server = Command::new(java);
    server
        .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg("-jar")
        .arg(cached("registry", &entry.version)?.join(jar));
    // The store is in memory unless all that a line reads are set: 3.x the first, 2.x the others.
    for name in [
        "APICURIO_DATASOURCE_URL",
        "REGISTRY_DATASOURCE_URL",
        "QUARKUS_DATASOURCE_JDBC_URL",
    ] {
        server.env(name, &url);
    }
    server
        .env("QUARKUS_HTTP_HOST", "127.0.0.1")
        .env("QUARKUS_HTTP_PORT", entry.port.to_string());
    // 3.x serves health and metrics beside, by default on port 9000 of every interface: any free port does.
    server
        .env("QUARKUS_MANAGEMENT_HOST", "127.0.0.1")
        .env("QUARKUS_MANAGEMENT_PORT", "0");
    server.current_dir(&home);
    Ok(server)
}

/// Which java runs which jar. 2.x was made for older JDKs than the newest.
fn registry_program(version: &str) -> Result<(PathBuf, &'static str)> {
    if version.starts_with("2.") {
        return Ok((PathBuf::from("java"), "runner.jar"));
    }
    let jdk = Jdk::newest()?;
    if jdk.major < 21 {
        let major = jdk.major;
        bail!(
            "Apicurio {version} needs JDK 21, and the newest one found is {major}: set TRIBUTARY_REGISTRY_VERSION=2.6"
        );
    }
    Ok((jdk.home.join("bin/java"), "quarkus-run.jar"))
}

fn search(folder: &Folder, state: &State) -> Result<Command> {
    let entry = state.part(Part::Search)?;
    let home = folder.of(Part::Search);
    let account = Account::if_root("nobody")?;
    let (config, data, temporary) = (home.join("config"), home.join("data"), home.join("tmp"));
    for path in [&home, &config, &data, &temporary] {
        account.folder(path)?;
    }
    let places: [(&str, &dyn std::fmt::Display); 4] = [
        ("port", &entry.port),
        ("inner_port", &entry.inner_port.unwrap_or_default()),
        ("data", &data.display()),
        ("logs", &home.display()),
    ];
    let engine = state.choice.engine.name();
    configure(
        &config.join(format!("{engine}.yml")),
        include_str!("../../stack/search/engine.yml"),
        &places,
    )?;
    configure(
        &config.join("log4j2.properties"),
        include_str!("../../stack/search/log4j2.properties"),
        &[],
    )?;
    let installed = cached(engine, &entry.version)?;
    let options = ["-Xms768m", "-Xmx768m", "-XX:+UseG1GC"];
    let mut server = engine_java(account, &entry.version, &home, &options)?;
    match state.choice.engine {
        Engine::OpenSearch => opensearch(&mut server, &installed, &config),
        Engine::Elasticsearch => elasticsearch(&mut server, &installed, &config),
    }
    Ok(server)
}

/// The Java that runs this version of an engine, which has `home/tmp`.
pub(super) fn engine_java(
    account: Account,
    version: &str,
    home: &Path,
    options: &[&str],
) -> Result<Command> {
    // These were made for older JDKs than the newest.
    let java = match version.starts_with("2.") || version.starts_with("8.") {
        true => PathBuf::from("java"),
        false => Jdk::newest()?.home.join("bin/java"),
    };
    let mut server = account.command(java);
    server.args(options);
    server.arg(format!("-Djava.io.tmpdir={}", home.join("tmp").display()));
    server.args([
        "-Dlog4j2.disable.jmx=true",
        "-Dio.netty.noUnsafe=true",
        "-Dio.netty.noKeySetOptimization=true",
    ]);
    server.arg("-Dio.netty.recycler.maxCapacityPerThread=0");
    server.current_dir(home);
    Ok(server)
}

/// Has it run an OpenSearch.
pub(super) fn opensearch(server: &mut Command, installed: &Path, config: &Path) {
    server.arg(format!("-Dopensearch.path.home={}", installed.display()));
    server.arg(format!("-Dopensearch.path.conf={}", config.display()));
    server.args([
        "-Dopensearch.distribution.type=tar",
        "--add-modules=jdk.incubator.vector",
    ]);
    server.args(["--enable-native-access=ALL-UNNAMED", "-cp"]);
    let mut classes = installed.join("lib/*").into_os_string();
    let launcher = installed.join("launcher");
    let main = if launcher.exists() {
        classes.push(":");
        classes.push(&launcher);
        "Launcher"
    } else {
        "org.opensearch.bootstrap.OpenSearch"
    };
    server.arg(classes).arg(main);
}

fn elasticsearch(server: &mut Command, installed: &Path, config: &Path) {
    let lib = installed.join("lib");
    server.arg(format!("-Des.path.home={}", installed.display()));
    server.arg(format!("-Des.path.conf={}", config.display()));
    server.arg("-Des.distribution.type=tar");
    server.arg(format!(
        "-Des.nativelibs.path={}/platform/linux-x64",
        lib.display()
    ));
    server.arg(format!("--module-path={}", lib.display()));
    server.arg("--add-modules=jdk.incubator.vector,jdk.net,jdk.management.agent,ALL-MODULE-PATH");
    server.arg("--enable-native-access=org.elasticsearch.nativeaccess,org.elasticsearch.foreign,org.apache.lucene.core");
    server
        .arg("-cp")
        .arg(installed.join("launcher"))
        .arg("Launcher");
}

#[cfg(test)]
mod tests {
    use super::super::pinned::pinned_lines;
    use super::*;

    #[test]
    fn every_java_server_has_a_pinned_version() {
        assert!(pinned_lines("KAFKA").contains(&pinned("KAFKA").unwrap()));
        for jdk in ["JDK17", "JDK21"] {
            for server in ["REGISTRY", "OPENSEARCH", "ELASTICSEARCH"] {
                let line = pinned(&format!("{server}_{jdk}")).unwrap();
                assert!(pinned_lines(server).contains(&line), "{server} {line}");
            }
        }
        for name in ["KAFKA_4_1", "KAFKA_4_4", "REGISTRY_2_6", "REGISTRY_3_3"] {
            assert!(
                pinned(name)
                    .unwrap()
                    .starts_with(|c: char| c.is_ascii_digit()),
                "{name}"
            );
        }
        let error = pinned("MYSQL").unwrap_err().to_string();
        assert_eq!(error, "tests/stack/versions.env has no MYSQL");
    }
}
