//! Names on their way into Avro and Kafka, and back.
//!
//! Any Postgres identifier is legal input, but Avro names and topic names allow few characters.
//! What is legal stays as it is; every other UTF-16 code unit becomes `_uXXXX` (four lower-case
//! hexadecimal digits, the form of Debezium's `avro_unicode`), and so does an underscore that
//! would otherwise be read as the beginning of such an escape. So [`unescape`] gives every
//! identifier back, two identifiers never meet in one name, and names that Debezium escaped
//! (it escapes every underscore) are read as well.

/// The longest name that Kafka accepts for a topic (`org.apache.kafka.common.internals.Topic`).
const MAX_TOPIC_BYTES: usize = 249;

/// A topic name that Kafka would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// The name of a table's topic is too long.
    #[error(
        "the topic of table \"{schema}\".\"{table}\" would have a name of {length} bytes, and Kafka \
         allows {MAX_TOPIC_BYTES}; shorten `kafka.topic_prefix` or rename the table"
    )]
    TooLong {
        /// The table's schema.
        schema: String,
        /// The table.
        table: String,
        /// Bytes of the name, after the escape.
        length: usize,
    },
    /// The prefix is no topic name itself.
    #[error(
        "`kafka.topic_prefix` is '{0}'; use letters, digits, '-', '_' and single dots between them"
    )]
    Prefix(String),
}

/// The name of a column (or any identifier) as an Avro name: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn escape_avro(identifier: &str) -> String {
    escape(identifier, |character, first| {
        character.is_ascii_alphabetic()
            || character == '_'
            || (character.is_ascii_digit() && !first)
    })
}

/// An identifier as one part of a topic name: letters, digits, `-` and `_`. The dot, legal in a
/// topic, separates the parts, hence a dot inside the identifier is escaped.
pub fn escape_topic(identifier: &str) -> String {
    escape(identifier, |character, _| {
        character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
    })
}

/// The identifier that [`escape_avro`], [`escape_topic`] or Debezium's `avro_unicode` escaped.
pub fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = escaped_character(rest).unwrap_or(('_', 1));
        out.push(character);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// The topic of a table: `<prefix>.<schema>.<table>`, unique per table.
///
/// # Errors
/// When the prefix is no legal topic name, or the whole is longer than Kafka allows.
pub fn topic(prefix: &str, schema: &str, table: &str) -> Result<String, TopicNameError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut parts = prefix.split('.');
    if !parts.all(|part| !part.is_empty() && part.chars().all(legal)) {
        return Err(TopicNameError::Prefix(prefix.to_owned()));
    }
    let name = format!("{prefix}.{}.{}", escape_topic(schema), escape_topic(table));
    if name.len() > MAX_TOPIC_BYTES {
        return Err(TopicNameError::TooLong {
            schema: schema.to_owned(),
            table: table.to_owned(),
            length: name.len(),
        });
    }
    Ok(name)
}

/// The Avro namespace of a topic's records: the topic's name, with the characters escaped that a
/// topic may have and an Avro name may not (`-`, and a digit at the beginning of a part).
///
/// Underscores stay as they are: the parts are escaped already, and these two kinds of characters
/// are legal in a topic, so none of the escapes that are there can mean one of them.
pub fn avro_namespace(topic: &str) -> String {
    let mut out = String::with_capacity(topic.len());
    for (index, part) in topic.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        for (at, character) in part.char_indices() {
            if character.is_ascii_alphabetic()
                || character == '_'
                || (character.is_ascii_digit() && at > 0)
            {
                out.push(character);
            } else {
                push_escape(character, &mut out);
            }
        }
    }
    out
}

/// Escapes what `legal` (a character, and whether it is the first) refuses. `legal` must allow
/// ASCII letters, digits after the first place and the underscore: an escape consists of them.
fn escape(identifier: &str, legal: impl Fn(char, bool) -> bool) -> String {
    let mut out = String::with_capacity(identifier.len());
    for (at, character) in identifier.char_indices() {
        let look_alike = character == '_' && escape_unit(&identifier[at..]).is_some();
        if legal(character, at == 0) && !look_alike {
            out.push(character);
        } else {
            push_escape(character, &mut out);
        }
    }
    out
}

fn push_escape(character: char, out: &mut String) {
    use std::fmt::Write as _;
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(out, "_u{unit:04x}");
    }
}

/// The character whose escape `text` begins with, and the bytes that the escape takes. None for
/// half of a surrogate pair: no identifier has that, so it is no escape.
fn escaped_character(text: &str) -> Option<(char, usize)> {
    let unit = escape_unit(text)?;
    if let Some(character) = char::from_u32(u32::from(unit)) {
        return Some((character, 6));
    }
    let low = escape_unit(text.get(6..)?)?;
    let pair = char::decode_utf16([unit, low]).next()?.ok()?;
    Some((pair, 12))
}

/// The UTF-16 code unit whose escape `text` begins with.
fn escape_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("_u")?.get(..4)?;
    let lower_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if !digits.bytes().all(lower_hex) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
