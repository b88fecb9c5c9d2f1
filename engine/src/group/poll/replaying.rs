//! Letters are replayed in a partition that was let go as for a pause, before it is taken again.

use std::sync::Arc;

use tributary_runtime::Result;

use super::Poll;
use super::turning::Turning;
use crate::cluster::Cluster;
use crate::group::commit;
use crate::group::member::Member;
use crate::target::Target;
use crate::write::hold::Hold;
use crate::write::replay::{Counts, Fate, Ticket};

impl<T: Target, M: Member, C: Cluster> Poll<T, M, C> {
    /// Goes on with what somebody has asked to be replayed.
    pub(super) fn replay(&mut self) -> Result<()> {
        // The group would take what is let go here for the answer that it waits for.
        if self.revocation.is_some() || self.drains_until.is_some() {
            return Ok(());
        }
        let next = || {
            let ticket = self.instance.lasting.replays.next()?;
            Some(Turning {
                ticket,
                leaving: None,
            })
        };
        let Some(turning) = self.turning.take().or_else(next) else {
            return Ok(());
        };
        let partition = turning.ticket.order.at();
        let Some(holding) = self.holdings.get(&partition) else {
            let state = match self.pausing.has(&partition) {
                true => Fate::Paused,
                false => Fate::NotHeld,
            };
            turning.ticket.end(state, None, Counts::default());
            return Ok(());
        };
        let hold = Arc::clone(&holding.hold);
        let leaves = turning.leaving.as_ref();
        if leaves.is_some_and(|leaving| Arc::ptr_eq(leaving, &hold)) {
            if !hold.has_left() {
                self.turning = Some(turning);
                return Ok(());
            }
            return self.take_for_replay(turning.ticket);
        }
        let may_leave = holding.is_fetched && !holding.is_leaving;
        if may_leave {
            self.leave(std::slice::from_ref(&partition));
        }
        self.turning = Some(Turning {
            ticket: turning.ticket,
            leaving: may_leave.then_some(hold),
        });
        Ok(())
    }

    /// The partition is drained. It is taken again by the lane that has it.
    fn take_for_replay(&mut self, ticket: Ticket) -> Result<()> {
        let partition = ticket.order.at();
        let at = std::slice::from_ref(&partition);
        // Where the target keeps no offsets, it is where the group says: no letter may be older than that.
        commit::synchronously(&self.member, &mut self.holdings, at);
        self.instance.status.clear(&partition.topic);
        self.member.unassign(at)?;
        if self.instance.lasting.pauses.has(&partition.topic) {
            let gone = self.holdings.remove(&partition);
            let accounts = &self.instance.lasting.accounts;
            self.pausing.park(gone, &mut self.fetching, accounts);
            ticket.end(Fate::Paused, None, Counts::default());
            self.report_holdings();
            return Ok(());
        }
        tracing::info!(%partition, "is taken again, to replay letters");
        self.open_as(Hold::for_replay(partition), Some(ticket));
        Ok(())
    }
}
