//! A table and its copy that change while they are compared: from a seed, with everything late and out of step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tributary_runtime::Result;
use tributary_schemas::Lsn;

use super::report::Difference;
use super::{Comparison, Held, Image, Limits, Line, Named, Original, Replica, Report};

const LIMITS: Limits = Limits {
    settle: Duration::from_secs(60),
    ids: 1_000,
};

/// A row's number, and its value.
type Change = (u32, Option<u32>);

/// Both sides, and the log between them.
#[derive(Debug, Default)]
struct World {
    /// By key: when it was written, and its value.
    table: BTreeMap<u32, (u64, u32)>,
    log: Vec<(u64, Change)>,
    /// How much of the log is published, and how much of that is in the copy.
    published: usize,
    applied: usize,
    copy: BTreeMap<u32, (i64, u32)>,
    now: u64,
    dice: u64,
    /// Keys that are written to: those below.
    busy: u32,
    /// Of a thousand turns, in how many something is written, published and applied.
    pace: [u64; 3],
    listed: Option<u32>,
}

impl World {
    fn dice(&mut self, sides: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    fn write(&mut self, key: u32, value: Option<u32>) {
        self.now += 1;
        match value {
            Some(value) => self.table.insert(key, (self.now, value)),
            None => self.table.remove(&key),
        };
        self.log.push((self.now, (key, value)));
    }

    fn apply(&mut self) {
        if let Some(&(lsn, (key, value))) = self
            .log
            .get(self.applied)
            .filter(|_| self.applied < self.published)
        {
            match value {
                Some(value) => self.copy.insert(key, (lsn.cast_signed(), value)),
                None => self.copy.remove(&key),
            };
            self.applied += 1;
        }
    }

    /// What happens between two requests.
    fn turn(&mut self) {
        for _ in 0..self.dice(20) {
            let [writes, publishes, applies] = self.pace;
            if self.busy > 0 && self.dice(1_000) < writes {
                let key = u32::try_from(self.dice(self.busy.into())).unwrap();
                let value = (self.dice(3) > 0).then(|| u32::try_from(self.dice(4)).unwrap());
                self.write(key, value);
            }
            if self.dice(1_000) < publishes && self.published < self.log.len() {
                self.published += 1;
            }
            if self.dice(1_000) < applies {
                self.apply();
            }
        }
    }

    fn line(&self, key: u32) -> Option<Line> {
        let (stamp, value) = self.table.get(&key)?;
        Some(Line {
            key: vec![key.to_string()],
            stamp: stamp.to_string(),
            text: Bytes::from(value.to_string()),
        })
    }
}

fn digest(value: u32) -> [u8; 32] {
    [u8::try_from(value).unwrap(); 32]
}

#[derive(Clone)]
struct Side(Arc<Mutex<World>>);

impl Side {
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.lock().unwrap();
        world.turn();
        world
    }
}

impl Original for Side {
    async fn range(&mut self, after: Option<&[String]>, rows: usize) -> Result<Vec<Line>> {
        let world = self.world();
        let from = after.map_or(0, |key| key[0].parse::<u32>().unwrap() + 1);
        let rows = world.table.range(from..).take(rows.min(7));
        Ok(rows.filter_map(|(key, _)| world.line(*key)).collect())
    }

    async fn rows(&mut self, keys: &[&[String]]) -> Result<Vec<Line>> {
        let world = self.world();
        let keys = keys.iter().map(|key| key[0].parse().unwrap());
        Ok(keys.filter_map(|key| world.line(key)).collect())
    }

    async fn position(&mut self) -> Result<Lsn> {
        Ok(Lsn(self.world().now))
    }

    async fn is_published(&mut self, position: Lsn) -> Result<bool> {
        let world = self.world();
        let next = world.log.get(world.published);
        Ok(next.is_none_or(|(lsn, _)| *lsn > position.0))
    }
}

impl Replica for Side {
    type Ends = usize;

    fn image(&self, line: &Line) -> Option<Image> {
        let value: u32 = std::str::from_utf8(&line.text).unwrap().parse().unwrap();
        Some(Image {
            id: line.key[0].clone(),
            digest: (value < 100).then(|| digest(value)),
        })
    }

    async fn read(&mut self, ids: &[&str]) -> Result<Vec<Option<Held>>> {
        let mut held = Vec::new();
        // A copy is read one after the other.
        for id in ids {
            let world = self.world();
            let copy = world.copy.get(&id.parse().unwrap());
            held.push(copy.map(|&(version, value)| Held {
                version,
                digest: digest(value),
            }));
        }
        Ok(held)
    }

    async fn list(&mut self) -> Result<Vec<String>> {
        let mut world = self.world();
        let from = world.listed.map_or(0, |last| last + 1);
        let ids: Vec<u32> = world
            .copy
            .range(from..)
            .take(5)
            .map(|(key, _)| *key)
            .collect();
        world.listed = ids.last().copied().or(world.listed);
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    fn named(&self, id: &str) -> Named {
        Named::Key(vec![id.to_owned()])
    }

    async fn ends(&mut self) -> Result<usize> {
        Ok(self.world().published)
    }

    async fn unread(&mut self, ends: &usize) -> Result<u64> {
        Ok(ends.saturating_sub(self.world().applied) as u64)
    }
}

/// Keys that nobody writes to begin here.
const QUIET: u32 = 30;

fn world(seed: u64, pace: [u64; 3]) -> World {
    let mut world = World {
        dice: seed,
        busy: 0,
        pace,
        ..World::default()
    };
    for key in (0..QUIET).step_by(2).chain(QUIET..QUIET + 40) {
        world.write(key, Some(1));
    }
    world.published = world.log.len();
    while world.applied < world.published {
        world.apply();
    }
    world
}

async fn compare(world: World) -> Report {
    let side = Side(Arc::new(Mutex::new(world)));
    let (mut original, mut replica) = (side.clone(), side);
    let mut tell = |_| {};
    let comparison = Comparison::new(&mut original, &mut replica, LIMITS, &mut tell);
    comparison.run().await.unwrap()
}

fn found(report: &Report, kind: Difference) -> Vec<u32> {
    let found = report.differing.get(&kind).map(|found| found.ids.clone());
    let mut keys: Vec<u32> = found
        .unwrap_or_default()
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    keys.sort_unstable();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_was_planted_is_found_and_nothing_else(
        seed in any::<u64>(),
        pace in (10_u64..200, 250_u64..900, 250_u64..900),
        missing in prop::collection::btree_set(0_u32..10, 0..4),
        changed in prop::collection::btree_set(10_u32..20, 0..4),
        extra in prop::collection::btree_set(50_u32..90, 0..4),
    ) {
        let [missing, changed]: [Vec<u32>; 2] =
            [missing, changed].map(|keys| keys.into_iter().map(|key| key + QUIET).collect());
        let extra: Vec<u32> = extra.into_iter().map(|key| key + QUIET).collect();
        let mut world = world(seed, pace.into());
        world.busy = QUIET;
        for key in &missing {
            world.copy.remove(key);
        }
        for key in &changed {
            world.copy.insert(*key, (-1, 2));
        }
        for key in &extra {
            world.copy.insert(*key, (-1, 2));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let report = runtime.block_on(compare(world));
        prop_assert_eq!(found(&report, Difference::Missing), missing);
        prop_assert_eq!(found(&report, Difference::Changed), changed);
        prop_assert_eq!(found(&report, Difference::Extra), extra);
        prop_assert_eq!(found(&report, Difference::Unfit), Vec::<u32>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn equal_sides_are_clean() {
    let report = compare(world(1, [0; 3])).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.rows, report.copies), (55, 55));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_come_so_far_is_behind_and_not_wrong() {
    for (published, says) in [
        (false, "the source has not published"),
        (true, "1 records yet to write"),
    ] {
        let mut world = world(1, [0; 3]);
        world.write(QUIET, Some(3));
        world.published += usize::from(published);
        let report = compare(world).await;
        assert_eq!(report.differing, BTreeMap::new());
        assert_eq!(report.behind.ids, [QUIET.to_string()]);
        assert!(report.waits_for.unwrap().contains(says));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_without_a_form_is_told_once() {
    let mut world = world(1, [0; 3]);
    let row = world.table.get_mut(&QUIET).unwrap();
    row.1 = 100;
    let report = compare(world).await;
    assert_eq!(found(&report, Difference::Unfit), [QUIET]);
    assert_eq!(report.differing.len(), 1, "{report:?}");
}
