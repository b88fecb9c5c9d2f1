//! A reindex puts another index in the place of this one: it blocks writes for a moment, which go to the other one behind it.

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
        let (begun, mut has_waited) = (Instant::now(), false);
        loop {
            // One of all writes that wait looks at a time.
            let mut seen = self.handing_over.lock().await;
            let found = self.read().await?;
            let found = found.ok_or_else(|| failure::vanished(&self.alias))?;
            let is_waited_for = *found.write_index == *before && found.is_blocked;
            let Some(handover) = found.handover.filter(|_| is_waited_for) else {
                *seen = None;
                let is_over = *found.write_index != *before || has_waited;
                return if is_over { Ok(()) } else { Err(why) };
            };
            has_waited = true;
            let since = match seen.take() {
                Some((claim, since)) if claim == handover.claim => since,
                _ => Instant::now(),
            };
            if since.elapsed() >= LIFTED_AFTER {
                return self.lift(before, &handover).await;
            }
            *seen = Some((handover.claim, since));
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
        let claimed = self.send(&Request::claim(index, &handover.claim)).await?;
        self.json(&claimed, &doing)?;
        let settings = json!({ (BLOCK): null });
        let lifted = self.put(&[index, "_settings"], settings).await?;
        self.json(&lifted, &doing)?;
        tracing::warn!(
            index,
            to = handover.to,
            "a reindex has blocked writes to the index, to put another one in its place, and has died: the block is lifted; run `reindex` again, which goes on, or `reindex --abandon`"
        );
        Ok(())
    }
}
