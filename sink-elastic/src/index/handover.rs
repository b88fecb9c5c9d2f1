//! A reindex puts another index in the place of this one: it blocks writes for a moment, which go to the other one behind it.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tributary_runtime::{Error, Result};

use super::Index;
use crate::failure;
use crate::requests::Request;
use crate::succession::{BLOCK, Handover};

/// How often is looked whether it is over.
const LOOK: Duration = Duration::from_millis(25);
/// How long a write waits for it by itself; the engine of the sink must stay able to stop.
const WAIT: Duration = Duration::from_secs(2);
/// A reindex that has not ended by then has died. It gives up by itself long before. Counted from when this process has seen it, so
/// that no two clocks are compared.
const LIFTED_AFTER: Duration = Duration::from_secs(20);

impl Index {
    /// Writes to the index `before` are blocked, as `why` says. While that is a reindex which hands over, waits a moment for its end; a
    /// block that one has left behind is lifted.
    ///
    /// # Errors
    /// `why`, where it lasts, or where it is somebody else's block. Otherwise as [`Index::find`].
    pub(crate) async fn wait_out(&self, before: &str, why: Error) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.read().await?;
            let found = found.ok_or_else(|| failure::vanished(&self.alias))?;
            if *found.write_index != *before {
                self.forget_handover();
                return Ok(());
            }
            let Some(handover) = found.handover else {
                return Err(why);
            };
            if !found.is_blocked {
                self.forget_handover();
                // It may be another block.
                tokio::time::sleep(LOOK).await;
                return Ok(());
            }
            if self.seen_for(&handover) >= LIFTED_AFTER {
                self.lift(before, &handover).await?;
                self.forget_handover();
                return Ok(());
            }
            if begun.elapsed() >= WAIT {
                return Err(why.context("a reindex hands over"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lifts the block that a reindex has left on the index `index`, unless it has put the other one in its place.
    ///
    /// # Errors
    /// As [`Index::find`]; retry where the other index has the claim.
    pub(crate) async fn lift(&self, index: &str, handover: &Handover) -> Result<()> {
        let doing = format!("lift the block of '{index}', which a reindex has left");
        // Before the block goes: whatever that reindex still sends, it cannot take the place any more.
        self.send(&Request::claim(index, &handover.claim))
            .await?
            .json(&doing)?;
        let settings = json!({ (BLOCK): null });
        self.put(&[index, "_settings"], settings)
            .await?
            .json(&doing)?;
        tracing::warn!(
            index,
            to = handover.to,
            "a reindex has blocked writes to the index, to put another one in its place, and has died: the block is lifted; run `reindex` again, which goes on, or `reindex --abandon`"
        );
        Ok(())
    }

    /// For how long this process has seen this reindex hand over.
    fn seen_for(&self, handover: &Handover) -> Duration {
        let mut seen = self
            .handing_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = seen.as_ref().filter(|(claim, _)| *claim == handover.claim);
        let since = same.map_or_else(Instant::now, |&(_, since)| since);
        *seen = Some((handover.claim.clone(), since));
        since.elapsed()
    }

    fn forget_handover(&self) {
        *self
            .handing_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }
}
