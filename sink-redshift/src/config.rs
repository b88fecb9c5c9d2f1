//! `[warehouse]`: which database to write to, and how.

use serde::Deserialize;
use tributary_runtime::config::Secret;

/// `[warehouse]`: which database to keep equal to the topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warehouse {
    /// `postgres://user@host:5432/database`; a secret, since it may hold a password.
    pub url: Secret,
    /// The password, if the URL has none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Which SQL the database speaks.
    pub dialect: Dialect,
    /// One schema for all tables and the ledger. By default a table goes to the schema that it has in the
    /// source, and the ledger to `_tributary`.
    #[serde(default)]
    pub schema: Option<String>,
    /// Connections at most, over all partitions.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// The longest that one statement of a batch may take, in milliseconds; its transaction may take twice as long.
    #[serde(default = "default_statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// The longest that a statement may take which works on a whole table (a column is widened, rows below a truncate
    /// are deleted), in milliseconds.
    #[serde(default = "default_rewrite_timeout_ms")]
    pub rewrite_timeout_ms: u64,
}

/// Which SQL a warehouse speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// PostgreSQL 14 or newer.
    Postgres,
    /// Amazon Redshift.
    Redshift,
}

const fn default_max_connections() -> usize {
    8
}

const fn default_statement_timeout_ms() -> u64 {
    300_000
}

/// A day: what takes longer has somebody looking after it.
const fn default_rewrite_timeout_ms() -> u64 {
    86_400_000
}

#[cfg(test)]
mod tests {
    use super::Warehouse;

    #[test]
    fn unknown_keys_and_dialects_are_errors() {
        for toml in [
            "url = 'postgres://db/shop'\ndialect = 'oracle'",
            "url = 'postgres://db/shop'\ndialect = 'postgres'\ntable_prefix = 'x'",
            "url = 'postgres://db/shop'",
        ] {
            assert!(toml::from_str::<Warehouse>(toml).is_err());
        }
    }
}
