//! When some of a buffer's records were written to the log.

/// How many are kept: where more come, every second one is given up.
const KEPT: usize = 8;

/// The log's times of some records of a buffer, spread evenly over it. No record costs an allocation.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// Of the records 0, `stride`, 2 × `stride`, …: milliseconds since 1970.
    at_ms: [i64; KEPT],
    len: usize,
    stride: usize,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            at_ms: [0; KEPT],
            len: 0,
            stride: 1,
        }
    }
}

impl Times {
    /// Takes the time of the record at `index`, if it is one of those that are kept. Each index comes once, in order.
    pub(crate) fn note(&mut self, index: usize, time_ms: impl FnOnce() -> Option<i64>) {
        if !index.is_multiple_of(self.stride) {
            return;
        }
        if self.len == KEPT {
            for kept in 0..KEPT / 2 {
                self.at_ms[kept] = self.at_ms[kept * 2];
            }
            self.len = KEPT / 2;
            self.stride *= 2;
        }
        // A broker may keep no times; then there is nothing to measure.
        if let Some(time_ms) = time_ms() {
            self.at_ms[self.len] = time_ms;
            self.len += 1;
        }
    }

    /// The records' indices, and their times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> {
        let kept = self.at_ms[..self.len].iter();
        kept.enumerate()
            .map(|(kept, &time_ms)| (kept * self.stride, time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn a_few_are_kept_however_many_come() {
        let kept = |count: usize| {
            let mut times = Times::default();
            for index in 0..count {
                times.note(index, || i64::try_from(index).ok());
            }
            times.iter().collect::<Vec<_>>()
        };
        assert_eq!(kept(0), []);
        assert_eq!(kept(3), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(kept(9), [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]);
        let many = kept(20_000);
        assert!((4..=8).contains(&many.len()), "{many:?}");
        assert!(
            many.iter()
                .all(|&(index, time)| time == i64::try_from(index).unwrap())
        );
        assert!(many.last().unwrap().0 >= 14_000, "{many:?}");
    }
}
