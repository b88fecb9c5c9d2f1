//! What a server's snapshot sees.

/// A snapshot as `pg_current_snapshot()` prints it: `xmin:xmax:xip,xip,…`, with 64-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerSnapshot {
    xmax: u64,
    in_progress: Vec<u64>,
}

impl ServerSnapshot {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let _xmin: u64 = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let in_progress = match parts.next()? {
            "" => Vec::new(),
            list => list
                .split(',')
                .map(|id| id.parse().ok())
                .collect::<Option<_>>()?,
        };
        Some(Self { xmax, in_progress })
    }

    /// Whether the changes of a committed transaction are visible. A commit is in the WAL a moment before it
    /// leaves the list of those in progress.
    ///
    /// The stream's 32-bit id is widened to the 64-bit id that lies nearest to `xmax`.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half, which the stream's ids are"
        )]
        let distance = xid.wrapping_sub(self.xmax as u32).cast_signed();
        let Some(full) = self.xmax.checked_add_signed(i64::from(distance)) else {
            return false;
        };
        full < self.xmax && !self.in_progress.contains(&full)
    }
}

#[cfg(test)]
mod tests {
    use super::ServerSnapshot;

    #[test]
    fn in_progress_and_future_transactions_are_invisible() {
        let snapshot = ServerSnapshot::parse("100:105:100,103").unwrap();
        for (xid, seen) in [
            (99, true),
            (100, false),
            (101, true),
            (103, false),
            (104, true),
            (105, false),
            (106, false),
        ] {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert!(ServerSnapshot::parse("100:100:").unwrap().sees(99));
        assert_eq!(ServerSnapshot::parse("100:x:"), None);
        assert_eq!(ServerSnapshot::parse("100"), None);
    }

    #[test]
    fn ids_are_widened_across_an_epoch() {
        let epoch = 1_u64 << 32;
        let snapshot = ServerSnapshot {
            xmax: 5 * epoch + 3,
            in_progress: vec![5 * epoch + 1, 5 * epoch - 2],
        };
        assert!(snapshot.sees(u32::MAX), "from the epoch before");
        assert!(
            !snapshot.sees(u32::MAX - 1),
            "in progress, from the epoch before"
        );
        assert!(!snapshot.sees(1) && snapshot.sees(2) && !snapshot.sees(3));
    }
}
