//! All topics of a source.

use tributary_runtime::Error;
use tributary_schemas::table::Table;

use super::metadata::MetadataTopics;
use super::table_topic::topic_spec;
use super::topics::{Cleanup, TopicSpec};
use crate::config::SourceConfig;

/// All topics of a source: one per table, progress, and signals.
pub(crate) fn topic_specs<'a>(
    config: &SourceConfig,
    tables: impl Iterator<Item = &'a Table>,
) -> Result<Vec<TopicSpec>, Error> {
    let progress = TopicSpec {
        name: config.progress_topic(),
        partitions: 1,
        cleanup: Cleanup::CompactSoon,
    };
    let signals = TopicSpec {
        name: config.signals_topic(),
        partitions: 1,
        cleanup: Cleanup::Expire,
    };
    let letters = config.dead_letter_topic().map(|name| TopicSpec {
        name,
        partitions: 1,
        cleanup: Cleanup::KeepLarge,
    });
    [Ok(progress), Ok(signals)]
        .into_iter()
        .chain(MetadataTopics::specs(config).into_iter().map(Ok))
        .chain(letters.map(Ok))
        .chain(tables.map(|table| topic_spec(config, table)))
        .collect()
}
