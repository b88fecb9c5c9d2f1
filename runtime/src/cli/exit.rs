//! The exit codes of every service.

/// Done, or stopped by SIGTERM or SIGINT after an orderly shutdown.
pub const OK: u8 = 0;
/// Stopped by an error; its message is on stderr.
pub const STOPPED: u8 = 1;
/// The command line or the configuration is wrong; nothing was started.
pub const USAGE: u8 = 2;
/// `check` found problems; `status` found the service not alive, not ready, or with warnings.
pub const PROBLEMS: u8 = 3;
/// The shutdown did not end within `shutdown_timeout_ms`, or was cut short by a second signal.
pub const CUT_OFF: u8 = 4;
/// A command that destroys something has said what, and done nothing: `--yes` is missing.
pub const UNCONFIRMED: u8 = 5;
