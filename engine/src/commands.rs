//! What every sink can be told to do beside `run`.

use clap::Command;

use crate::{letters, plan};

/// For the command line: `dead-letters`, which [`crate::command`] does, and `plan`, which [`crate::plan`] does.
pub fn commands() -> Vec<Command> {
    vec![letters::definition(), plan::definition()]
}
