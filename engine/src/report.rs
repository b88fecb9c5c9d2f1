//! `status` for people.

use std::cmp::Reverse;
use std::fmt::Write;

use serde_json::Value;

/// So many topics are shown, those first that somebody should look at.
const SHOWN: usize = 20;
/// A reason is cut behind so many characters; `--output json` has all of it.
const REASON_CHARS: usize = 200;

/// The columns between a topic's name and what it waits for: their heads, and how wide they are.
const COLUMNS: [(&str, usize); 10] = [
    ("part.", 5),
    ("behind", 10),
    ("for", 8),
    ("records/s", 10),
    ("accepted", 12),
    ("older", 10),
    ("diverted", 8),
    ("to log", 15),
    ("to accepted", 15),
    ("to durable", 15),
];

/// What a sink says of itself in `status`, as lines.
pub fn details_text(details: &Value) -> String {
    let mut topics: Vec<&Value> = items(&details["topics"]).iter().collect();
    topics.sort_by_cached_key(|topic| urgency(topic));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = summary(details, &topics, &mut text).and_then(|()| table(&topics, &mut text));
    text
}

/// What waits comes first, then what is furthest behind; what is not known is worse than any number.
fn urgency(topic: &Value) -> (bool, Reverse<u64>, Reverse<u64>, String) {
    let amount = |value: &Value| Reverse(value.as_f64().map_or(u64::MAX, |amount| amount as u64));
    (
        topic["waits_for"].is_null(),
        amount(&topic["lag_seconds"]),
        amount(&topic["lag_records"]),
        name(topic).to_owned(),
    )
}

fn summary(details: &Value, topics: &[&Value], text: &mut String) -> std::fmt::Result {
    let sum = |key: &str| -> Option<u64> { topics.iter().map(|topic| topic[key].as_u64()).sum() };
    let behind = match sum("lag_records") {
        Some(behind) => format!("{behind} records behind"),
        None => "not known how far behind".to_owned(),
    };
    let waiting = topics
        .iter()
        .filter(|topic| !topic["waits_for"].is_null())
        .count();
    writeln!(
        text,
        "topics    {} with {} partitions here, {behind}, {waiting} waiting; {} KiB of records held",
        topics.len(),
        sum("partitions").unwrap_or_default(),
        details["buffered_bytes"].as_u64().unwrap_or_default() / 1024,
    )
}

fn table(topics: &[&Value], text: &mut String) -> std::fmt::Result {
    let shown = &topics[..topics.len().min(SHOWN)];
    let width = shown.iter().map(|topic| name(topic).chars().count()).max();
    let Some(width) = width.map(|width| width.max("topic".len())) else {
        return Ok(());
    };
    write!(text, "{:width$}", "topic")?;
    for (head, width) in COLUMNS {
        write!(text, "  {head:>width$}")?;
    }
    writeln!(text, "  generation")?;
    for topic in shown {
        write!(text, "{:width$}", name(topic))?;
        for (cell, (_, width)) in cells(topic).iter().zip(COLUMNS) {
            write!(text, "  {cell:>width$}")?;
        }
        writeln!(text, "  {}", topic["generation"].as_str().unwrap_or("-"))?;
        if let Some(on) = topic["waits_for"].as_str() {
            let reason = topic["reason"].as_str().map(cut);
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            writeln!(text, "  {}{reason}", spoken(on))?;
        }
    }
    if topics.len() > shown.len() {
        writeln!(
            text,
            "and {} more (--output json has all)",
            topics.len() - shown.len()
        )?;
    }
    writeln!(
        text,
        "to log (from the commit), to accepted, to durable (from the log): half of the last changes measured / 99 % of them"
    )
}

fn cells(topic: &Value) -> [String; COLUMNS.len()] {
    let count = |key: &str| match topic[key].as_u64() {
        Some(count) => count.to_string(),
        None => "?".to_owned(),
    };
    let seconds = match topic["lag_seconds"].as_f64() {
        Some(seconds) => format!("{seconds} s"),
        None => "?".to_owned(),
    };
    [
        count("partitions"),
        count("lag_records"),
        seconds,
        topic["records_per_second"].to_string(),
        count("accepted"),
        count("skipped_as_older"),
        count("diverted"),
        times(&topic["commit_to_log_ms"]),
        times(&topic["log_to_accepted_ms"]),
        times(&topic["log_to_durable_ms"]),
    ]
}

fn times(stretch: &Value) -> String {
    match (stretch["p50"].as_f64(), stretch["p99"].as_f64()) {
        (Some(half), Some(most)) => format!("{half:.0} / {most:.0} ms"),
        _ => "-".to_owned(),
    }
}

/// Who is waited for, as a person says it.
fn spoken(on: &str) -> &str {
    match on {
        "kafka" => "waits for Kafka",
        "registry" => "waits for the schema registry",
        "target" => "waits for the target",
        "dead-letters" => "waits for the dead-letter topic",
        "opening" => "waits for its target to be opened",
        other => other,
    }
}

fn cut(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

fn name(topic: &Value) -> &str {
    topic["topic"].as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::details_text;

    fn topic(
        name: &str,
        lag_records: &Value,
        lag_seconds: &Value,
        waits_for: Option<&str>,
    ) -> Value {
        json!({
            "topic": name, "generation": "1700-ab", "partitions": 3,
            "lag_records": lag_records, "lag_seconds": lag_seconds,
            "waits_for": waits_for, "reason": "write x: no answer",
            "records_per_second": 12.5, "records": 10, "replaced_by_newer": 0,
            "accepted": 9, "skipped_as_older": 2, "diverted": 1,
            "commit_to_log_ms": null, "log_to_accepted_ms": {"p50": 3.2, "p99": 8.0},
            "log_to_durable_ms": {"p50": 3.0, "p99": 8.0},
        })
    }

    #[test]
    fn the_worst_comes_first() {
        let topics = json!([
            topic("well", &json!(0), &json!(0.0), None),
            topic("late", &json!(7), &json!(61.5), None),
            topic("unknown", &Value::Null, &Value::Null, None),
            topic("stuck", &json!(5), &json!(2.0), Some("target")),
        ]);
        let text = details_text(&json!({"buffered_bytes": 2048, "topics": topics}));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "topics    4 with 12 partitions here, not known how far behind, 1 waiting; 2 KiB of records held"
        );
        let first = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        let order: Vec<_> = lines[1..].iter().map(|line| first(line)).collect();
        assert_eq!(
            order,
            ["topic", "stuck", "waits", "unknown", "late", "well", "to"]
        );
        assert_eq!(lines[3], "  waits for the target: write x: no answer");
        assert!(
            lines[5].contains("61.5 s") && lines[5].contains("3 / 8 ms"),
            "{text}"
        );
    }

    #[test]
    fn many_topics_stay_readable() {
        let topics: Vec<_> = (0..500)
            .map(|n| topic(&format!("t{n:03}"), &json!(n), &json!(f64::from(n)), None))
            .collect();
        let text = details_text(&json!({"buffered_bytes": 0, "topics": topics}));
        assert_eq!(text.lines().count(), 24, "{text}");
        assert!(text.lines().nth(2).unwrap().starts_with("t499 "));
        assert!(text.contains("and 480 more"));
        assert_eq!(details_text(&Value::Null).lines().count(), 1);
    }
}
