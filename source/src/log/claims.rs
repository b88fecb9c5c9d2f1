//! Which topics other sources have. Two sources with one prefix share its progress topic, whose records name the topics
//! of each.
//!
//! The topics themselves do not tell: `source.name` in their records is the prefix, as Debezium has it, and an empty one
//! says nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::message::Message;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tributary_runtime::{Error, ResultExt};

use crate::config::SourceConfig;
use crate::log::log_end;
use crate::log::progress::source_of;

/// What other sources' records in the progress topic say.
pub(crate) struct Claims {
    config: Arc<SourceConfig>,
    read: Arc<Mutex<Read>>,
}

/// How far the topic is read, and the last record of each key of others.
#[derive(Debug, Default)]
struct Read {
    next: Option<i64>,
    last: BTreeMap<String, Vec<u8>>,
}

/// The part of a progress record that names topics: in the newest format of both records, before of the only one.
#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    tables: BTreeMap<String, IgnoredAny>,
    #[serde(default)]
    changed: BTreeMap<String, IgnoredAny>,
}

impl Claims {
    pub(crate) fn new(config: Arc<SourceConfig>) -> Self {
        Self {
            config,
            read: Arc::default(),
        }
    }

    /// Why some of these topics are not ours to write to, by topic. The progress topic must exist. What was read before is
    /// not read again.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub(crate) async fn of_others(
        &self,
        topics: impl Iterator<Item = String>,
    ) -> Result<BTreeMap<String, Error>, Error> {
        let topics: Vec<String> = topics.collect();
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (config, read) = (Arc::clone(&self.config), Arc::clone(&self.read));
        let owners = tokio::task::spawn_blocking(move || {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            let done = read_on(&config, &mut read);
            if done.is_err() {
                // It may be another topic by now.
                *read = Read::default();
            }
            done.map(|()| owners(&read.last))
        });
        let progress = self.config.progress_topic();
        let owners = owners
            .await
            .map_err(Error::retry)?
            .doing(|| format!("read topic '{progress}'"))?;
        let claimed = topics.into_iter().filter_map(|topic| {
            let owner = owners.get(&topic)?;
            let refusal = refuse(&topic, owner, &progress);
            Some((topic, refusal))
        });
        Ok(claimed.collect())
    }

    /// # Errors
    /// One of these topics is another source's (stop), or Kafka does not answer (retry).
    pub(crate) async fn refuse_those_of_others(
        &self,
        topics: impl Iterator<Item = String>,
    ) -> Result<(), Error> {
        let claimed = self.of_others(topics).await?;
        claimed.into_values().next().map_or(Ok(()), Err)
    }
}

fn refuse(topic: &str, owner: &str, progress: &str) -> Error {
    Error::stop_msg(format!(
        "topic '{topic}' is that of source '{owner}', whose record in topic '{progress}' names it: one topic takes one source"
    ))
    .remedy(format!(
        "set another kafka.topic_prefix, or take the table out of postgres.tables; if this is that source under another \
         name, set name = \"{owner}\" again"
    ))
}

/// The source of each topic that one is named for.
fn owners(last: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for (key, value) in last {
        match serde_json::from_slice::<Named>(value) {
            Ok(Named { tables, changed }) => {
                let topics = tables.into_keys().chain(changed.into_keys());
                owners.extend(topics.map(|topic| (topic, source_of(key).to_owned())));
            }
            Err(error) => {
                tracing::warn!(%error, key, "a record in the progress topic is not one of a source: it is passed over");
            }
        }
    }
    owners
}

/// Reads the topic from where it was read to. Blocks.
fn read_on(config: &SourceConfig, read: &mut Read) -> Result<(), Error> {
    log_end::read_from(config, &config.progress_topic(), read.next, |message| {
        read.next = Some(message.offset() + 1);
        let key = String::from_utf8_lossy(message.key().unwrap_or_default());
        if source_of(&key) != config.name {
            match message.payload() {
                Some(value) => read.last.insert(key.into_owned(), value.to_vec()),
                None => read.last.remove(&*key),
            };
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::owners;

    fn owned(records: &[(&str, &str)]) -> Vec<(String, String)> {
        let records = records.iter();
        let last: BTreeMap<String, Vec<u8>> = records
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        owners(&last).into_iter().collect()
    }

    #[test]
    fn each_format_names_its_topics() {
        let owner = |topic: &str, source: &str| (topic.to_owned(), source.to_owned());
        let second = r#"{"format":2,"position":{},"tables":{"p.s.a":{"oid":1},"p.s.b":{}}}"#;
        assert_eq!(
            owned(&[("one", second)]),
            [owner("p.s.a", "one"), owner("p.s.b", "one")]
        );
        let position = r#"{"format":3,"changed":{"p.s.c":{"oid":2}}}"#;
        let tables = r#"{"format":3,"tables":{"p.s.a":{}}}"#;
        assert_eq!(
            owned(&[("one", position), ("one/tables", tables), ("two", "{}")]),
            [owner("p.s.a", "one"), owner("p.s.c", "one")]
        );
        assert_eq!(owned(&[("one/tables", tables), ("x", "not ours")]).len(), 1);
    }
}
