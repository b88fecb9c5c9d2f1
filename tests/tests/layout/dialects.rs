//! What any warehouse needs knows no dialect: no driver, no statement, no name of a type, and nothing outside its own folder.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::modules::modules;
use crate::names::arrows;

/// Crates that speak with one kind of server.
const DRIVERS: [&str; 2] = ["postgres_types", "tokio_postgres"];

/// Words of SQL that are no words of a message.
const WORDS: [&str; 33] = [
    "ALTER",
    "BEGIN",
    "COLUMN",
    "COMMIT",
    "CONFLICT",
    "CONSTRAINT",
    "COPY",
    "CREATE",
    "DELETE",
    "DROP",
    "FROM",
    "GRANT",
    "INSERT",
    "INTO",
    "LOCK",
    "MERGE",
    "ROLLBACK",
    "SAVEPOINT",
    "SCHEMA",
    "SELECT",
    "TABLE",
    "TRUNCATE",
    "UPDATE",
    "VACUUM",
    "WHERE",
    "bigint",
    "boolean",
    "bytea",
    "ctid",
    "jsonb",
    "smallint",
    "super",
    "varchar",
];

/// What the module `room` of the crate whose root file is `root` has of a dialect. `text` reads a file, if there is one.
pub(crate) fn dialect_in(
    room: &str,
    root: &Path,
    text: &dyn Fn(&Path) -> Option<String>,
) -> Result<Vec<String>> {
    let is_inside = |path: &[String]| path.first().is_some_and(|first| first == room);
    let mut faults = Vec::new();
    for arrow in arrows(root, text)? {
        if is_inside(&arrow.from) && !is_inside(&arrow.to) {
            faults.push(format!("{}: {room} stands alone", arrow.text));
        }
    }
    let modules = modules(root, text)?;
    let inside = || modules.iter().filter(|(path, _)| is_inside(path));
    ensure!(inside().count() > 1, "there is no module {room}");
    for (_, module) in inside() {
        let file = module.file.display();
        let used = module.uses.iter().map(|used| &used.path);
        let drivers = used.chain(&module.paths).filter_map(|path| path.first());
        for driver in drivers.filter(|name| DRIVERS.contains(&name.as_str())) {
            faults.push(format!("{file}: {room} must not know {driver}"));
        }
        for literal in &module.literals {
            let mut words = literal.split(|c: char| !c.is_alphanumeric());
            if let Some(word) = words.find(|word| WORDS.contains(word)) {
                faults.push(format!(
                    "{file}: '{word}' in {literal} is a dialect's: {room} has no SQL"
                ));
            }
        }
    }
    Ok(faults)
}

mod planted {
    use super::*;

    /// What is found in `warehouse/growth.rs` with this text.
    fn found(growth: &str) -> Vec<String> {
        let files = [
            ("lib.rs", "mod postgres;\nmod warehouse;\nmod config;"),
            ("config.rs", "pub struct Keys;"),
            (
                "postgres.rs",
                "use tokio_postgres::Client;\npub struct Session;\nconst END: &str = \"DROP TABLE t\";",
            ),
            ("warehouse.rs", "mod growth;\nmod target;"),
            ("warehouse/target.rs", "pub struct Target;"),
            ("warehouse/growth.rs", growth),
        ];
        let text = |path: &Path| {
            let file = files
                .iter()
                .find(|(name, _)| Path::new("src").join(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        dialect_in("warehouse", Path::new("src/lib.rs"), &text)
            .expect("the planted crate can be read")
    }

    #[test]
    fn a_dialect_is_found_in_what_any_warehouse_needs() {
        for (growth, fault) in [
            (
                "use crate::postgres::Session;",
                "src/warehouse/growth.rs → src/postgres.rs: Session: warehouse stands alone",
            ),
            (
                "fn f(of: super::super::config::Keys) {}",
                "src/warehouse/growth.rs → src/config.rs: Keys: warehouse stands alone",
            ),
            (
                "use tokio_postgres::types::Type;",
                "src/warehouse/growth.rs: warehouse must not know tokio_postgres",
            ),
            (
                "fn f(row: &tokio_postgres::Row) {}",
                "src/warehouse/growth.rs: warehouse must not know tokio_postgres",
            ),
            (
                "fn f() -> String { format!(\"ALTER TABLE {name}\") }",
                "src/warehouse/growth.rs: 'ALTER' in \"ALTER TABLE {name}\" is a dialect's: warehouse has no SQL",
            ),
            (
                "const TYPE: &str = \"jsonb\";",
                "src/warehouse/growth.rs: 'jsonb' in \"jsonb\" is a dialect's: warehouse has no SQL",
            ),
        ] {
            assert_eq!(found(growth), [fault], "{growth}");
        }
    }

    #[test]
    fn data_messages_comments_and_tests_are_no_dialect() {
        for growth in [
            "use crate::warehouse::target::Target;\nuse tokio::sync::watch;",
            "/// DROP TABLE in a comment.\nstruct Growth {\n    /// SELECT\n    rows: u64, // UPDATE\n}",
            "const WHAT: &str = \"delete the rows of a table\";",
            "#[cfg(test)]\nmod tests { const SQL: &str = \"SELECT 1\"; use crate::postgres::Session; }",
        ] {
            assert_eq!(found(growth), [""; 0], "{growth}");
        }
    }

    #[test]
    fn a_room_that_is_gone_is_found() {
        let text = |path: &Path| (path == Path::new("src/lib.rs")).then(String::new);
        assert!(dialect_in("warehouse", Path::new("src/lib.rs"), &text).is_err());
    }
}
