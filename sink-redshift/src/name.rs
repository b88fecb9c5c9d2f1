//! Names in SQL text: any Postgres identifier is legal input.

use std::fmt;

use tributary_runtime::Error;

/// What Postgres cuts identifiers at (`NAMEDATALEN - 1`).
const IDENTIFIER_BYTES: usize = 63;

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

    /// Refuses what Postgres would cut short or cannot take at all.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        identifier(&self.schema)?;
        identifier(&self.name)
    }
}

impl fmt::Display for Qualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Quoted(&self.schema), Quoted(&self.name))
    }
}

/// Refuses an identifier that Postgres would cut short or cannot take at all.
pub(crate) fn identifier(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > IDENTIFIER_BYTES || name.contains('\0') {
        return Err(Error::stop_msg(format_args!(
            "'{}' cannot be the name of a schema, table or column: Postgres takes 1 to {IDENTIFIER_BYTES} bytes \
             without NUL",
            name.escape_debug()
        ))
        .remedy("leave the topic out of `topics`, or rename the object at its source"));
    }
    Ok(())
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

    #[test]
    fn names_that_postgres_would_cut_are_refused() {
        assert!(Qualified::new("s", "ä".repeat(31)).validate().is_ok());
        for wrong in ["ä".repeat(32), String::new(), "a\0".to_owned()] {
            assert!(Qualified::new("s", &wrong).validate().is_err(), "{wrong:?}");
            assert!(Qualified::new(wrong, "t").validate().is_err());
        }
    }
}
