//! JSON as text, token by token: its numbers keep all their digits, as they would not in a parsed document.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::IgnoredAny;

/// The engines' JSON parser refuses a number literal with more digits, and with it the document.
pub(crate) const NUMBER_BYTES: usize = 1000;

/// `json` with every number literal beyond [`NUMBER_BYTES`] as a string: it then stays in `_source` digit by
/// digit, and a field with `ignore_malformed` passes over it, as over any number beyond a double.
pub(crate) fn quote_long_numbers(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut rest = json;
    while let Some(&first) = rest.first() {
        let (token, after) = rest.split_at(token_length(rest));
        if first != b'"' && token.len() > NUMBER_BYTES {
            out.push(b'"');
            out.extend_from_slice(token);
            out.push(b'"');
        } else {
            out.extend_from_slice(token);
        }
        rest = after;
    }
    out
}

/// Appends a JSON document without blanks between its tokens, so that it stands in one line. Of members of one name the last
/// one is kept, as `jsonb` does: the engines refuse a document with two.
///
/// # Errors
/// It is no JSON: what the parser says, which is no part of the text.
pub(crate) fn compact(json: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json)?;
    let mut open: Vec<Object<'_>> = Vec::new();
    let mut rest = json;
    while let Some(&first) = rest.as_bytes().first() {
        let (token, after) = rest.split_at(token_length(rest.as_bytes()));
        rest = after;
        match first {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'{' => open.push(Object::default()),
            // An array is an object's value, or stands outside of all: what it holds has no names.
            b'[' => open.push(Object::of_items()),
            b'"' => {
                if let Some(object) = open.last_mut() {
                    object.meet(token, out.len());
                }
            }
            b',' => {
                if let Some(object) = open.last_mut() {
                    object.awaits_name = object.has_names;
                }
            }
            b'}' | b']' => {
                if let Some(object) = open.pop() {
                    object.end(out);
                }
            }
            _ => {}
        }
        out.extend_from_slice(token.as_bytes());
    }
    Ok(())
}

/// An object that is being written, or an array.
struct Object<'j> {
    has_names: bool,
    /// The next string is a name.
    awaits_name: bool,
    /// The last member of each name, as a place in `members`.
    last: HashMap<Cow<'j, str>, usize>,
    members: Vec<NamedValue>,
    has_doubles: bool,
}

struct NamedValue {
    /// Where it begins in what is written.
    begin: usize,
    is_kept: bool,
}

impl Default for Object<'_> {
    fn default() -> Self {
        Self {
            has_names: true,
            awaits_name: true,
            last: HashMap::new(),
            members: Vec::new(),
            has_doubles: false,
        }
    }
}

impl<'j> Object<'j> {
    fn of_items() -> Self {
        Self {
            has_names: false,
            awaits_name: false,
            ..Self::default()
        }
    }

    /// A string comes next, at this place.
    fn meet(&mut self, token: &'j str, begin: usize) {
        if !std::mem::take(&mut self.awaits_name) {
            return;
        }
        let earlier = self.last.insert(name_of(token), self.members.len());
        if let Some(earlier) = earlier.and_then(|at| self.members.get_mut(at)) {
            earlier.is_kept = false;
            self.has_doubles = true;
        }
        self.members.push(NamedValue {
            begin,
            is_kept: true,
        });
    }

    /// Takes out what is not kept. The last member always is, so each that goes has a comma behind it, which goes with it.
    fn end(self, out: &mut Vec<u8>) {
        let Some(first) = self.members.first().filter(|_| self.has_doubles) else {
            return;
        };
        let mut to = first.begin;
        let ends = self.members.iter().skip(1).map(|next| next.begin);
        let ends = ends.chain([out.len()]).collect::<Vec<_>>();
        for (member, end) in self.members.iter().zip(ends) {
            if member.is_kept {
                out.copy_within(member.begin..end, to);
                to += end - member.begin;
            }
        }
        out.truncate(to);
    }
}

/// What a string says, by which a member is found again however it is escaped.
fn name_of(token: &str) -> Cow<'_, str> {
    if token.contains('\\')
        && let Ok(name) = serde_json::from_str(token)
    {
        return Cow::Owned(name);
    }
    Cow::Borrowed(token.get(1..token.len() - 1).unwrap_or(token))
}

/// How many bytes the first token of what is left has: a string, a number, or a single letter.
fn token_length(json: &[u8]) -> usize {
    let length = match json.first() {
        Some(b'"') => string_length(json),
        Some(b'-' | b'0'..=b'9') => number_length(json),
        _ => 1,
    };
    length.min(json.len())
}

fn number_length(json: &[u8]) -> usize {
    json.iter()
        .take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
        .count()
}

fn string_length(json: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in json.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{compact, quote_long_numbers};

    fn compacted(json: &str) -> String {
        let mut out = b"[1,".to_vec();
        compact(json, &mut out).unwrap();
        String::from_utf8(out.split_off(3)).unwrap()
    }

    #[test]
    fn numbers_that_the_parser_refuses_become_strings() {
        let digits = "9".repeat(1001);
        let json = format!(r#"[-1.5,{digits},"a \" {digits}",[{{"x":-{digits}.5}}]]"#);
        let quoted: Value = serde_json::from_slice(&quote_long_numbers(json.as_bytes())).unwrap();
        assert_eq!(
            quoted,
            json!([-1.5, digits, format!("a \" {digits}"), [{"x": format!("-{digits}.5")}]])
        );
        let short = format!("[{}]", "9".repeat(1000));
        assert_eq!(quote_long_numbers(short.as_bytes()), short.as_bytes());
    }

    #[test]
    fn a_document_stands_in_one_line_with_its_digits() {
        assert_eq!(
            compacted(
                "{ \"b\" : [ 1.500000000000000000001 , {\"x\":\"a b\"} ],\n\"ä\\n\": null, \"t\":true }"
            ),
            r#"{"b":[1.500000000000000000001,{"x":"a b"}],"ä\n":null,"t":true}"#
        );
        assert_eq!(compacted(" \"x\\\" y\" "), "\"x\\\" y\"");
    }

    #[test]
    fn of_members_of_one_name_the_last_is_kept() {
        assert_eq!(compacted(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
        assert_eq!(
            compacted(
                r#"{"a":{"x":1,"y":[{"x":1,"x":2}]},"b":1,"\u0061":{"x":0,"x":3,"z":4,"x":5},"b":["b","b"]}"#
            ),
            r#"{"\u0061":{"z":4,"x":5},"b":["b","b"]}"#
        );
        // What only looks like a name is none.
        assert_eq!(
            compacted(r#"["a","a",{"v":"a","a":"v"}]"#),
            r#"["a","a",{"v":"a","a":"v"}]"#
        );
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for wrong in ["", "{", "{\"a\":}", "nul", "[1,]", "\"a\nb\"", "1 2"] {
            assert!(compact(wrong, &mut Vec::new()).is_err(), "{wrong}");
        }
    }

    /// Text of a document, with members of one name, and what is left of it: a parser keeps the last one as well.
    fn document() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[a-c\\\\\\\\\\\"{}, ]{0,4}".prop_map(|text| Value::from(text).to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            Just("null".to_owned()),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
                prop::collection::vec(("[ab]|\\\\u006[1-2]", inner), 0..6).prop_map(|members| {
                    let members = members
                        .iter()
                        .map(|(name, value)| format!("\"{name}\" : {value}"));
                    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_is_what_a_parser_makes_of_it(text in document()) {
            let written = compacted(&text);
            let parsed: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&written).unwrap(), &parsed);
            prop_assert!(!written.contains('\n'));
            // Two members of one name would make it longer than the parsed one is, but for how names are escaped.
            let unescaped = written.replace("\\u0061", "a").replace("\\u0062", "b");
            prop_assert_eq!(unescaped.len(), parsed.to_string().len());
        }
    }
}
