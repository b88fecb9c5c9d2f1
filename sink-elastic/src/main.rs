//! `tributary-sink-elastic`: keeps a search index per topic equal to its table.

use std::process::ExitCode;

fn main() -> ExitCode {
    tributary_runtime::heap::return_large_buffers();
    tributary_runtime::cli::main::<tributary_sink_elastic::ElasticSink>()
}
