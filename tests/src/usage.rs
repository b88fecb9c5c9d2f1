//! What a process and the machine have used, as `/proc` tells.

use std::fs;

use anyhow::{Context, Result, bail};

/// The peak resident size in bytes so far (`VmHWM`).
///
/// # Errors
/// There is no such process.
pub fn peak_resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no VmHWM")?
        .parse()?;
    Ok(kib * 1024)
}

/// CPU seconds used so far, user and system.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("unknown form of stat")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / ticks_per_second())
}

/// What all processors together did since the machine started, in seconds: worked, and had nothing to do.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// User, system and interrupts.
    pub busy: f64,
    /// Idle, also while a disk was waited for.
    pub idle: f64,
}

impl Machine {
    /// As of now.
    ///
    /// # Errors
    /// `/proc/stat` has another form.
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [user, nice, system, idle, waiting, hard, soft, ..] = ticks[..] else {
            bail!("unknown form of /proc/stat: {line}");
        };
        let per_second = ticks_per_second();
        Ok(Self {
            busy: (user + nice + system + hard + soft) / per_second,
            idle: (idle + waiting) / per_second,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "100 or so")]
fn ticks_per_second() -> f64 {
    // SAFETY: sysconf(3) takes no pointers.
    #[allow(unsafe_code)]
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    per_second as f64
}
