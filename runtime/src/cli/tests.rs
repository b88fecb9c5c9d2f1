use std::ffi::OsString;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::supervise::{self, Ending};
use super::{Answer, Context, Service, execute, exit};
use crate::config::{Secret, Settings};
use crate::health::Health;
use crate::health::server::Server;
use crate::telemetry::Metrics;
use crate::{Error, Problem, Result};

/// Does what its configuration says.
struct Example;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    password: Option<Secret>,
    #[serde(default)]
    behave: Behave,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Behave {
    #[default]
    Well,
    Fail,
    FailLate,
    Panic,
    Wait,
    Hang,
    Leave,
}

impl Service for Example {
    const NAME: &'static str = "tributary-example";
    const ABOUT: &'static str = "Shows what a service is.";
    const DEFAULT_PORT: u16 = 0;
    type Config = Config;

    fn validate(config: &Config) -> Vec<Problem> {
        let wrong = config.name.is_empty();
        wrong
            .then(|| Problem::new("`name` is empty"))
            .into_iter()
            .collect()
    }

    async fn check(config: Config) -> Vec<Problem> {
        match config.password {
            Some(_) => Vec::new(),
            None => vec![
                Problem::new("role tributary may not read sales.order")
                    .remedy("GRANT SELECT ON sales.order TO tributary"),
                Problem::new("the registry is away"),
            ],
        }
    }

    fn commands() -> Vec<clap::Command> {
        let below = clap::Command::new("look").arg(super::address());
        vec![
            clap::Command::new("wipe").arg(super::yes()),
            clap::Command::new("letters").subcommand(below),
        ]
    }

    async fn command(
        _: Config,
        name: &str,
        arguments: &clap::ArgMatches,
        _: super::Running,
    ) -> Result<Answer> {
        if let Some((below, arguments)) = arguments.subcommand() {
            let address = arguments.get_one::<String>("address").cloned();
            let found = serde_json::json!({"below": below, "address": address});
            return Ok(Answer::ok(format!("{below}s\n"), found));
        }
        let (text, json) = ("wipes a\n".to_owned(), serde_json::json!({"wipes": ["a"]}));
        match (name, arguments.get_flag("yes")) {
            ("wipe", true) => Err(Error::stop_msg("a is in use").remedy("stop it")),
            _ => Ok(Answer::unconfirmed(text, json)),
        }
    }

    async fn run(config: Config, context: Context) -> Result<()> {
        context.health.set_ready(true, "");
        match config.behave {
            Behave::Well => context.shutdown.cancelled().await,
            Behave::FailLate => {
                std::mem::forget(context.gate.enter("flush"));
                return Err(Error::stop_msg("the slot is lost"));
            }
            Behave::Fail => return Err(Error::stop_msg("the slot is lost").remedy("re-snapshot")),
            Behave::Panic => panic!("on purpose"),
            Behave::Wait => {
                context.shutdown.cancelled().await;
                return Err(Error::interrupted("connect to Kafka"));
            }
            Behave::Hang => {
                let _inside = context.gate.enter("snapshot worker 3");
                std::future::pending::<()>().await;
            }
            Behave::Leave => {
                let inside = context.gate.enter("flush");
                tokio::spawn(async move {
                    context.shutdown.cancelled().await;
                    tokio::task::yield_now().await;
                    drop(inside);
                });
            }
        }
        Ok(())
    }
}

/// Exit code, stdout, stderr of a command with a configuration file.
fn execute_with(text: &str, args: &[&str], env: &[(&str, &str)]) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("example.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let args = std::iter::once("tributary-example").chain(args.iter().copied());
    let args = args.map(|arg| OsString::from(if arg == "FILE" { path } else { arg }));
    let env = env
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = execute::<Example>(args, env, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(path, "FILE");
    (code, text(out), text(err))
}

#[test]
fn help_version_and_a_wrong_command_line() {
    let (code, out, _) = execute_with("", &["--version"], &[]);
    assert_eq!(
        (code, out.as_str()),
        (exit::OK, "tributary-example 0.1.0\n")
    );
    let (code, out, _) = execute_with("", &["--help"], &[]);
    assert_eq!(code, exit::OK);
    for part in [
        "Shows what a service is.",
        "check",
        "TRIBUTARY_EXAMPLE__SECTION__KEY",
        "Exit codes",
    ] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    for args in [
        &[][..],
        &["run"],
        &["walk"],
        &["check", "--config", "FILE", "--output", "xml"],
    ] {
        let (code, out, err) = execute_with("", args, &[]);
        assert_eq!((code, out.as_str()), (exit::USAGE, ""), "{args:?}");
        assert!(err.contains("error"), "{args:?}: {err}");
    }
}

#[test]
fn check_prints_all_problems_and_its_exit_code_tells() {
    let check = ["check", "--config", "FILE"];
    let (code, out, err) = execute_with("name = 'a'", &check, &[]);
    assert_eq!((code, err.as_str()), (exit::PROBLEMS, ""));
    assert_eq!(
        out,
        "ok: the configuration is valid\n\
         problem: role tributary may not read sales.order\n  \
         to do: GRANT SELECT ON sales.order TO tributary\n\
         problem: the registry is away\n"
    );

    let env = [("TRIBUTARY_EXAMPLE__PASSWORD", "x")];
    let (code, out, _) = execute_with("name = 'a'", &check, &env);
    assert_eq!(code, exit::OK);
    assert!(out.lines().all(|line| line.starts_with("ok: ")), "{out}");

    let json = ["check", "--config", "FILE", "--output", "json"];
    let (code, out, _) = execute_with("name = 'a'", &json, &[]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, exit::PROBLEMS);
    assert_eq!(
        (&out["ok"], &out["service"]),
        (&false.into(), &"tributary-example".into())
    );
    assert_eq!(
        out["problems"][0]["remedy"],
        "GRANT SELECT ON sales.order TO tributary"
    );
    assert_eq!(out["problems"][1]["what"], "the registry is away");
}

#[test]
fn a_command_below_another_one_takes_its_arguments_last() {
    let look = ["letters", "look", "--config", "FILE"];
    assert_eq!(execute_with("name = 'a'", &look, &[]).1, "looks\n");
    let look = [&look[..], &["--output", "json", "--address", "a:1"]].concat();
    let (code, out, err) = execute_with("name = 'a'", &look, &[]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (exit::OK, ""));
    assert_eq!(
        (&out["below"], &out["address"]),
        (&"look".into(), &"a:1".into())
    );
}

#[test]
fn a_command_of_its_own_says_what_it_destroys_and_wants_yes() {
    let (code, out, err) = execute_with("name = 'a'", &["wipe", "--config", "FILE"], &[]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            exit::UNCONFIRMED,
            "wipes a\nnothing was done: say --yes to do it\n",
            ""
        )
    );
    let wipe = ["wipe", "--config", "FILE", "--output", "json", "--yes"];
    let (code, out, err) = execute_with("name = 'a'", &wipe, &[]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, exit::STOPPED);
    assert_eq!(
        (&out["ok"], &out["error"]),
        (&false.into(), &"a is in use".into())
    );
    assert_eq!(
        err,
        "tributary-example: error: a is in use; to do: stop it\n"
    );
    assert_eq!(execute_with("nmae = 'a'", &wipe, &[]).0, exit::USAGE);
}

#[test]
fn status_asks_the_running_service() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let health = Health::new();
    let (metrics, _) = Metrics::with_recorder(Example::NAME).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Example::NAME, listen, health.clone(), metrics);
    let server = runtime.block_on(server).unwrap();
    let config = format!("name = 'a'\n[http]\nlisten = '{}'", server.address());
    let serving = runtime.spawn(server.serve());
    let status = ["status", "--config", "FILE"];

    let (code, out, _) = execute_with(&config, &status, &[]);
    assert_eq!(code, exit::PROBLEMS);
    assert!(
        out.contains(": starting, not ready, up 0 s\nreason: starting\n"),
        "{out}"
    );
    health.set_ready(true, "");
    health.set_details(|| serde_json::json!({"slot": {"lag_bytes": 7}}));
    let (code, out, _) = execute_with(&config, &status, &[]);
    assert_eq!(code, exit::OK);
    assert!(out.ends_with("slot.lag_bytes: 7\n"), "{out}");
    health.set_warning("lag", Some("far behind".to_owned()));
    let json = ["status", "--config", "FILE", "--output", "json"];
    let (code, out, _) = execute_with(&config, &json, &[]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, exit::PROBLEMS);
    assert_eq!(
        (
            &out["ready"],
            &out["warnings"][0],
            &out["details"]["slot"]["lag_bytes"]
        ),
        (&true.into(), &"far behind".into(), &7.into())
    );

    serving.abort();
    drop(runtime);
    let (code, _, err) = execute_with(&config, &status, &[]);
    assert_eq!(code, exit::STOPPED);
    assert!(err.contains("to do: start the service"), "{err}");
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let (code, out, err) = execute_with("nmae = 'a'", &["run", "--config", "FILE"], &[]);
    assert_eq!((code, out.as_str()), (exit::USAGE, ""));
    assert_eq!(
        err,
        "tributary-example: error: missing key `name` in FILE; to do: set `name` in FILE or TRIBUTARY_EXAMPLE__NAME\n\
         tributary-example: error: unknown key `nmae` in FILE line 1; did you mean `name`?\n"
    );
    let text = "name = ''\nshutdown_timeout_ms = 0\n[log]\nlevel = 'inof'";
    let (code, out, _) = execute_with(text, &["check", "--config", "FILE"], &[]);
    assert_eq!(code, exit::USAGE);
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("problem: "))
            .count(),
        3,
        "{out}"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_of_ours_that_is_not_text_is_a_problem() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![0xff]);
    let problems = super::variables(
        "TRIBUTARY_EXAMPLE",
        [
            ("TRIBUTARY_EXAMPLE__NAME".into(), odd()),
            ("PATH".into(), odd()),
            (odd(), odd()),
        ],
    )
    .unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .what
            .contains("TRIBUTARY_EXAMPLE__NAME is not valid UTF-8")
    );
}

/// Runs the example, with the signals sent at once.
async fn supervised(behave: Behave, timeout_ms: u64, signals: &[&'static str]) -> Ending {
    let (sender, receiver) = mpsc::channel(2);
    for signal in signals {
        sender.send(*signal).await.unwrap();
    }
    let (metrics, _) = Metrics::with_recorder(Example::NAME).unwrap();
    let config = Config {
        name: "a".to_owned(),
        password: None,
        behave,
    };
    let settings = Settings {
        shutdown_timeout_ms: timeout_ms,
        ..Settings::default()
    };
    supervise::run::<Example>(settings, config, metrics, receiver).await
}

#[tokio::test]
async fn a_signal_ends_it_in_an_orderly_way() {
    for behave in [Behave::Well, Behave::Wait] {
        let ending = supervised(behave, 60_000, &["SIGTERM"]).await;
        assert!(matches!(ending, Ending::Done), "{ending:?}");
    }
}

#[tokio::test]
async fn an_error_ends_it_with_its_message() {
    let Ending::Failed(error) = supervised(Behave::Fail, 60_000, &[]).await else {
        panic!("it did not fail");
    };
    assert_eq!(error.to_string(), "the slot is lost; to do: re-snapshot");
    // The error is what counts, also where something else then takes too long.
    let Ending::Failed(error) = supervised(Behave::FailLate, 10, &[]).await else {
        panic!("it did not fail");
    };
    assert_eq!(error.to_string(), "the slot is lost");
    let ending = supervised(Behave::Panic, 60_000, &[]).await;
    assert!(matches!(ending, Ending::Failed(_)), "{ending:?}");
}

#[tokio::test]
async fn the_end_waits_for_those_inside_the_gate() {
    let ending = supervised(Behave::Leave, 60_000, &[]).await;
    assert!(matches!(ending, Ending::Done), "{ending:?}");
}

#[tokio::test]
async fn a_shutdown_that_takes_too_long_is_cut_off_and_says_who_was_late() {
    let start = std::time::Instant::now();
    let Ending::CutOff(error) = supervised(Behave::Hang, 50, &["SIGTERM"]).await else {
        panic!("it was not cut off");
    };
    assert!(start.elapsed() >= Duration::from_millis(50));
    let message = error.to_string();
    assert!(
        message.starts_with(
            "the shutdown did not end within shutdown_timeout_ms = 50, still at work: snapshot worker 3; to do: "
        ),
        "{message}"
    );
    let Ending::CutOff(error) = supervised(Behave::Hang, 60_000, &["SIGTERM", "SIGINT"]).await
    else {
        panic!("it was not cut off");
    };
    assert!(
        error
            .to_string()
            .starts_with("a second signal (SIGINT) ended the shutdown"),
        "{error}"
    );
}
