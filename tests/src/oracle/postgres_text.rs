//! What Postgres prints, brought to one form with what the topics hold.
//!
//! The form is Postgres' own text, but for floats (the shortest digits of Rust), intervals (months, days and
//! microseconds), bytes (hexadecimal digits), booleans (`true`) and money (a number): there several texts mean one
//! value.

use anyhow::{Context, Result, bail};

use super::avro_time;

/// Brings the text of a value to the canonical form. `type_name` is what `format_type` says; intervals are expected
/// in `IntervalStyle = iso_8601`.
pub(super) fn canonical(type_name: &str, text: &str) -> Result<String> {
    if let Some(item_type) = type_name.strip_suffix("[]") {
        return array(item_type.trim_end_matches("[]"), text);
    }
    let base = type_name.split('(').next().unwrap_or(type_name);
    Ok(match base {
        "double precision" => float(number(text)?),
        "real" => {
            let value: f32 = text
                .parse()
                .with_context(|| format!("{type_name}: {text}"))?;
            float(f64::from(value))
        }
        "interval" => avro_time::interval(text)?,
        "bytea" => text.trim_start_matches("\\x").to_owned(),
        "boolean" => match text {
            "t" => "true".to_owned(),
            "f" => "false".to_owned(),
            other => other.to_owned(),
        },
        // bit(1) travels as a boolean.
        "bit" if matches!(type_name, "bit" | "bit(1)") => (text == "1").to_string(),
        // As lc_monetary=C prints it, or as a numeric.
        "money" => text.replace(['$', ','], ""),
        "point" => point(text)?,
        "vector" | "halfvec" => vector(text)?,
        _ => text.to_owned(),
    })
}

/// A float's canonical text.
pub(super) fn float(value: f64) -> String {
    format!("{value:?}")
}

fn number(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("a float: {text}"))
}

fn point(text: &str) -> Result<String> {
    let inner = text.trim_start_matches('(').trim_end_matches(')');
    let (x, y) = inner.split_once(',').context("not a point")?;
    Ok(format!("({},{})", float(number(x)?), float(number(y)?)))
}

fn vector(text: &str) -> Result<String> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    let items: Result<Vec<_>> = inner
        .split(',')
        .map(|item| Ok(float(number(item)?)))
        .collect();
    Ok(format!("[{}]", items?.join(",")))
}

/// An array's text with each item in its canonical form.
fn array(item_type: &str, text: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    if let Some((bounds, items)) = text.split_once('=').filter(|_| text.starts_with('[')) {
        out.push_str(bounds);
        out.push('=');
        rest = items;
    }
    // box alone is separated by semicolons.
    let delimiter = if item_type == "box" { ';' } else { ',' };
    while let Some(first) = rest.chars().next() {
        if first == '{' || first == '}' || first == delimiter {
            out.push(if first == delimiter { ',' } else { first });
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (item, length) = item(rest, delimiter)?;
        let item = item.map(|item| canonical(item_type, &item)).transpose()?;
        out.push_str(&print_item(item.as_deref()));
        rest = &rest[length..];
    }
    Ok(out)
}

/// The item at the beginning, without its quotes, and how long it is in the text.
fn item(text: &str, delimiter: char) -> Result<(Option<String>, usize)> {
    if !text.starts_with('"') {
        let end = text.find([delimiter, '}']).unwrap_or(text.len());
        let plain = &text[..end];
        return Ok(((plain != "NULL").then(|| plain.to_owned()), end));
    }
    let mut item = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Some(item), at + 1)),
            '\\' => item.extend(characters.next().map(|(_, escaped)| escaped)),
            other => item.push(other),
        }
    }
    bail!("a quote is not closed in an array")
}

/// An item as `array_out` quotes it.
pub(super) fn print_item(item: Option<&str>) -> String {
    const SPECIAL: [char; 11] = [
        '{', '}', ',', '"', '\\', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}',
    ];
    match item {
        None => "NULL".to_owned(),
        Some(text)
            if !text.is_empty()
                && !text.eq_ignore_ascii_case("null")
                && !text.contains(SPECIAL) =>
        {
            text.to_owned()
        }
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// Fields as `record_out` prints them: null is nothing, and quotes are doubled.
pub(super) fn print_record(fields: &[Option<String>]) -> String {
    const SPECIAL: [char; 11] = [
        '(', ')', ',', '"', '\\', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}',
    ];
    let print = |field: &Option<String>| match field {
        None => String::new(),
        Some(text) if !text.is_empty() && !text.contains(SPECIAL) => text.clone(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\"")),
    };
    let fields: Vec<String> = fields.iter().map(print).collect();
    format!("({})", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::{canonical, print_record};

    #[test]
    fn several_texts_of_one_value_are_one() {
        for (type_name, text, expected) in [
            ("real", "0.1", "0.10000000149011612"),
            ("double precision", "1e+20", "1e20"),
            ("bytea", "\\x00ff", "00ff"),
            ("boolean[]", "{t,NULL,f}", "{true,NULL,false}"),
            ("bytea[]", r#"{"\\x00","\\xff"}"#, "{00,ff}"),
            (
                "text[]",
                r#"{{a,"b \"c\""},{NULL,""}}"#,
                r#"{{a,"b \"c\""},{NULL,""}}"#,
            ),
            ("integer[]", "[0:1]={1,2}", "[0:1]={1,2}"),
            ("numeric(4,2)", "1.50", "1.50"),
            ("bit(1)", "1", "true"),
            ("point", "(1,2.5)", "(1.0,2.5)"),
            ("money", "-$1,234.50", "-1234.50"),
        ] {
            assert_eq!(
                canonical(type_name, text).unwrap(),
                expected,
                "{type_name} {text}"
            );
        }
        let fields = [Some("1".to_owned()), None, Some("a \"b\"".to_owned())];
        assert_eq!(print_record(&fields), r#"(1,,"a ""b""")"#);
    }
}
