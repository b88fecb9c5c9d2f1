//! The terminal, where log lines and progress bars share stderr.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// More would fill the screen: others get their bar when these are done.
const MAX_BARS: usize = 12;

/// Set when stderr is a terminal that shows text.
static TERMINAL: OnceLock<MultiProgress> = OnceLock::new();

/// Lets [`Bars`] be drawn from here on, if stderr is a terminal.
pub(super) fn use_terminal() {
    if io::stderr().is_terminal() {
        // An error says that it is in use already.
        let _ = TERMINAL.set(MultiProgress::new());
    }
}

/// Stderr for log lines: they are written above the bars.
#[derive(Debug)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match TERMINAL.get() {
            Some(terminal) => terminal.suspend(|| io::stderr().write(line)),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// How far one piece of work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar<'a> {
    /// What is worked on: a table.
    pub name: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub all: u64,
    /// What to say beside it.
    pub note: String,
}

/// Progress bars on the terminal; nothing where stderr is none, or where the log is JSON.
#[derive(Debug, Default)]
pub struct Bars {
    by_name: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// Shows how far these are; what is not among them any more is done, and its bar vanishes.
    pub fn show<'a>(&mut self, bars: impl Iterator<Item = Bar<'a>>) {
        if let Some(terminal) = TERMINAL.get() {
            self.show_on(terminal, bars.collect());
        }
    }

    fn show_on(&mut self, terminal: &MultiProgress, bars: Vec<Bar<'_>>) {
        self.by_name.retain(|name, shown| {
            let stays = bars.iter().any(|bar| bar.name == name);
            if !stays {
                shown.finish_and_clear();
                terminal.remove(shown);
            }
            stays
        });
        for bar in bars {
            if !self.by_name.contains_key(bar.name) && self.by_name.len() < MAX_BARS {
                let shown = terminal.add(ProgressBar::new(0).with_style(style()));
                shown.set_prefix(bar.name.to_owned());
                self.by_name.insert(bar.name.to_owned(), shown);
            }
            if let Some(shown) = self.by_name.get(bar.name) {
                shown.set_length(bar.all);
                shown.set_position(bar.done);
                shown.set_message(bar.note);
            }
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix:24!} [{bar:30}] {percent:>3}% {bytes}/{total_bytes} {msg}, {eta} left";
    // A constant, and right (a test says so); the plain bar is what there would be without it.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, MultiProgress, ProgressDrawTarget};

    use super::{Bar, Bars};

    fn bar(name: &str, done: u64) -> Bar<'_> {
        let note = format!("{done} rows");
        Bar {
            name,
            done,
            all: 2048,
            note,
        }
    }

    #[test]
    fn a_bar_per_table_which_vanishes_when_it_is_done() {
        let screen = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let terminal = MultiProgress::with_draw_target(target);
        let mut bars = Bars::default();
        bars.show_on(&terminal, vec![bar("s.t", 1024), bar("s.u", 0)]);
        for shown in bars.by_name.values() {
            shown.tick();
        }
        let text = screen.contents();
        assert!(
            text.contains("s.t ") && text.contains(" 50% 1.00 KiB/2.00 KiB 1024 rows"),
            "{text}"
        );
        bars.show_on(&terminal, vec![bar("s.u", 2048)]);
        assert_eq!(bars.by_name.len(), 1);
        assert!(!screen.contents().contains("s.t "), "{}", screen.contents());
        bars.show_on(&terminal, Vec::new());
        assert!(bars.by_name.is_empty());
        bars.show_on(&terminal, (0..50).map(|_| bar("s.t", 1)).collect());
        assert_eq!(bars.by_name.len(), 1);
    }
}
