//! What a running sink can be asked to do: `pause`, `resume`, and to replay letters.

use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use tributary_runtime::cli::Context;
use tributary_runtime::{Error, Result};

use crate::config::OnError;
use crate::topics::Subscription;
use crate::write::instance::Lasting;
use crate::write::pauses::Pauses;
use crate::write::replay::{self, Order};

/// The subject of the warning while something is paused.
const SUBJECT: &str = "pause";

/// What is said with every answer.
const ONE_INSTANCE: &str = "this instance only: every other one of the sink is asked by itself, and a restart ends a pause";

/// For the command line.
pub fn requests() -> Vec<Command> {
    let topic = Arg::new("topic")
        .long("topic")
        .value_name("TOPIC")
        .help("Only this topic; without it, all");
    vec![
        Command::new("pause")
            .about("Has the running sink write no more, until `resume` or a restart; it keeps its partitions")
            .arg(topic.clone()),
        Command::new("resume")
            .about("Has the running sink go on where it was paused")
            .arg(topic),
    ]
}

/// What is sent to the running sink.
pub fn request(arguments: &ArgMatches) -> Value {
    json!({ "topic": arguments.get_one::<String>("topic") })
}

/// What the sink has answered, for people.
pub fn request_text(answer: &Value) -> String {
    let paused = &answer["paused"];
    let topics = paused["topics"].as_array().map_or(&[][..], Vec::as_slice);
    let what = match (paused["all"] == true, topics) {
        (true, _) => "all topics are paused".to_owned(),
        (false, []) => "nothing is paused".to_owned(),
        (false, topics) => {
            let names: Vec<_> = topics.iter().filter_map(Value::as_str).collect();
            format!("paused: {}", names.join(", "))
        }
    };
    let note = answer["note"].as_str().unwrap_or_default();
    format!("{what}\n{note}\n")
}

/// Takes requests from now on.
pub(crate) fn serve(
    lasting: &Lasting,
    subscription: &Subscription,
    on_error: OnError,
    context: &Context,
) {
    let (pauses, replays) = (Arc::clone(&lasting.pauses), Arc::clone(&lasting.replays));
    let (subscription, health) = (subscription.clone(), context.health.clone());
    context.health.set_control(move |name, arguments| {
        if name == replay::REQUEST {
            let run = replays.ask(orders(arguments, on_error)?)?;
            return Ok(json!({ "run": run }));
        }
        let topic = arguments["topic"].as_str();
        if let Some(topic) = topic.filter(|topic| subscription.matching(topic).is_none()) {
            return Err(
                Error::stop_msg(format!("the sink reads no topic '{topic}'"))
                    .remedy("`status` names the topics that it reads"),
            );
        }
        carry_out(&pauses, name, topic)?;
        health.set_warning(SUBJECT, pauses.warning());
        Ok(json!({ "paused": pauses.report(), "note": ONE_INSTANCE }))
    });
}

/// # Errors
/// Stop: it is no request of this version; what is refused again has nowhere to go.
fn orders(arguments: &Value, on_error: OnError) -> Result<Vec<Order>> {
    if on_error == OnError::Stop {
        return Err(Error::stop_msg(
            "the running sink stops at a record that is refused, and would stop at the first letter that still is",
        )
        .remedy("set on_error = \"dead-letter\" and start it again"));
    }
    serde_json::from_value(arguments["orders"].clone())
        .map_err(|error| Error::stop(error).remedy("ask with the sink's own version"))
}

fn carry_out(pauses: &Pauses, name: &str, topic: Option<&str>) -> Result<()> {
    match name {
        "pause" => pauses.pause(topic),
        "resume" => pauses.resume(topic)?,
        name => {
            return Err(
                Error::stop_msg(format!("'{name}' is nothing that a sink does"))
                    .remedy("ask for `pause` or `resume`"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::request_text;

    #[test]
    fn answers_for_people() {
        let text = |all: bool, topics: &[&str]| {
            request_text(&json!({"paused": {"all": all, "topics": topics}, "note": "here"}))
        };
        assert_eq!(text(true, &["a"]), "all topics are paused\nhere\n");
        assert_eq!(text(false, &[]), "nothing is paused\nhere\n");
        assert_eq!(text(false, &["a", "b"]), "paused: a, b\nhere\n");
    }
}
