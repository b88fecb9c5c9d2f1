//! What the command says on stderr while it works: a line that is written anew on a terminal, else one every few seconds.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use tokio::time::Instant;
use tributary_engine::Advance;

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(3);
/// The rate is that of this time.
const RECENT: Duration = Duration::from_secs(10);
const BAR: u64 = 30;

/// Tells how far reading is.
#[derive(Debug)]
pub(crate) struct Teller {
    what: String,
    /// What it counts.
    counted: &'static str,
    is_terminal: bool,
    told_at: Option<Instant>,
    /// When so many offsets were done.
    seen: Vec<(Instant, u64)>,
    has_line: bool,
}

impl Teller {
    /// Of a topic's records.
    pub(crate) fn new(what: &str) -> Self {
        Self::counting("records", what)
    }

    /// Of other things.
    pub(crate) fn counting(counted: &'static str, what: &str) -> Self {
        Self {
            what: what.to_owned(),
            counted,
            is_terminal: stderr().is_terminal(),
            told_at: None,
            seen: Vec::new(),
            has_line: false,
        }
    }

    /// How far it is.
    pub(crate) fn tell(&mut self, advance: &Advance) {
        let now = Instant::now();
        let pause = if self.is_terminal {
            ON_TERMINAL
        } else {
            ELSEWHERE
        };
        if self.told_at.is_some_and(|at| now - at < pause) {
            return;
        }
        self.told_at = Some(now);
        self.seen.push((now, advance.done));
        while self.seen.len() > 2 && self.seen.get(1).is_some_and(|&(at, _)| now - at > RECENT) {
            self.seen.remove(0);
        }
        let text = line(advance, self.counted, self.rate());
        if self.is_terminal {
            self.has_line = true;
            write(&format!("\r\x1b[K{}: {text}", self.what));
        } else {
            write(&format!("{}: {text}\n", self.what));
        }
    }

    fn rate(&self) -> Option<f64> {
        let (&(from, before), &(to, now)) = (self.seen.first()?, self.seen.last()?);
        let seconds = (to - from).as_secs_f64();
        (seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.has_line {
            write("\n");
        }
    }
}

/// Says a line.
pub(crate) fn say(line: &str) {
    write(&format!("{line}\n"));
}

/// What is said once, however often it holds.
#[derive(Debug, Default)]
pub(crate) struct Once(bool);

impl Once {
    /// Says the line, the first time.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if !std::mem::replace(&mut self.0, true) {
            say(&line());
        }
    }
}

/// A closed stderr is no reason to fail.
fn write(text: &str) {
    let mut out = stderr().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn line(advance: &Advance, counted: &str, rate: Option<f64>) -> String {
    let done = advance.done;
    let mut text = match advance.left {
        None => format!("{done} {counted}"),
        Some(left) => {
            let all = done.saturating_add(left).max(1);
            let share = (done as f64 / all as f64).min(1.0);
            let full = (share * BAR as f64) as usize;
            let bar = format!("{:<width$}", "#".repeat(full), width = BAR as usize);
            format!("[{bar}] {:>3}% of {all} {counted}", (share * 100.0) as u64)
        }
    };
    if let Some(rate) = rate {
        text.push_str(&format!(", {} a second", rate as u64));
        if let Some(left) = advance.left.filter(|_| rate >= 1.0) {
            text.push_str(&format!(", {} left", spoken(left as f64 / rate)));
        }
    }
    if let Some(why) = &advance.waits_for {
        text.push_str(&format!("; waits: {why}"));
    }
    text
}

fn spoken(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use tributary_engine::Advance;

    use super::line;

    #[test]
    fn a_line_has_share_rate_time_left_and_what_is_in_the_way() {
        let mut advance = Advance {
            done: 500,
            left: Some(1500),
            waits_for: None,
        };
        assert_eq!(
            line(&advance, "records", Some(100.0)),
            "[#######                       ]  25% of 2000 records, 100 a second, 15 s left"
        );
        advance.left = None;
        advance.waits_for = Some("Kafka is away".to_owned());
        assert_eq!(
            line(&advance, "rows", None),
            "500 rows; waits: Kafka is away"
        );
    }
}
