//! No two types of a crate have one name: who reads it elsewhere knows which one is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is declared twice in these files, those of one crate.
pub(crate) fn declared_twice(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut declared: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for (path, text) in files {
        for name in text.lines().filter_map(declares) {
            declared.entry(name).or_default().push(path);
        }
    }
    let twice = declared.into_iter().filter(|(_, places)| places.len() > 1);
    let fault = |(name, places): (&str, Vec<&Path>)| {
        let places: Vec<String> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        format!("the type {name} is declared in {}", places.join(" and "))
    };
    twice.map(fault).collect()
}

/// The type that a line declares. rustfmt leaves what is a file's own at the line's beginning.
fn declares(line: &str) -> Option<&str> {
    let words = line.strip_prefix("pub(").map_or(line, |rest| {
        rest.split_once(") ").map_or("", |(_, rest)| rest)
    });
    let words = words.strip_prefix("pub ").unwrap_or(words);
    let rest = ["struct ", "enum ", "trait ", "union ", "type "]
        .iter()
        .find_map(|keyword| words.strip_prefix(keyword))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

#[cfg(test)]
mod tests {
    use super::declared_twice;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).into(), (*text).to_owned()));
        declared_twice(&files.collect::<Vec<_>>())
    }

    #[test]
    fn two_types_of_one_name_are_found() {
        let files = [
            (
                "a.rs",
                "pub(crate) struct Slot {\n}\nfn f() {\n    struct Local;\n}\ntype Rows = u8;",
            ),
            (
                "b.rs",
                "enum Local {}\npub type Slot<T> = Vec<T>;\ntrait Rows {\n    type Slot;\n}",
            ),
        ];
        let faults = found(&files);
        assert_eq!(
            faults,
            [
                "the type Rows is declared in a.rs and b.rs",
                "the type Slot is declared in a.rs and b.rs"
            ]
        );
        assert!(found(&files[..1]).is_empty());
    }
}
