//! The ledger's meaning: how far each partition has come, in the same transaction as the rows, and who may write a table.

use tributary_engine::{Known, Mark};
use tributary_runtime::Error;

use crate::warehouse::name::Qualified;

/// The form of the ledger and of the tables that it speaks of.
pub(crate) const FORMAT_VERSION: i32 = 2;

/// The ledger, with the service whose rows these are.
pub(crate) struct Ledger {
    name: Qualified,
    service: String,
}

/// A partition's row, as its holder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Raised by every holder: a lower one is a holder of the past.
    pub(crate) epoch: i64,
    /// One past the last record in the target; `None` before the first commit.
    pub(crate) next_offset: Option<i64>,
    /// Whether the partition has ever written into the target table.
    pub(crate) loaded: bool,
}

impl Entry {
    /// Where the partition stands: at the log's beginning before the first commit.
    pub(crate) fn place(&self) -> i64 {
        self.next_offset.unwrap_or(0)
    }
}

/// How far a partition has come with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) partition: i32,
    /// One past the last record.
    pub(crate) next_offset: i64,
}

/// What the ledger's rows of one service and topic say together.
pub(crate) struct Writer {
    pub(crate) service: String,
    pub(crate) topic: String,
    /// Whether any partition has written into its table.
    pub(crate) loaded: bool,
    /// Whether any partition has an offset.
    pub(crate) has_offset: bool,
    /// The newest form of the rows.
    pub(crate) format_version: i32,
    /// Whether all of them speak of the table that is asked for.
    pub(crate) writes_it: bool,
}

/// What the ledger knows about a topic before a partition is taken.
#[derive(Default)]
pub(crate) struct TopicState {
    /// Whether it has an offset of the topic.
    pub(crate) known: bool,
    /// Whether any partition has written into the target table.
    pub(crate) loaded: bool,
}

/// What there is of a target table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    NoTable,
    /// A table; where nobody asked, it may have rows.
    Table,
    Rows,
}

impl Ledger {
    /// The ledger `name`, for the rows of `service`.
    pub(crate) fn new(name: Qualified, service: &str) -> Self {
        Self {
            name,
            service: service.to_owned(),
        }
    }

    /// The ledger's own table.
    pub(crate) const fn name(&self) -> &Qualified {
        &self.name
    }

    /// The service whose rows these are.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// What is known about `topic`. `writers` are it, and all others that write `target`; `forget` is the statement that makes a
    /// service begin a topic anew.
    ///
    /// # Errors
    /// Stop: a newer version has written the ledger, the topic went to another table, or somebody else has this one.
    pub(crate) fn state(
        &self,
        topic: &str,
        target: &Qualified,
        writers: &[Writer],
        forget: impl Fn(&str, &str) -> String,
    ) -> Result<TopicState, Error> {
        let mut state = TopicState::default();
        let mut rival = None;
        for writer in writers {
            self.check_form(writer.format_version)?;
            if writer.service != self.service || writer.topic != topic {
                rival = Some(writer);
                continue;
            }
            if !writer.writes_it {
                return Err(self.moved(topic, target, &forget(&self.service, topic)));
            }
            state.known = writer.has_offset;
            state.loaded = writer.loaded;
        }
        match rival {
            Some(rival) => Err(self.kept_by(target, rival, &forget(&rival.service, &rival.topic))),
            None => Ok(state),
        }
    }

    fn check_form(&self, version: i32) -> Result<(), Error> {
        if version > FORMAT_VERSION {
            return Err(Error::stop_msg(format_args!(
                "the ledger {} has format {version}, this program writes format {FORMAT_VERSION}",
                self.name
            ))
            .remedy("run the newer version of tributary-sink-redshift that wrote it"));
        }
        Ok(())
    }

    fn moved(&self, topic: &str, target: &Qualified, forget: &str) -> Error {
        Error::stop_msg(format_args!(
            "the ledger {} says that topic '{topic}' went to another table than {target}",
            self.name
        ))
        .remedy(format!("give the service a new name, or rebuild: {forget}"))
    }

    fn kept_by(&self, target: &Qualified, rival: &Writer, forget: &str) -> Error {
        let Writer { service, topic, .. } = rival;
        let apart = if *service == self.service {
            "leave one of the two topics to another service, or [warehouse] schema out"
        } else {
            "set [warehouse] schema to a schema of this service's own"
        };
        Error::stop_msg(format_args!(
            "table {target} is kept by service '{service}' from topic '{topic}'"
        ))
        .remedy(format!(
            "{apart}; if nobody writes that topic to it any more: {forget}"
        ))
    }

    /// Whether what the ledger says holds for the table.
    pub(crate) fn known(
        &self,
        topic: &str,
        target: &Qualified,
        (mark, state): (Option<Mark>, &TopicState),
        content: Content,
    ) -> Known {
        match (mark, content) {
            (Some(mark), Content::NoTable) if state.loaded => Known::Unfit {
                generation: Some(mark.generation),
                reason: self.is_gone(topic, target),
            },
            (Some(mark), _) => Known::Marked(mark),
            (None, Content::Rows) => Known::Unfit {
                generation: None,
                reason: format!(
                    "table {target} holds rows, but the ledger {} knows no offset of topic '{topic}': deletes may have \
                     been missed",
                    self.name
                ),
            },
            (None, Content::NoTable | Content::Table) => Known::Nothing,
        }
    }

    /// The table is gone that the ledger's offsets speak of.
    pub(crate) fn is_gone(&self, topic: &str, target: &Qualified) -> String {
        format!(
            "table {target} is gone, but the ledger {} has offsets of topic '{topic}'",
            self.name
        )
    }
}
