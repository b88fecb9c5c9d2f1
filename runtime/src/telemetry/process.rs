//! What the kernel says about this process, under the names that Prometheus' client libraries use.

use std::fmt::Write;
use std::fs;

/// Units of `utime` and `stime` in `/proc/PID/stat` per second. The kernel's interface to programs has
/// 100 on every architecture that we build for (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the figures that can be read; on a system without `/proc` there are none.
pub(super) fn render(text: &mut String, service: &str) {
    let version = env!("CARGO_PKG_VERSION");
    gauge(
        text,
        "tributary_build_info",
        "What runs here.",
        format_args!("{{service=\"{service}\",version=\"{version}\"}} 1"),
    );
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(bytes) = status_bytes(&status, "VmRSS:") {
        let help = "Resident memory in bytes.";
        gauge(
            text,
            "process_resident_memory_bytes",
            help,
            format_args!(" {bytes}"),
        );
    }
    if let Some(bytes) = status_bytes(&status, "VmHWM:") {
        let help = "The most resident memory so far, in bytes.";
        gauge(
            text,
            "process_resident_memory_max_bytes",
            help,
            format_args!(" {bytes}"),
        );
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        let help = "User and system CPU time spent, in seconds.";
        metric(
            text,
            "process_cpu_seconds_total",
            "counter",
            help,
            format_args!(" {seconds}"),
        );
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        let count = descriptors.count();
        let help = "Open file descriptors.";
        gauge(text, "process_open_fds", help, format_args!(" {count}"));
    }
}

fn gauge(text: &mut String, name: &str, help: &str, rest: std::fmt::Arguments<'_>) {
    metric(text, name, "gauge", help, rest);
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, rest: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{rest}"
    );
}

/// A line `VmRSS:     1234 kB` of `/proc/PID/status`.
fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Fields 14 and 15 of `/proc/PID/stat`. Field 2 is the program's name in parentheses, and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, status_bytes};

    #[test]
    fn the_kernels_figures() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(1_048_576));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
