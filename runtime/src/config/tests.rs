use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

use super::{
    ConfigError, KafkaConfig, LogFormat, Secret, Settings, broker_problems, http_url_problems,
    load, load_service,
};

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    postgres: Postgres,
    kafka: KafkaConfig,
    #[serde(default)]
    batch: Batch,
    #[serde(default)]
    columns: BTreeMap<String, Column>,
    #[serde(default)]
    rules: Vec<Column>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Postgres {
    url: String,
    password: Option<Secret>,
    #[serde(default)]
    tables: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Batch {
    rows: Option<u32>,
    ratio: Option<f64>,
    port: Option<u16>,
    ordered: bool,
    bounds: Vec<i64>,
    mode: Option<Mode>,
    listen: Option<SocketAddr>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Safe,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Column {
    r#as: String,
}

const BASE: &str = r#"name = "shop"
[postgres]
url = "postgres://db/shop"
[kafka]
brokers = ["kafka:9092"]
registry = "http://registry:8081"
"#;

const PREFIX: &str = "TRIBUTARY_SOURCE";

/// A file with `text` and the directory that keeps it.
fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn variables(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter()
        .map(|(key, value)| (format!("{PREFIX}__{key}"), (*value).to_owned()))
        .collect()
}

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (_dir, path) = file(text);
    load(&path, PREFIX, variables(env))
}

/// The problems, with the directory of the file cut out.
fn problems(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let (dir, path) = file(text);
    let error = load::<Config>(&path, PREFIX, variables(env)).unwrap_err();
    without_dir(&error, &dir)
}

fn without_dir(error: &ConfigError, dir: &tempfile::TempDir) -> Vec<String> {
    let dir = format!("{}/", dir.path().display());
    let problems = error.problems().iter();
    problems
        .map(|problem| problem.to_string().replace(&dir, ""))
        .collect()
}

#[test]
fn a_file_alone() {
    let config = read(BASE, &[]).unwrap();
    assert_eq!(config.kafka.brokers, ["kafka:9092"]);
    assert_eq!(config.postgres.password, None);
}

#[test]
fn the_environment_sets_what_the_field_wants() {
    let config = read(
        BASE,
        &[
            ("NAME", "true"),
            ("POSTGRES__PASSWORD", "12345"),
            ("POSTGRES__TABLES", "catalog.*, sales.order"),
            ("KAFKA__BROKERS", r#"["a:1", "b:2"]"#),
            ("BATCH__ROWS", "10_000"),
            ("BATCH__RATIO", "2"),
            ("BATCH__PORT", "9401"),
            ("BATCH__ORDERED", "true"),
            ("BATCH__BOUNDS", "-1,2"),
            ("BATCH__MODE", "safe"),
            ("BATCH__LISTEN", "127.0.0.1:0"),
            ("COLUMNS__PRICE__AS", "text"),
        ],
    )
    .unwrap();
    assert_eq!(config.name, "true");
    assert_eq!(config.postgres.password.unwrap().expose(), "12345");
    assert_eq!(config.postgres.tables, ["catalog.*", "sales.order"]);
    assert_eq!(config.kafka.brokers, ["a:1", "b:2"]);
    let expected = Batch {
        rows: Some(10_000),
        ratio: Some(2.0),
        port: Some(9401),
        ordered: true,
        bounds: vec![-1, 2],
        mode: Some(Mode::Safe),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
    };
    assert_eq!(config.batch, expected);
    assert_eq!(config.columns["price"].r#as, "text");
}

#[test]
fn a_secret_from_the_environment_is_taken_as_it_is() {
    for password in [
        "\"x\"", " x ", "0012345", "10.50", "1e400", "true", "[x]", "a,b", "{ x",
    ] {
        let config = read(BASE, &[("POSTGRES__PASSWORD", password)]).unwrap();
        assert_eq!(config.postgres.password.unwrap().expose(), password);
    }
}

#[test]
fn a_section_from_the_environment_as_one_value() {
    let env = [
        ("BATCH", "{ rows = 7, mode = 'fast' }"),
        ("RULES", "[{ as = 'text' }, { as = 'json' }]"),
    ];
    let config = read(BASE, &env).unwrap();
    assert_eq!(config.rules.len(), 2);
    assert_eq!(config.batch.rows, Some(7));
    assert_eq!(config.batch.mode, Some(Mode::Fast));
}

#[test]
fn other_services_variables_and_those_of_kubernetes_are_not_ours() {
    let env = ["TRIBUTARY_SOURCE_PORT", "TRIBUTARY_SINK_ELASTIC__NAME"];
    let env = env.map(|name| (name.to_owned(), "x".to_owned()));
    let (_dir, path) = file(BASE);
    assert!(load::<Config>(&path, PREFIX, env).is_ok());
}

#[test]
fn unknown_keys_name_the_nearest() {
    let text = BASE.replace("brokers", "broker").replace("name", "nmae");
    assert_eq!(
        problems(
            &text,
            &[("KAFKA__REGISTRI", "x"), ("POSTGRES__WEATHER", "x")]
        ),
        [
            "missing key `name` in source.toml; to do: set `name` in source.toml or TRIBUTARY_SOURCE__NAME",
            "unknown key `nmae` in source.toml line 1; did you mean `name`?",
            "missing key `kafka.brokers` in source.toml line 4; to do: set `kafka.brokers` in source.toml or TRIBUTARY_SOURCE__KAFKA__BROKERS",
            "unknown key `kafka.broker` in source.toml line 5; did you mean `kafka.brokers`?",
            "unknown key `kafka.registri` in environment variable TRIBUTARY_SOURCE__KAFKA__REGISTRI; did you mean TRIBUTARY_SOURCE__KAFKA__REGISTRY?",
            "unknown key `postgres.weather` in environment variable TRIBUTARY_SOURCE__POSTGRES__WEATHER; the keys here are url, password, tables",
        ]
    );
}

#[test]
fn type_errors_name_key_and_place_all_at_once() {
    let text = r#"name = 1
[postgres]
url = "postgres://db/shop"
tables = "catalog"
[kafka]
brokers = ["a:1", 2]
registry = "http://registry:8081"
[batch]
port = 70000
mode = "quick"
listen = "here"
ordered = "yes"
"#;
    assert_eq!(
        problems(
            text,
            &[("BATCH__ROWS", "many"), ("POSTGRES__URL__HOST", "db")]
        ),
        [
            "`name` in source.toml line 1: expected a string, found an integer",
            "`postgres.tables` in source.toml line 4: expected a list, found a string",
            "`kafka.brokers` in source.toml line 6: expected a string, found an integer",
            "`batch.port` in source.toml line 9: expected an integer from 0 to 65535",
            "`batch.mode` in source.toml line 10: expected one of \"fast\", \"safe\"",
            "`batch.listen` in source.toml line 11: invalid socket address syntax",
            "`batch.ordered` in source.toml line 12: expected true or false, found a string",
            "`batch.rows` in environment variable TRIBUTARY_SOURCE__BATCH__ROWS: expected an integer from 0 to 4294967295, found a string",
            "environment variable TRIBUTARY_SOURCE__POSTGRES__URL__HOST: `url` is set to a value, it is not a section",
        ]
    );
}

#[test]
fn a_missing_section_and_a_missing_file() {
    let text = BASE.split("[kafka]").next().unwrap();
    assert_eq!(
        problems(text, &[]),
        [
            "missing key `kafka` in source.toml; to do: set `kafka` in source.toml or TRIBUTARY_SOURCE__KAFKA"
        ]
    );
    let error = load::<Config>("/nonexistent/source.toml".as_ref(), PREFIX, []).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read /nonexistent/source.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn a_secret_from_a_file() {
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("pg");
    std::fs::write(&path, "line\n\n").unwrap();
    let line = format!("password_file = {:?}\n[kafka]", path.to_str().unwrap());
    let text = BASE.replace("[kafka]", &line);
    let password = |text: &str, env: &[(&str, &str)]| {
        let password = read(text, env).unwrap().postgres.password.unwrap();
        password.expose().to_owned()
    };
    assert_eq!(password(&text, &[]), "line\n", "one newline is trimmed");
    // The environment goes before the file, whichever of the two forms either has.
    assert_eq!(password(&text, &[("POSTGRES__PASSWORD", "env")]), "env");
    let plain = BASE.replace("[kafka]", "password = \"plain\"\n[kafka]");
    let from_env = [("POSTGRES__PASSWORD_FILE", path.to_str().unwrap())];
    assert_eq!(password(&plain, &from_env), "line\n");

    let both = text.replace("password_file", "password = \"hunter2\"\npassword_file");
    assert_eq!(
        problems(&both, &[]),
        [
            "`postgres.password` and `postgres.password_file` are both set (source.toml line 5); to do: remove one of them"
        ]
    );
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(
        problems(&text, &[]),
        ["`postgres.password_file` in source.toml line 4: the file named here is empty"]
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        problems(&text, &[]),
        [
            "`postgres.password_file` in source.toml line 4: the file named here cannot be read: No such file or directory (os error 2)"
        ]
    );
}

#[test]
fn a_secret_is_renewed_from_its_file_alone() {
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("pg");
    std::fs::write(&path, "old\n").unwrap();
    let line = format!("password_file = {:?}\n[kafka]", path.to_str().unwrap());
    let text = BASE.replace("[kafka]", &line);
    let old = read(&text, &[]).unwrap().postgres.password.unwrap();
    assert!(old.is_from_file());
    assert_eq!(old.renewed(), Ok(None));
    std::fs::write(&path, "new\n").unwrap();
    let new = old.renewed().unwrap().unwrap();
    assert_eq!(new.expose(), "new");
    assert_eq!(new.renewed(), Ok(None));
    std::fs::write(&path, "").unwrap();
    let error = new.renewed().unwrap_err();
    assert_eq!(error, "the file named here is empty");
    assert_eq!(Secret::new("plain").renewed(), Ok(None));
}

#[test]
fn only_a_secret_has_a_file() {
    let text = BASE.replace("[postgres]", "[postgres]\nurl_file = \"/etc/hostname\"");
    let text = text.replace("url = \"postgres://db/shop\"\n", "");
    assert_eq!(
        problems(&text, &[]),
        [
            "unknown key `postgres.url_file` in source.toml line 3; only a secret can come from a file"
        ]
    );
}

/// Every way that is known to make serde or toml quote the line or the value.
#[test]
fn no_error_prints_a_secret() {
    let lines = [
        "password = hunter2",
        "password = \"hunter2",
        "password = 'hunter2' x",
        "password = 7261372613",
        "password = 72613.72613",
        "password = [\"hunter2\"]",
        "password = { hunter2 = 1 , x }",
        "password = \"\\hunter2\"",
        "password_file = \"hunter2\"",
        "password_file = [\"hunter2\"]",
        "passwort = \"hunter2\"",
        "password = \"hunter2\"\npassword = \"hunter2\"",
        "password = 2026-99-99hunter2",
        "password = 0xhunter2",
        "password \"hunter2\"",
    ];
    for line in lines {
        let text = BASE.replace("[kafka]", &format!("{line}\n[kafka]"));
        let (_dir, path) = file(&text);
        let error = load::<Config>(&path, PREFIX, []).unwrap_err();
        let printed = format!("{error} {error:?} {error:#?}");
        for secret in ["hunter2", "72613"] {
            assert!(!printed.contains(secret), "{line}: {printed}");
        }
        assert!(
            printed.contains("line 4") || printed.contains("line 5"),
            "{printed}"
        );
    }
    let env = [
        ("POSTGRES__PASSWORD_FILE", "hunter2"),
        ("POSTGRES__PASSWORT", "hunter2"),
        ("POSTGRES__TABLES", "[hunter2"),
        ("BATCH__ROWS", "hunter2"),
        ("BATCH__MODE", "hunter2"),
        ("BATCH__LISTEN", "hunter2"),
        ("BATCH__ORDERED", "hunter2"),
        ("COLUMNS", "{ hunter2"),
    ];
    for variable in env {
        let error = read(BASE, &[variable]).unwrap_err();
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains(variable.0), "{printed}");
    }
    let config = read(
        BASE,
        &[
            ("POSTGRES__PASSWORD", "hunter2"),
            ("KAFKA__REGISTRY", "http://user:hunter2@registry:8081"),
        ],
    )
    .unwrap();
    let printed = format!(
        "{config:?} {config:#?} {}",
        config.postgres.password.clone().unwrap()
    );
    assert!(
        !printed.contains("hunter2") && printed.contains("***"),
        "{printed}"
    );
}

#[test]
fn the_shared_settings_are_taken_out() {
    let text = format!(
        "shutdown_timeout_ms = 5\n{BASE}[log]\nformat = \"json\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
    );
    let (_dir, path) = file(&text);
    let env = variables(&[("LOG__LEVEL", "debug")]);
    let (settings, config) = load_service::<Config>(&path, PREFIX, env).unwrap();
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.log.level, "debug");
    assert_eq!(
        settings.http.listen,
        Some(SocketAddr::from(([127, 0, 0, 1], 0)))
    );
    assert_eq!(settings.shutdown_timeout_ms, 5);
    assert_eq!(config.name, "shop");

    let (_dir, path) = file(BASE);
    let (settings, _) = load_service::<Config>(&path, PREFIX, []).unwrap();
    assert_eq!(settings, Settings::default());
}

#[test]
fn a_slip_in_the_shared_settings() {
    let text = format!("{BASE}[lgo]\n[log]\nformt = 1\nlevel = 2\n");
    let (dir, path) = file(&text);
    let error = load_service::<Config>(&path, PREFIX, []).unwrap_err();
    assert_eq!(
        without_dir(&error, &dir),
        [
            "unknown key `lgo` in source.toml line 7; did you mean `log`?",
            "unknown key `log.formt` in source.toml line 9; did you mean `log.format`?",
            "`log.level` in source.toml line 10: expected a string, found an integer",
        ]
    );
}

#[test]
fn brokers_and_urls() {
    let brokers = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let problems = broker_problems("kafka.brokers", &list);
        problems.iter().map(ToString::to_string).collect::<String>()
    };
    assert_eq!(brokers(&["kafka:9092", "[::1]:9092"]), "");
    let remedy = "to do: list brokers by host and port: kafka.brokers = [\"kafka:9092\"]";
    assert_eq!(brokers(&[]), format!("`kafka.brokers` is empty; {remedy}"));
    for wrong in [
        "kafka",
        "kafka:",
        ":9092",
        "kafka:0",
        "kafka:99999",
        "http://kafka:9092",
    ] {
        let expected = format!("`kafka.brokers`: 1 of 2 are not `host:port`; {remedy}");
        assert_eq!(brokers(&["kafka:9092", wrong]), expected, "{wrong}");
    }

    let url = |url| http_url_problems("kafka.registry", url).len();
    assert_eq!(url("https://user:hunter2@registry/apis/ccompat/v7"), 0);
    for wrong in [
        "registry:8081",
        "registry",
        "ftp://registry",
        "http://",
        "http://r?x=1",
    ] {
        assert_eq!(url(wrong), 1, "{wrong}");
        let problem = &http_url_problems("kafka.registry", wrong)[0].to_string();
        assert!(problem.contains("kafka.registry"), "{problem}");
    }
}
