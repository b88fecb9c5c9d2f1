//! What START_REPLICATION asks of wal2json.

use crate::catalog::TablePattern;

/// The options of a slot's stream.
///
/// Tables are chosen by name, at the time of the change: `patterns` are those of `postgres.tables`. `prefixes` are those of the logical messages that are wanted.
pub(crate) fn options(patterns: &[String], prefixes: &[&str]) -> Vec<(&'static str, String)> {
    let list = |names: Vec<String>| names.join(",");
    // The configuration refuses an entry of another form.
    let tables = patterns.iter().filter_map(|text| TablePattern::parse(text));
    let tables = tables.map(|pattern| table(&pattern)).collect();
    let prefixes = prefixes.iter().map(|prefix| escaped(prefix)).collect();
    let mut options: Vec<_> = [
        "include-xids",
        "include-timestamp",
        "include-lsn",
        "include-pk",
        "include-types",
        "include-typmod",
        "include-type-oids",
        "include-transaction",
        "include-schemas",
    ]
    .map(|name| (name, "true".to_owned()))
    .to_vec();
    options.extend([
        ("format-version", "2".to_owned()),
        ("actions", "insert,update,delete,truncate".to_owned()),
        ("add-tables", list(tables)),
        ("add-msg-prefixes", list(prefixes)),
    ]);
    options
}

/// `schema.table`, or `schema.*` for all of a schema.
fn table(pattern: &TablePattern) -> String {
    let table = pattern.table().map_or_else(|| "*".to_owned(), escaped);
    format!("{}.{table}", escaped(pattern.schema()))
}

/// A backslash before whatever could separate names or stand for all of them.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() && character != '_' {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn names_are_escaped() {
        let patterns = ["s.*", "a b.c,d", "*.x\\y", "ü.Näme"].map(str::to_owned);
        let options = options(&patterns, &["tributary", "a,b"]);
        let of = |wanted| &options.iter().find(|(name, _)| *name == wanted).unwrap().1;
        assert_eq!(of("add-tables"), r"s.*,a\ b.c\,d,\*.x\\y,ü.Näme");
        assert_eq!(of("add-msg-prefixes"), r"tributary,a\,b");
        assert_eq!(of("format-version"), "2");
    }

    #[test]
    fn quoted_names_are_asked_for_as_the_catalog_has_them() {
        let patterns = [
            r#""my.schema".t"#,
            r#""my.schema".*"#,
            r#"s."*""#,
            r#"s."a""b.c""#,
            "s.a.b",
        ];
        let options = options(&patterns.map(str::to_owned), &[]);
        let asked = &options.iter().find(|(name, _)| *name == "add-tables");
        assert_eq!(
            asked.unwrap().1,
            r#"my\.schema.t,my\.schema.*,s.\*,s.a\"b\.c,s.a\.b"#
        );
    }
}
