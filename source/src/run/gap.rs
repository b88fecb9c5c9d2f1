//! Whether what progress remembers and what the server offers belong together, with nothing between them.

use std::fmt;

use tributary_runtime::Error;
use tributary_schemas::Lsn;

use crate::config::{OnGap, OnLimit, SnapshotMode, SourceConfig};
use crate::log::progress::Progress;
use tributary_postgres::replication::{SystemIdentity, TimelineHistory};

/// Why changes may be missing from the topics, or be in them and not in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Progress is there, the slot is not.
    SlotMissing { slot: String, behind: Lsn },
    /// The server has given the slot up.
    SlotLost { slot: String, reason: String },
    /// The slot has been moved, or was made anew.
    SlotAhead {
        slot: String,
        confirmed: Lsn,
        progress: Lsn,
    },
    /// Another cluster, as after a restore from a dump.
    OtherServer { found: String, known: String },
    /// What is in the topics was written on a timeline behind the point at which the server left it.
    Diverged {
        timeline: u32,
        known: u32,
        /// Where the server left the timeline that progress knows; none if it never was on it.
        left: Option<Lsn>,
        position: Lsn,
    },
    /// The server is on an earlier timeline than what is in the topics: a primary of old, back beside the new one.
    OldPrimary { timeline: u32, known: u32 },
    /// The server's WAL ends before what is in the topics: an older copy of its data was put back.
    Rewound { end: Lsn, position: Lsn },
    /// These topics were deleted, and are new.
    TopicsRecreated { topics: Vec<String> },
    /// These topics are the same, and lack records that they had acknowledged.
    RecordsLost { topics: Vec<String> },
    /// A publication was not there for a while, or is not now: nothing of that time can be decoded.
    PublicationGone { publication: String },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotMissing { slot, behind } => write!(
                f,
                "slot '{slot}' is gone: the changes behind {behind} are not in the topics and cannot be read any more"
            ),
            Self::SlotLost { slot, reason } => write!(
                f,
                "slot '{slot}' is lost ({reason}): the server has removed what was not read yet"
            ),
            Self::SlotAhead {
                slot,
                confirmed,
                progress,
            } => write!(
                f,
                "slot '{slot}' stands at {confirmed}, progress at {progress}: the changes between are not in the topics"
            ),
            Self::OtherServer { found, known } => write!(
                f,
                "this is another server (system identifier {found}) than the one that progress speaks of ({known})"
            ),
            Self::Diverged {
                timeline,
                known,
                left: Some(left),
                position,
            } => write!(
                f,
                "the server went over to timeline {timeline} at {left} of timeline {known}, but the topics hold its \
                 changes up to {position}: a standby was promoted that had not received them, or a backup restored"
            ),
            Self::Diverged {
                timeline, known, ..
            } => write!(
                f,
                "the server is on timeline {timeline}, which does not come from timeline {known}, which progress speaks of"
            ),
            Self::OldPrimary { timeline, known } => write!(
                f,
                "the server is on timeline {timeline}, the topics already hold changes of timeline {known}: it was the \
                 primary once, and is not any more"
            ),
            Self::Rewound { end, position } => write!(
                f,
                "the server's WAL ends at {end}, before {position}, up to which its changes are in the topics: an older \
                 copy of its data was put back"
            ),
            Self::TopicsRecreated { topics } => write!(
                f,
                "{} deleted and created again: the rows published before are not there any more",
                match &topics[..] {
                    [topic] => format!("topic '{topic}' was"),
                    topics => format!("topics '{}' were", topics.join("', '")),
                }
            ),
            Self::RecordsLost { topics } => write!(
                f,
                "records that were acknowledged are lost in topic '{}': its offsets went back",
                topics.join("', '")
            ),
            Self::PublicationGone { publication } => write!(
                f,
                "publication '{publication}' was dropped: changes behind that are not in the topics and cannot be read \
                 any more, even if it was created again"
            ),
        }
    }
}

impl Gap {
    /// What to do about it by configuration, or because of `run --adopt`: an error where somebody is to decide, else
    /// nothing but a warning.
    ///
    /// # Errors
    /// `on_gap` is `stop`. A primary of old is never gone over to by itself: the new one is waited for.
    pub(crate) fn decide(&self, config: &SourceConfig, adopt: bool) -> Result<(), Error> {
        match config.on_gap {
            _ if adopt => {}
            _ if matches!(self, Self::OldPrimary { .. }) => {
                return Err(Error::retry_msg(self).remedy(
                    "end that server, or make it a standby, and let postgres.url name the new primary; if it is to be the \
                     primary, `tributary-source run --adopt`, once",
                ));
            }
            _ if config.snapshot.mode == SnapshotMode::WhenNeeded => {}
            // A slot that was dropped because it held too much.
            _ if config.slot.on_limit == OnLimit::DropAndResnapshot
                && matches!(self, Self::SlotMissing { .. } | Self::SlotLost { .. }) => {}
            OnGap::Stop => return Err(Error::stop_msg(self).remedy(format!(
                "set on_gap = \"resnapshot\", or `tributary-source run --adopt`, once: {}, and what has vanished meanwhile \
                 vanishes from the topics and the targets; or start over with a new kafka.topic_prefix \
                 (docs/operations.md, 'Gaps')",
                self.reads()
            ))),
            OnGap::Resnapshot => {}
        }
        tracing::warn!(gap = %self, "changes may be missing: {}", self.reads());
        Ok(())
    }

    /// What is read again behind it.
    const fn reads(&self) -> &'static str {
        match self {
            Self::TopicsRecreated { .. } | Self::RecordsLost { .. } => {
                "all rows of the topic's table are read again"
            }
            _ => "every row is read again",
        }
    }
}

/// What the server says of itself and of the slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) slot: &'a str,
    /// The slot's confirmed flush; none without a slot.
    pub(crate) confirmed: Option<Lsn>,
    pub(crate) identity: &'a SystemIdentity,
    pub(crate) history: &'a TimelineHistory,
}

/// Whether this is the server that progress speaks of, or one that came after it.
pub(crate) fn lineage(identity: &SystemIdentity, progress: &Progress) -> Result<(), Gap> {
    if identity.system_id != progress.system_id {
        return Err(Gap::OtherServer {
            found: identity.system_id.clone(),
            known: progress.system_id.clone(),
        });
    }
    if identity.timeline < progress.timeline {
        return Err(Gap::OldPrimary {
            timeline: identity.timeline,
            known: progress.timeline,
        });
    }
    Ok(())
}

/// Compares the offer with progress. Returns up to where the slot may be confirmed on the server's timeline, which is
/// less than progress says where the server left the timeline before that, without a change of ours.
pub(crate) fn find(offer: &Offer<'_>, progress: &Progress) -> Result<Lsn, Gap> {
    let (identity, position) = (offer.identity, &progress.position);
    lineage(identity, progress)?;
    let mut confirm = position.confirm();
    if identity.timeline == progress.timeline {
        let position = position.confirm().max(position.commit_lsn());
        if identity.xlogpos < position {
            let end = identity.xlogpos;
            return Err(Gap::Rewound { end, position });
        }
    } else {
        let left = offer.history.end_of(progress.timeline);
        // The same LSNs are used again from the switch on: a commit at or behind it is not on the server. Rows that
        // were read beside the stream are as new as what is confirmed.
        let reading = progress
            .tables
            .values()
            .any(|table| table.snapshot.is_some());
        let newest = if reading {
            position.commit_lsn().max(position.confirm())
        } else {
            position.commit_lsn()
        };
        let newest = newest.max(position.looked_up());
        match left {
            Some(left) if newest < left => confirm = confirm.min(left),
            left => {
                return Err(Gap::Diverged {
                    timeline: identity.timeline,
                    known: progress.timeline,
                    left,
                    position: newest,
                });
            }
        }
    }
    match offer.confirmed {
        None => Err(Gap::SlotMissing {
            slot: offer.slot.to_owned(),
            behind: confirm,
        }),
        Some(confirmed) if confirmed > confirm => Err(Gap::SlotAhead {
            slot: offer.slot.to_owned(),
            confirmed,
            progress: confirm,
        }),
        Some(_) => Ok(confirm),
    }
}

#[cfg(test)]
mod tests {
    use super::{Gap, Lsn, Offer, Progress, SystemIdentity, TimelineHistory, find};
    use crate::log::progress::Position;

    fn position() -> Position {
        let mut position = Position::at_consistent_point(Lsn::ZERO, 7);
        position.advance(Lsn(0x50), 1).unwrap();
        position.commit(Lsn(0x50), 1, Lsn(0x60));
        position
    }

    /// Progress on timeline 2, its last commit at 0/50, confirmed to 0/60; the server on `timeline`.
    fn compare(timeline: u32, history: &str, confirmed: Option<u64>, end: u64) -> Result<Lsn, Gap> {
        compare_with(position(), timeline, history, confirmed, end)
    }

    fn compare_with(
        position: Position,
        timeline: u32,
        history: &str,
        confirmed: Option<u64>,
        end: u64,
    ) -> Result<Lsn, Gap> {
        let progress = Progress::new("1".to_owned(), 2, position);
        let identity = SystemIdentity {
            system_id: "1".to_owned(),
            timeline,
            xlogpos: Lsn(end),
            dbname: "d".to_owned(),
        };
        let offer = Offer {
            slot: "s",
            confirmed: confirmed.map(Lsn),
            identity: &identity,
            history: &TimelineHistory::parse(history).unwrap(),
        };
        find(&offer, &progress)
    }

    #[test]
    fn a_slot_behind_progress_is_no_gap() {
        for confirmed in [0x10, 0x60] {
            assert_eq!(compare(2, "", Some(confirmed), 0x90), Ok(Lsn(0x60)));
        }
    }

    #[test]
    fn a_slot_that_is_gone_or_ahead_is_a_gap() {
        assert!(matches!(
            compare(2, "", None, 0x90),
            Err(Gap::SlotMissing {
                behind: Lsn(0x60),
                ..
            })
        ));
        assert!(matches!(
            compare(2, "", Some(0x61), 0x90),
            Err(Gap::SlotAhead { .. })
        ));
        assert!(matches!(
            compare(2, "", Some(0x10), 0x5F),
            Err(Gap::Rewound { end: Lsn(0x5F), .. })
        ));
    }

    #[test]
    fn a_timeline_that_left_ours_behind_our_position_is_followed() {
        assert_eq!(
            compare(3, "1 0/20\n2 0/70", Some(0x10), 0x90),
            Ok(Lsn(0x60))
        );
        // What was confirmed behind the last commit held nothing of ours.
        assert_eq!(
            compare(4, "2 0/55\n3 0/80", Some(0x10), 0x90),
            Ok(Lsn(0x55))
        );
        assert!(matches!(
            compare(4, "2 0/55\n3 0/80", Some(0x56), 0x90),
            Err(Gap::SlotAhead { .. })
        ));
    }

    #[test]
    fn a_value_from_behind_the_switch_has_diverged() {
        let looked_up = |lsn| {
            let mut position = position();
            position.look_up_to(Lsn(lsn));
            position
        };
        let compare = |lsn| compare_with(looked_up(lsn), 3, "2 0/70", Some(0x10), 0x90);
        assert_eq!(compare(0x6F), Ok(Lsn(0x60)));
        assert!(matches!(compare(0x71), Err(Gap::Diverged { .. })));
    }

    #[test]
    fn a_timeline_that_left_ours_before_our_position_has_diverged() {
        for (timeline, history) in [(3, "2 0/50"), (3, "2 0/4F"), (3, "1 0/70"), (3, "")] {
            assert!(
                matches!(
                    compare(timeline, history, Some(0x10), 0x90),
                    Err(Gap::Diverged { known: 2, .. })
                ),
                "{timeline} {history}"
            );
        }
        let old = Gap::OldPrimary {
            timeline: 1,
            known: 2,
        };
        assert_eq!(compare(1, "", Some(0x10), 0x90), Err(old));
    }
}
