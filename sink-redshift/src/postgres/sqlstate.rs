//! The error policy of the warehouse, on one page: what an SQLSTATE means, whether it passes, and what to do.

/// What happens to what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes by itself: tried again.
    Retry,
    /// Somebody must do something first.
    Stop,
    /// A record is at fault, and can never be taken as it is.
    Record,
}

/// A row of the table.
pub(crate) struct Directive {
    /// SQLSTATEs, or what they begin with.
    states: &'static [&'static str],
    pub(crate) verdict: Verdict,
    /// What to do; none where it passes by itself, or where the statement that failed says it.
    pub(crate) remedy: Option<&'static str>,
}

/// What to do about a statement that its time-out has ended.
pub(crate) const TIMED_OUT_REMEDY: &str = "if it lasts, raise [warehouse] statement_timeout_ms";

/// What to do about a lock that another session holds.
pub(crate) const LOCKED_REMEDY: &str =
    "if it lasts, find who holds the lock in pg_locks and pg_stat_activity, and end that session";

/// The table: the first row that has a state decides. docs/operations.md has the same rows for whoever reads a message.
const DIRECTIVES: [Directive; 14] = [
    // A value that Postgres cannot hold; nulls and checks; what is too large for an index, or nested too deeply.
    Directive {
        states: &["22", "23502", "23514", "54000", "54001"],
        verdict: Verdict::Record,
        remedy: None,
    },
    Directive {
        states: &["25006"],
        verdict: Verdict::Retry,
        remedy: Some("let [warehouse] url point to the primary: this server takes no writes"),
    },
    Directive {
        states: &["53300"],
        verdict: Verdict::Retry,
        remedy: Some("raise max_connections or lower [warehouse] max_connections"),
    },
    Directive {
        states: &["55P03"],
        verdict: Verdict::Retry,
        remedy: Some(LOCKED_REMEDY),
    },
    Directive {
        states: &["57014"],
        verdict: Verdict::Retry,
        remedy: Some(TIMED_OUT_REMEDY),
    },
    // The connection, a deadlock or conflict, disk and memory, an object in use, a shutdown, files; a transaction or
    // session that was idle or open for too long.
    Directive {
        states: &[
            "08", "40", "53", "55006", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "58",
        ],
        verdict: Verdict::Retry,
        remedy: None,
    },
    // Not tried again: a server may lock an account after some attempts.
    Directive {
        states: &["28P01"],
        verdict: Verdict::Stop,
        remedy: Some("correct the user in [warehouse] url, or password / password_file"),
    },
    Directive {
        states: &["28"],
        verdict: Verdict::Stop,
        remedy: Some("let pg_hba.conf of the warehouse admit this user, database and host"),
    },
    Directive {
        states: &["3D000", "57P04"],
        verdict: Verdict::Stop,
        remedy: Some("create the database, or correct its name in [warehouse] url"),
    },
    Directive {
        states: &["42501"],
        verdict: Verdict::Stop,
        remedy: None,
    },
    Directive {
        states: &["0A000", "2BP01"],
        verdict: Verdict::Stop,
        remedy: Some(
            "drop what depends on it (a view, a rule), start again, and create it anew afterwards",
        ),
    },
    Directive {
        states: &["23505", "23503", "23P01"],
        verdict: Verdict::Stop,
        remedy: Some(
            "drop the constraint from the target table: rows of different keys arrive in any order",
        ),
    },
    Directive {
        states: &["42"],
        verdict: Verdict::Stop,
        remedy: Some("undo the change that was made to the target table by hand, then start again"),
    },
    // Whatever else there is.
    Directive {
        states: &[""],
        verdict: Verdict::Stop,
        remedy: Some("look the SQLSTATE up in the warehouse's log"),
    },
];

/// The row that decides about a state; the last one takes any.
pub(crate) fn directive(state: &str) -> Option<&'static Directive> {
    DIRECTIVES
        .iter()
        .find(|row| row.states.iter().any(|begin| state.starts_with(begin)))
}

#[cfg(test)]
mod tests {
    use super::{DIRECTIVES, Verdict, directive};

    #[test]
    fn each_state_has_its_verdict() {
        for (verdict, states) in [
            (
                Verdict::Retry,
                "57P01 57P02 57P03 08000 08001 08006 08P01 40001 40P01 55P03 53000 53100 53200 53300 53400 57014 \
                 25006 25P03 25P04 55006 58030",
            ),
            (
                Verdict::Stop,
                "28000 28P01 28XXX 3D000 57P04 42501 42P01 42703 42883 0A000 2BP01 23505 23503 23P01 XX000 54011 57000",
            ),
            (
                Verdict::Record,
                "22001 22003 22P02 22021 23502 23514 54000 54001",
            ),
        ] {
            for state in states.split(' ') {
                let found = directive(state).map(|row| row.verdict);
                assert_eq!(found, Some(verdict), "{state}");
            }
        }
    }

    #[test]
    fn a_state_of_its_own_comes_before_its_class() {
        for (state, part) in [
            ("28P01", "password"),
            ("28000", "pg_hba.conf"),
            ("53300", "max_connections"),
            ("23505", "drop the constraint"),
            ("42P01", "undo the change"),
            ("P0001", "look the SQLSTATE up"),
        ] {
            let remedy = directive(state).and_then(|row| row.remedy);
            assert!(remedy.unwrap().contains(part), "{state}: {remedy:?}");
        }
    }

    #[test]
    fn every_row_of_the_policy_is_documented() {
        let docs = include_str!("../../../docs/operations.md");
        let (_, docs) = docs.split_once("\n### sink-redshift\n").unwrap();
        for row in &DIRECTIVES {
            let states = match row.states {
                [""] => "any other".to_owned(),
                states => states.join(", "),
            };
            let kind = match row.verdict {
                Verdict::Retry => " (tried again)",
                Verdict::Stop => "",
                Verdict::Record => " (the record's fault)",
            };
            let begin = format!("| SQLSTATE {states}{kind} |");
            let line = docs.lines().find(|line| line.starts_with(&begin));
            let line = line.unwrap_or_else(|| panic!("docs/operations.md lacks a row '{begin}'"));
            let remedy = row.remedy.unwrap_or_default();
            assert!(line.contains(remedy), "'{line}' lacks '{remedy}'");
        }
    }
}
