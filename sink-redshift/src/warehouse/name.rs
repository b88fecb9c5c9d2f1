//! Names in statements and messages: any identifier is legal input.

use std::fmt;

/// An identifier, quoted where it is displayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A table's name with its schema, quoted where it is displayed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Qualified {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl Qualified {
    pub(crate) fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Quoted(&self.schema), Quoted(&self.name))
    }
}

/// A list of identifiers, quoted and separated by commas.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names
        .into_iter()
        .map(|name| Quoted(name).to_string())
        .collect();
    quoted.join(", ")
}

/// A text as an SQL literal, for the statements that a message proposes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{Qualified, literal, quoted_list};

    #[test]
    fn names_are_quoted() {
        let name = Qualified::new("a b", r#"x"y"#);
        assert_eq!(name.to_string(), r#""a b"."x""y""#);
        assert_eq!(quoted_list(["a", "B\"c"]), r#""a", "B""c""#);
        assert_eq!(literal("o'clock"), "'o''clock'");
    }
}
