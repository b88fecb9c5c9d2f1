//! Which libraries the server takes as output plug-ins. 14.24, 15.20, 16.15, 17.11, 18.6 and later have a list of them,
//! `output_plugin_libraries`, which holds for everybody and also for slots that exist.

use tokio_postgres::error::SqlState;

use crate::quote::literal;

pub(crate) const SETTING: &str = "output_plugin_libraries";
/// The entries of a list that nobody has changed.
const DEFAULT: [&str; 2] = ["pgoutput", "test_decoding"];
/// Those that a source can ask for.
const OURS: [&str; 2] = ["wal2json", "pgoutput"];

/// What to do about a plug-in that the server has just refused; `None` if its error is another one. The SQLSTATE is that
/// of a missing privilege; in every language the hint names the setting, and the message the plug-in.
pub fn remedy(sqlstate: &str, message: &str, hint: &str) -> Option<String> {
    if sqlstate != SqlState::INSUFFICIENT_PRIVILEGE.code() || !hint.contains(SETTING) {
        return None;
    }
    let plugin = OURS.into_iter().find(|plugin| message.contains(plugin))?;
    let entries = DEFAULT.map(str::to_owned);
    Some(format!(
        "as a superuser: {}; these are the entries of the default: keep what else SHOW {SETTING} lists",
        statement(plugin, &entries)
    ))
}

/// How a plug-in is added to a list, which the statement replaces: each entry a literal of its own, for one literal would
/// be one entry.
pub(crate) fn statement(plugin: &str, entries: &[String]) -> String {
    let all = entries.iter().map(String::as_str).chain([plugin]);
    let literals: Vec<_> = all.map(|entry| literal(entry).trim().to_owned()).collect();
    let literals = literals.join(", ");
    format!("ALTER SYSTEM SET {SETTING} = {literals}, then SELECT pg_reload_conf()")
}

/// The entries of the setting as SHOW prints it: identifiers, quoted where they must be. An empty one is the empty list.
pub(crate) fn entries(list: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let (mut entry, mut quoted) = (String::new(), false);
    let mut rest = list.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                entry.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => entries.push(std::mem::take(&mut entry)),
            space if !quoted && space.is_whitespace() => {}
            other if quoted => entry.push(other),
            other => entry.extend(other.to_lowercase()),
        }
    }
    entries.push(entry);
    entries.retain(|entry| !entry.is_empty());
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_as_the_server_prints_it() {
        assert_eq!(entries("pgoutput, test_decoding"), DEFAULT);
        assert_eq!(
            entries(r#""a b", "we""ird", "back\slash", "a,b", "WAL2JSON",wal2json"#),
            [
                "a b",
                "we\"ird",
                "back\\slash",
                "a,b",
                "WAL2JSON",
                "wal2json"
            ]
        );
        assert!(entries(r#""""#).is_empty() && entries("").is_empty());
    }

    #[test]
    fn the_statement_repeats_every_entry() {
        let of = |list| statement("wal2json", &entries(list));
        assert_eq!(
            of("pgoutput, test_decoding"),
            "ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding', 'wal2json', then SELECT pg_reload_conf()"
        );
        let unusual = of(r#""it's", "back\slash""#);
        assert!(
            unusual.contains(r"= 'it''s', E'back\\slash', 'wal2json', then"),
            "{unusual}"
        );
        assert!(of("").contains("= 'wal2json', then"));
    }

    #[test]
    fn a_refused_plugin_is_no_missing_privilege() {
        let hint = "Falls es sicher ist, fügen Sie sie zu »output_plugin_libraries« hinzu.";
        let refused = remedy("42501", "Bibliothek »wal2json« ist nicht erlaubt", hint);
        assert!(refused.is_some_and(|remedy| remedy.contains("'test_decoding', 'wal2json'")));
        let privilege = "must be superuser or replication role to use replication slots";
        assert_eq!(remedy("42501", privilege, ""), None);
    }
}
