//! Sessions: from the start order to the stream, one after the other.

pub(crate) mod first_start;
pub(crate) mod gap;
pub(crate) mod hold;
mod lost_topics;
mod pace;
mod selection;
pub(crate) mod session;
pub(crate) mod signals;
pub(crate) mod slot_care;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod streaming;
pub(crate) mod watch;

use std::sync::Arc;

use session::{Carried, Session};
use status::Monitor;
use tributary_postgres::spool::StreamingSwitch;
use tributary_runtime::Error;
use tributary_runtime::cli::Context;

use crate::config::SourceConfig;

/// Runs from the start order to the orderly end at shutdown.
///
/// # Errors
/// Whatever ends a session. With a retry policy a new one may begin: all that counts is in the log, or in `carried`.
pub(crate) async fn session(
    config: &Arc<SourceConfig>,
    monitor: &Arc<Monitor>,
    streaming: &StreamingSwitch,
    context: &Context,
    carried: &mut Carried,
) -> Result<(), Error> {
    metrics::counter!(crate::telemetry::SESSIONS).increment(1);
    context.health.set_phase("connecting");
    let mut session = tokio::select! {
        session = Session::prepare(config, monitor, &context.health, streaming, carried) => session?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    let begun = tokio::select! {
        begun = session.begin() => begun?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    // The slot is a new one.
    carried.publication_gone = None;
    carried.lost_records.clear();
    carried.waiting.is_over();
    Box::pin(streaming::run(session, begun, context)).await
}
