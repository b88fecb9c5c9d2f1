//! The way by which a server came to its timeline.

use tributary_schemas::Lsn;

/// The content of a timeline's history file: where each of its ancestors was left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineHistory {
    switches: Vec<(u32, Lsn)>,
}

impl TimelineHistory {
    /// Reads the file: a line has the ancestor, the LSN at which it was left, and why; `#` begins a comment.
    pub fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let switches = lines.map(|line| {
            let mut fields = line.split_whitespace();
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        Some(Self {
            switches: switches.collect::<Option<_>>()?,
        })
    }

    /// Where the server's WAL left this timeline: what was written on it from there on is not on the server. `None`
    /// if the timeline is no ancestor of the server's.
    pub fn end_of(&self, timeline: u32) -> Option<Lsn> {
        let mut switches = self.switches.iter();
        switches
            .find(|(ancestor, _)| *ancestor == timeline)
            .map(|(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::{Lsn, TimelineHistory};

    #[test]
    fn a_history_file_is_read() {
        let text = "1\t0/3000098\tno recovery target specified\n\n# by hand\n2\tA/60\tbefore 2026-01-01 00:00:00+00\n";
        let history = TimelineHistory::parse(text).unwrap();
        assert_eq!(history.end_of(1), Some(Lsn(0x0300_0098)));
        assert_eq!(history.end_of(2), Some(Lsn(0xA_0000_0060)));
        assert_eq!(history.end_of(3), None);
        assert_eq!(TimelineHistory::parse(""), Some(TimelineHistory::default()));
        assert_eq!(TimelineHistory::parse("1\tx"), None);
    }
}
