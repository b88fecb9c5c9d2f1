//! `tributary-sink-redshift`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tributary_runtime::heap::return_large_buffers();
    tributary_runtime::cli::main::<tributary_sink_redshift::RedshiftSink>()
}
