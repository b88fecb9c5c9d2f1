//! Which topics a sink reads, and which table a topic carries.

use std::fmt;

use tributary_schemas::name;

use tributary_runtime::Problem;

/// The last part of the two-part names that the source keeps for itself (`<prefix>.progress`, …).
const INTERNAL: [&str; 4] = ["progress", "signals", "transaction", "message"];
const DEAD_LETTER: &str = ".dead-letter";
/// What the names of Debezium's heartbeat topics begin with, unless `topic.heartbeat.prefix` is set.
const HEARTBEAT: &str = "__debezium-heartbeat.";

/// The same, as librdkafka's `topic.blacklist`: regular expressions, separated by commas.
///
/// Names of more parts do not tell: `eu.shop.progress` is the prefix `eu.shop`'s, or the table `progress` of the schema
/// `shop`. Such a topic is read, and what a source has written about itself is passed over (`flow/beside`).
pub(crate) const BLACKLIST: &str =
    r"^[^.]+\.(progress|signals|transaction|message)$,\.dead-letter$,^__debezium-heartbeat\.";

/// The longest name that Kafka accepts.
const MAX_TOPIC_BYTES: usize = 249;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition, counted from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// The table that a topic carries: the topic's last two segments, escapes undone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The table's schema in the source; `public` where the topic has one segment only.
    pub schema: String,
    /// The table's name in the source.
    pub table: String,
}

/// The topics of a sink, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    patterns: Vec<String>,
}

impl Subscription {
    pub(crate) fn new(topics: &[String]) -> Result<Self, Vec<Problem>> {
        let problems: Vec<_> = if topics.is_empty() {
            vec![
                Problem::new("`topics` is empty")
                    .remedy("set `topics` to the topics to read, such as [\"shop.catalog.*\"]"),
            ]
        } else {
            topics.iter().filter_map(|topic| problem(topic)).collect()
        };
        if problems.is_empty() {
            Ok(Self {
                patterns: topics.to_vec(),
            })
        } else {
            Err(problems)
        }
    }

    /// As librdkafka wants it: a name, or a regular expression that begins with `^`.
    pub(crate) fn expressions(&self) -> Vec<String> {
        self.patterns
            .iter()
            .map(|pattern| {
                if is_pattern(pattern) {
                    expression(pattern)
                } else {
                    pattern.clone()
                }
            })
            .collect()
    }

    /// The pattern or name that has a topic read.
    pub(crate) fn matching(&self, topic: &str) -> Option<&str> {
        let mut patterns = self.patterns.iter().map(String::as_str);
        patterns.find(|pattern| is_read(pattern, topic))
    }

    /// The patterns and names of which no topic is there.
    pub(crate) fn without_topic<'a>(&'a self, existing: &[&str]) -> Vec<&'a str> {
        self.patterns
            .iter()
            .map(String::as_str)
            .filter(|pattern| !existing.iter().any(|topic| is_read(pattern, topic)))
            .collect()
    }
}

/// The table that a topic carries: its last two parts, escapes undone.
pub(crate) fn table_of(topic: &str) -> TableName {
    let mut parts = topic.rsplit('.');
    let table = parts.next().unwrap_or(topic);
    TableName {
        schema: name::unescape(parts.next().unwrap_or("public")),
        table: name::unescape(table),
    }
}

/// The first part of a topic's name, or of a pattern that begins with a whole part.
pub(crate) fn literal_prefix(topic: &str) -> Option<&str> {
    let (prefix, _) = topic.split_once('.')?;
    (!prefix.is_empty() && !is_pattern(prefix)).then_some(prefix)
}

/// Whether Kafka takes this name for a topic.
pub(crate) fn is_legal(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= MAX_TOPIC_BYTES
        && topic.bytes().all(is_legal_byte)
        && topic != "."
        && topic != ".."
}

const fn is_legal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '?'])
}

fn is_internal(topic: &str) -> bool {
    let last = topic.split_once('.').map(|(_, rest)| rest);
    topic.ends_with(DEAD_LETTER)
        || topic.starts_with(HEARTBEAT)
        || last.is_some_and(|last| INTERNAL.contains(&last))
}

fn is_read(pattern: &str, topic: &str) -> bool {
    !is_internal(topic) && is_match(pattern, topic)
}

/// Whether this is a topic's name, or a pattern of one.
pub fn is_topic_pattern(topic: &str) -> bool {
    let mut bytes = topic.bytes();
    let is_legal = bytes.all(|byte| is_legal_byte(byte) || matches!(byte, b'*' | b'?'));
    !topic.is_empty() && is_legal && topic.len() <= MAX_TOPIC_BYTES
}

fn problem(topic: &str) -> Option<Problem> {
    if !is_topic_pattern(topic) {
        return Some(
            Problem::new(format!("`topics` has '{topic}', which is no topic name"))
                .remedy("use letters, digits, '.', '_' and '-', and `*` or `?` for a pattern"),
        );
    }
    (!is_pattern(topic) && is_internal(topic)).then(|| {
        Problem::new(format!(
            "`topics` has '{topic}', which is an internal topic and carries no table"
        ))
        .remedy("take it out of `topics`")
    })
}

fn expression(pattern: &str) -> String {
    let mut out = String::from("^");
    for character in pattern.chars() {
        match character {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '.' => out.push_str("\\."),
            other => out.push(other),
        }
    }
    out.push('$');
    out
}

/// Whether a name matches a pattern, in which `*` is any characters and `?` one.
pub fn is_match(pattern: &str, name: &str) -> bool {
    let letters = |text: &str| text.chars().collect::<Vec<_>>();
    matches(&letters(pattern), &letters(name))
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut begin) = (0, 0);
    let mut star = None;
    while begin < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, begin));
                at += 1;
            }
            Some(&letter) if letter == '?' || letter == name[begin] => {
                at += 1;
                begin += 1;
            }
            _ => {
                let Some((star_at, star_begin)) = star else {
                    return false;
                };
                star = Some((star_at, star_begin + 1));
                at = star_at + 1;
                begin = star_begin + 1;
            }
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}

#[cfg(test)]
mod tests {
    use super::{Subscription, is_internal, is_match, table_of};

    fn subscription(topics: &[&str]) -> Subscription {
        let topics: Vec<_> = topics.iter().map(|&topic| topic.to_owned()).collect();
        Subscription::new(&topics).unwrap()
    }

    #[test]
    fn patterns_become_anchored_expressions() {
        let expressions = subscription(&["shop.catalog.*", "shop.sales.order", "a-b.?_c.*x"]);
        assert_eq!(
            expressions.expressions(),
            [
                "^shop\\.catalog\\..*$",
                "shop.sales.order",
                "^a-b\\.._c\\..*x$"
            ]
        );
    }

    #[test]
    fn patterns_match_as_their_expressions_do() {
        let existing = [
            "shop.catalog.product",
            "shop.progress",
            "shop.x.dead-letter",
        ];
        for (pattern, is_there) in [
            ("shop.*", true),
            ("shop.catalog.*", true),
            ("*.product", true),
            ("shop.catalog.produc?", true),
            ("shop.catalog.product?", false),
            ("shop.catalog", false),
            ("shop.catalog.product", true),
            ("*.progress", false),
            ("shop.x.*", false),
            ("s*o*p*t", true),
            ("s*o*p*x", false),
        ] {
            let missing = subscription(&[pattern]).without_topic(&existing).len();
            assert_eq!(missing == 0, is_there, "{pattern}");
        }
    }

    #[test]
    fn a_question_mark_is_one_letter_however_many_bytes_that_has() {
        assert!(is_match("n?me", "näme") && !is_match("n?me", "nme"));
    }

    #[test]
    fn a_table_may_have_the_name_of_an_internal_topic() {
        assert!(is_internal("shop.progress"));
        assert!(is_internal("shop.sink.dead-letter"));
        assert!(is_internal("__debezium-heartbeat.eu.shop"));
        assert!(!is_internal("shop.catalog.progress"));
        assert!(Subscription::new(&["shop.signals".to_owned()]).is_err());
    }

    #[test]
    fn the_table_is_the_end_of_the_topic() {
        let table = table_of("eu.shop.catalog.a_u0020b");
        assert_eq!(
            (table.schema.as_str(), table.table.as_str()),
            ("catalog", "a b")
        );
        assert_eq!(table_of("orders").schema, "public");
    }
}
