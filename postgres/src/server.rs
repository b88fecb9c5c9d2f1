//! What about a server decides whether a source can run.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tributary_runtime::{Error, ResultExt};

use crate::database::Database;
use crate::output_plugins::{SETTING, entries, statement};
use crate::quote::identifier;

/// What about the server keeps a source from running.
///
/// # Errors
/// It cannot be asked.
pub async fn problems(client: &Client, database: &Database) -> Result<Vec<Error>, Error> {
    let facts = server_facts(client)
        .await
        .map_err(|e| database.explain(e))
        .doing(|| "ask the server for its settings")?;
    let mut problems = Vec::new();
    if facts.version_num < 140_000 {
        problems.push(
            Error::stop_msg(format!(
                "PostgreSQL {} is too old",
                facts.version_num / 10_000
            ))
            .remedy("upgrade to 14 or later"),
        );
    }
    if !facts.can_decode() {
        problems.push(
            Error::stop_msg(format!(
                "wal_level is '{}' on {}",
                facts.wal_level,
                database.address()
            ))
            .remedy("ALTER SYSTEM SET wal_level = 'logical', then restart the server"),
        );
    }
    if !facts.may_replicate {
        let user = database.user();
        problems.push(
            Error::stop_msg(format!("user '{user}' lacks the attribute REPLICATION"))
                .remedy(format!("ALTER ROLE {} REPLICATION", identifier(user))),
        );
    }
    if facts.in_recovery {
        problems.push(
            Error::retry_msg(format!("{} is a standby", database.address()))
                .remedy("let postgres.url name the primary, or all servers of the cluster (postgres://user@a:5432,b:5432/database)"),
        );
    }
    Ok(problems)
}

/// The server's own facts that decide whether a source can run.
#[derive(Debug)]
struct ServerFacts {
    version_num: i32,
    wal_level: String,
    /// Only PostgreSQL 19 and later have it.
    effective_wal_level: Option<String>,
    may_replicate: bool,
    in_recovery: bool,
}

impl ServerFacts {
    /// Whether the WAL holds what a logical slot needs, or will: where there is an `effective_wal_level`, it rises from
    /// `replica` to `logical` with the first logical slot.
    fn can_decode(&self) -> bool {
        match self.wal_level.as_str() {
            "logical" => true,
            "replica" => self.effective_wal_level.is_some(),
            _ => false,
        }
    }
}

/// Reads [`ServerFacts`].
async fn server_facts(client: &Client) -> Result<ServerFacts, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
                (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
                pg_catalog.pg_is_in_recovery(), current_setting('effective_wal_level', true)",
            &[],
        )
        .await?;
    Ok(ServerFacts {
        version_num: row.get(0),
        wal_level: row.get(1),
        effective_wal_level: row.get(4),
        may_replicate: row.get(2),
        in_recovery: row.get(3),
    })
}

/// What is wrong where the list lacks the plug-in; nothing where there is no list, or we do not see it.
///
/// # Errors
/// The server is away.
pub async fn plugin_refusal(
    client: &Client,
    database: &Database,
    plugin: &str,
) -> Result<Option<Error>, Error> {
    // It has no row for who may not see the list; an error would be logged by the server at each of our starts.
    let query = "SELECT setting FROM pg_catalog.pg_settings WHERE name = $1";
    let row = client.query_opt(query, &[&SETTING]).await;
    let Some(row) = row.map_err(|error| database.explain(error))? else {
        return Ok(None);
    };
    let (list, entries): (&str, _) = (row.get(0), entries(row.get(0)));
    if entries.iter().any(|entry| entry == plugin) {
        return Ok(None);
    }
    let refused = Error::stop_msg(format!(
        "{} does not let the output plug-in {plugin} be used: {SETTING} is '{list}'",
        database.address()
    ));
    Ok(Some(refused.remedy(format!(
        "as a superuser: {}",
        statement(plugin, &entries)
    ))))
}

/// Whether there is a list that only superusers and members of `pg_read_all_settings` see, of which we are none.
///
/// # Errors
/// The server is away.
pub async fn plugin_list_is_hidden(client: &Client, database: &Database) -> Result<bool, Error> {
    let query = "SELECT pg_catalog.current_setting($1, true)";
    match client.query_one(query, &[&SETTING]).await {
        Ok(_) => Ok(false),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(true),
        Err(error) => Err(database.explain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::ServerFacts;

    #[test]
    fn a_server_that_raises_its_wal_level_by_itself_can_decode() {
        let can_decode = |wal_level: &str, effective: Option<&str>| {
            let facts = ServerFacts {
                version_num: 190_000,
                wal_level: wal_level.to_owned(),
                effective_wal_level: effective.map(str::to_owned),
                may_replicate: true,
                in_recovery: false,
            };
            facts.can_decode()
        };
        assert!(can_decode("logical", None) && can_decode("logical", Some("logical")));
        assert!(can_decode("replica", Some("replica")) && can_decode("replica", Some("logical")));
        assert!(!can_decode("replica", None));
        assert!(!can_decode("minimal", Some("minimal")));
    }
}
