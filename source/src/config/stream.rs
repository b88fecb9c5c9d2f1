//! What of the stream is published beside the rows, and how it is received.

use serde::Deserialize;
use tributary_runtime::Problem;

use super::SourceConfig;
use tributary_postgres::catalog::PartitionTopics;
use tributary_postgres::plugin::Plugin;

/// What is published beside the tables' rows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// BEGIN and END of every transaction, in `<prefix>.transaction`, and each event's place in its own.
    pub transactions: bool,
    /// Logical messages, in `<prefix>.message`.
    pub messages: bool,
}

impl SourceConfig {
    /// The topic with the beginnings and ends of transactions.
    pub fn transaction_topic(&self) -> String {
        format!("{}.transaction", self.kafka.topic_prefix)
    }

    /// The topic with the logical messages.
    pub fn message_topic(&self) -> String {
        format!("{}.message", self.kafka.topic_prefix)
    }

    pub(super) fn stream_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.postgres.streaming && self.spool.dir.is_none() {
            problems.push(
                Problem::new("`postgres.streaming` is set, and `spool.dir` is not").remedy(
                    "set spool.dir to a folder of the source's own on a local disk, or leave postgres.streaming out",
                ),
            );
        }
        if self.postgres.plugin != Plugin::Pgoutput {
            for (key, wanted) in [
                ("postgres.streaming", self.postgres.streaming),
                ("publish.messages", self.publish.messages),
            ] {
                if wanted {
                    problems.push(
                        Problem::new(format!(
                            "`{key}` needs pgoutput, and postgres.plugin is '{}'",
                            self.postgres.plugin.name()
                        ))
                        .remedy(format!("leave {key} out")),
                    );
                }
            }
        }
        if self.postgres.partitions == PartitionTopics::Leaf
            && self.postgres.plugin != Plugin::Pgoutput
        {
            problems.push(
                Problem::new("`postgres.partitions` is \"leaf\", which wal2json cannot carry")
                    .remedy("set postgres.plugin = \"pgoutput\", or leave partitioned tables out"),
            );
        }
        // Less would not hold one block of the server's (logical_decoding_work_mem, 64 MB by default).
        if self.spool.max_bytes < 1 << 20 {
            problems.push(
                Problem::new("`spool.max_bytes` is out of range").remedy("give it 1 MiB or more"),
            );
        }
        problems
    }
}
