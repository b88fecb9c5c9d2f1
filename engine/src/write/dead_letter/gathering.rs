//! Reads the keys of letters, and what the log has newest of each.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::message::Message;
use tributary_runtime::{Error, Result, ResultExt};

use super::{DeadLetters, LetterTopic, Search};
use crate::flow::fault::says_versioned;
use crate::write::lettered::{LetteredKeys, Pass};
use crate::write::scan::{Ranges, Scan};
use crate::write::stamp::Stamp;

impl DeadLetters {
    /// Makes one pass, apart from the threads that must not be held up.
    pub(super) async fn pass(&self, search: Search) -> Result<Pass> {
        let place = Arc::clone(&self.place);
        let passing = tokio::task::spawn_blocking(move || {
            let keys = place
                .read_keys(&search)
                .doing(|| format!("read the dead-letter topic {}", place.topic))?;
            let at = search.order.at();
            place
                .read_log(&search, keys)
                .doing(|| format!("read {at} again"))
        });
        passing.await.map_err(Error::stop)?
    }
}

impl LetterTopic {
    /// The keys of letters, as many as have room.
    fn read_keys(&self, search: &Search) -> Result<LetteredKeys> {
        let scan = Scan::new(&self.kafka, &self.service, &self.topic)?;
        let at = search.order.at();
        let mut keys = LetteredKeys::new(search.bytes_max, search.keys_max, search.takes_keyless);
        let mut reached: BTreeMap<i32, i64> = search
            .order
            .letters
            .iter()
            .map(|(&partition, &(begin, _))| (partition, begin))
            .collect();
        let mut is_full = false;
        scan.read(&search.order.letters, &search.cancel, |message| {
            let (partition, offset) = (message.partition(), message.offset());
            let ours = Stamp::of(message)
                .filter(|stamp| stamp.partition == at && stamp.service == self.service);
            if let Some(stamp) = ours {
                let letter = (message.key(), message.payload());
                if !keys.add_letter(letter, (partition, offset), stamp.offset) {
                    is_full = true;
                    return ControlFlow::Break(());
                }
                if says_versioned(&stamp.error) {
                    keys.note_versioned();
                }
            }
            reached.insert(partition, offset + 1);
            ControlFlow::Continue(())
        })?;
        if is_full {
            reached.into_iter().for_each(|place| keys.leave(place));
        }
        Ok(keys)
    }

    /// What the log has newest of them.
    fn read_log(&self, search: &Search, mut keys: LetteredKeys) -> Result<Pass> {
        let order = &search.order;
        if let Some(from) = keys.from().filter(|&from| from < search.until) {
            let scan = Scan::new(&self.kafka, &self.service, &order.topic)?;
            let part = Ranges::from([(order.partition, (from, search.until))]);
            let mut room = Ok(());
            scan.read(&part, &search.cancel, |message| {
                keys.take(message);
                room = keys.check_room();
                match room {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            room?;
        }
        Ok(keys.finish(&order.letters, search.until))
    }
}
