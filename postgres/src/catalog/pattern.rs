//! Which tables a source takes.

use std::fmt;

/// One entry of `postgres.tables`: `schema.table` or `schema.*`. A name with a dot, a star or a quote in it is
/// written in double quotes, as in SQL: `"my.schema"."a ""table"""`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    schema: String,
    /// `None` for all tables of the schema.
    table: Option<String>,
}

impl TablePattern {
    /// Reads an entry; `None` if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, rest) = part(text)?;
        let rest = rest.strip_prefix('.')?;
        let table = match rest {
            "*" => None,
            rest if rest.starts_with('"') => {
                let (table, rest) = part(rest)?;
                rest.is_empty().then_some(Some(table))?
            }
            // As before there were quotes: all that follows the first dot.
            rest => Some(rest.to_owned())
                .filter(|rest| !rest.is_empty() && rest != "\"")?
                .into(),
        };
        Some(Self { schema, table })
    }

    /// The entry that takes this table and no other.
    pub fn exact(schema: &str, table: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            table: Some(table.to_owned()),
        }
    }

    /// Whether it takes a table.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema == schema && self.table.as_ref().is_none_or(|own| own == table)
    }

    /// Whether it names one table, which must then exist.
    pub const fn is_exact(&self) -> bool {
        self.table.is_some()
    }

    /// The schema whose tables it takes.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The one table that it takes; `None` for all of the schema.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.schema)?;
        f.write_str(".")?;
        match &self.table {
            Some(table) => write_part(f, table),
            None => f.write_str("*"),
        }
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if name.contains(['.', '*', '"']) {
        return write!(f, "\"{}\"", name.replace('"', "\"\""));
    }
    f.write_str(name)
}

/// The name that `text` begins with, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.')?;
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TablePattern;

    #[test]
    fn patterns_match_whole_names() {
        let all = TablePattern::parse("sales.*").unwrap();
        assert!(all.matches("sales", "order") && !all.matches("sale", "order"));
        let one = TablePattern::parse("sales.order").unwrap();
        assert!(one.matches("sales", "order") && !one.matches("sales", "order_line"));
        for wrong in [
            "order", ".x", "s.", "\"s.t", "\"s\"", "\"\".t", "s.\"t\"x", "s.\"\"", "s.\"",
        ] {
            assert_eq!(TablePattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn any_identifier_can_be_named() {
        for (text, schema, table) in [
            ("s.a b", "s", "a b"),
            ("s.a.b", "s", "a.b"),
            ("s.a\"b", "s", "a\"b"),
            ("s.\"*\"", "s", "*"),
            ("\"s.x\".t", "s.x", "t"),
            ("\"s\"\"x\".\"a\"\".\"\"b\"", "s\"x", "a\".\"b"),
        ] {
            let pattern = TablePattern::parse(text).unwrap();
            assert!(
                pattern.is_exact() && pattern.matches(schema, table),
                "{text}"
            );
        }
        let all = TablePattern::parse("\"a.b\".*").unwrap();
        assert!(!all.is_exact() && all.matches("a.b", "*"));
    }
}
