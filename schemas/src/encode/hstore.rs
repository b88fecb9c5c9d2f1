//! `hstore`: its text (`hstore_out`) to a JSON object of strings and nulls, in the text's order.

use std::borrow::Cow;

use super::misfit::Misfit;
use crate::render;

const NO_HSTORE: Misfit = Misfit::text("it is not the text of an hstore");

/// Appends `{"key":"value","other":null}`.
pub(super) fn json(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut rest = std::str::from_utf8(text).map_err(|_| Misfit::value("it is not valid UTF-8"))?;
    out.push(b'{');
    let mut first = true;
    while !rest.is_empty() {
        if !first {
            rest = rest.strip_prefix(", ").ok_or(NO_HSTORE)?;
            out.push(b',');
        }
        first = false;
        let (key, behind) = quoted(rest)?;
        render::json_string(&key, out);
        out.push(b':');
        rest = behind.strip_prefix("=>").ok_or(NO_HSTORE)?;
        if let Some(behind) = rest.strip_prefix("NULL") {
            out.extend_from_slice(b"null");
            rest = behind;
        } else {
            let (value, behind) = quoted(rest)?;
            render::json_string(&value, out);
            rest = behind;
        }
    }
    out.push(b'}');
    Ok(())
}

/// The string that `text` begins with, and what follows; a backslash makes the next character itself.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Misfit> {
    let body = text.strip_prefix('"').ok_or(NO_HSTORE)?;
    let mut string = Cow::Borrowed("");
    let mut rest = body;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(NO_HSTORE)?;
        let (plain, special) = rest.split_at(at);
        string += plain;
        if let Some(behind) = special.strip_prefix('"') {
            return Ok((string, behind));
        }
        let mut escaped = special.chars();
        escaped.next();
        string.to_mut().push(escaped.next().ok_or(NO_HSTORE)?);
        rest = escaped.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::json;

    fn converted(text: &str) -> Option<String> {
        let mut out = Vec::new();
        json(text.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    /// The texts are those that PostgreSQL 15 prints.
    #[test]
    fn an_hstore_becomes_an_object() {
        for (text, json) in [
            ("", "{}"),
            (r#""a"=>"1""#, r#"{"a":"1"}"#),
            (
                r#""a"=>"1", "b"=>NULL, ""=>"""#,
                r#"{"a":"1","b":null,"":""}"#,
            ),
            (r#""NULL"=>"NULL""#, r#"{"NULL":"NULL"}"#),
            (r#""a\"b\\"=>"\\\"=>, ü""#, r#"{"a\"b\\":"\\\"=>, ü"}"#),
            ("\"a\"=>\"x\ny\"", r#"{"a":"x\ny"}"#),
        ] {
            assert_eq!(converted(text).as_deref(), Some(json), "{text}");
            serde_json::from_str::<serde_json::Value>(json).unwrap();
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "a",
            "\"a\"",
            "\"a\"=>",
            "\"a\"=>b",
            "\"a\"=>\"b",
            "\"a\"=>\"b\\",
            "\"a\"=>\"b\",",
            "\"a\"=>\"b\",\"c\"=>NULL",
            "\"a\"=>nul",
            "{}",
        ] {
            assert_eq!(converted(text), None, "{text}");
        }
    }
}
