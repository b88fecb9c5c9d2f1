//! How a server that is gone without a word is noticed, on every connection.

use std::time::Duration;

/// While nothing is under way by a probe, else by what it does not
/// acknowledge.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const KEEPALIVE_RETRIES: u32 = 3;
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
