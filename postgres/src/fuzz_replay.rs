//! The fuzz targets without libFuzzer: all seeds, and some damage done to each.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use crate::targets;
use crate::targets::seeds;

/// Damaged inputs per target; `make fuzz` is for more.
const DAMAGED: usize = 5_000;

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    /// A byte changed, a part cut out or doubled, or two inputs spliced.
    fn damage(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut input = input.to_vec();
        for _ in 0..=self.below(4) {
            let (at, end) = (self.below(input.len() + 1), self.below(input.len() + 1));
            let part = at.min(end)..at.max(end);
            match self.below(5) {
                0 if at < input.len() => input[at] = self.below(256).to_le_bytes()[0],
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => drop(input.drain(part)),
                3 if part.len() < 64 => {
                    let copy = input[part].to_vec();
                    input.splice(at..at, copy);
                }
                _ => {
                    input.truncate(at);
                    input.extend_from_slice(&other[self.below(other.len() + 1)..]);
                }
            }
        }
        input
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    let (_, file) = seeds::FILES
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(file);
    let inputs = seeds::inputs(target, &fs::read_to_string(path).unwrap());
    assert!(inputs.len() >= 50, "only {} seeds", inputs.len());
    for input in &inputs {
        run(input);
    }
    let short: Vec<_> = inputs.iter().filter(|input| input.len() < 4096).collect();
    let mut random = Random(0x5EED);
    for round in 0..DAMAGED {
        let other = short[random.below(short.len())];
        run(&random.damage(short[round % short.len()], other));
    }
}

#[test]
fn pgoutput_survives() {
    replay("pgoutput", targets::pgoutput::run);
}

#[test]
fn wal2json_survives() {
    replay("wal2json", targets::wal2json::run);
}

#[test]
fn values_survive() {
    replay("values", targets::values::run);
}
