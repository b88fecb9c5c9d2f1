//! Whether the server takes wal2json, where it does not show its list of output plug-ins to us.

use tokio_postgres::Client;
use tributary_runtime::{Error, Problem};

use crate::config::SourceConfig;
use tributary_postgres::database::Database;
use tributary_postgres::plugin::Plugin;
use tributary_postgres::{output_plugins, server};

/// A slot that goes with its connection.
const TRY: &str = "SELECT pg_catalog.pg_create_logical_replication_slot(
    'tributary_check_' || pg_catalog.pg_backend_pid(), 'wal2json', true)";
/// A plug-in is refused before anything is waited for; one that may be used waits for transactions that run.
const LONG_ENOUGH: &str = "SET statement_timeout = '1s'";

/// The refusal of wal2json, if we do not see the list of those allowed. Whatever else a slot lacks is not said here.
///
/// # Errors
/// The server is away.
pub(super) async fn refused(
    config: &SourceConfig,
    client: &Client,
    database: &Database,
) -> Result<Option<Problem>, Error> {
    if config.postgres.plugin != Plugin::Wal2json
        || !server::plugin_list_is_hidden(client, database).await?
    {
        return Ok(None);
    }
    let own = database.open().await?;
    let limited = own.batch_execute(LONG_ENOUGH).await;
    limited.map_err(|error| database.explain(error))?;
    let Err(error) = own.batch_execute(TRY).await else {
        return Ok(None);
    };
    let remedy = error.as_db_error().and_then(|error| {
        let hint = error.hint().unwrap_or_default();
        output_plugins::remedy(error.code().code(), error.message(), hint)
    });
    Ok(remedy.map(|remedy| {
        let address = database.address();
        let message = format!("{address} does not let the output plug-in wal2json be used");
        Problem::new(message).remedy(remedy)
    }))
}
