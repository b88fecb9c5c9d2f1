use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Inbox, Taken};
use crate::config::BatchConfig;
use crate::flow::records::tests::message;

fn inbox(config: BatchConfig, budget: &Arc<Budget>) -> Inbox {
    Inbox::new(config, Arc::clone(budget))
}

fn config(bytes: usize, rows: usize, linger_ms: u64) -> BatchConfig {
    BatchConfig {
        bytes,
        rows,
        linger_ms,
        ..BatchConfig::default()
    }
}

fn lengths(taken: &Taken) -> Vec<(i32, usize)> {
    taken
        .iter()
        .map(|(partition, records)| (*partition, records.len()))
        .collect()
}

static IDLE: BTreeSet<i32> = BTreeSet::new();

#[tokio::test(start_paused = true)]
async fn a_batch_closes_by_rows_or_by_linger() {
    let budget = Arc::new(Budget::new(1 << 20));
    let inbox = inbox(config(1 << 20, 2, 3_600_000), &budget);
    for offset in 0..5 {
        assert!(inbox.push(0, &message(offset, None, Some(b"v"), &[])));
    }
    assert_eq!(lengths(&inbox.next(&IDLE).await), [(0, 2)]);
    assert_eq!(inbox.next(&IDLE).await[0].1.next_offset(), Some(4));
    // The fifth record waits for the linger time.
    let waiting = tokio::time::timeout(Duration::from_millis(1), inbox.next(&IDLE));
    assert!(waiting.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_records_of_all_partitions_in_turn() {
    let budget = Arc::new(Budget::new(1 << 20));
    let inbox = inbox(config(1_000, 5_000, 0), &budget);
    for partition in [0, 1, 2] {
        for offset in 0..2 {
            inbox.push(partition, &message(offset, None, Some(&[0; 250]), &[]));
        }
    }
    // Two records take 756 bytes with their overhead.
    assert_eq!(lengths(&inbox.next(&IDLE).await), [(0, 2)]);
    assert_eq!(lengths(&inbox.next(&BTreeSet::from([1])).await), [(2, 2)]);
    assert_eq!(lengths(&inbox.next(&IDLE).await), [(1, 2)]);
    for partition in [0, 1, 2, 3] {
        inbox.push(partition, &message(2, None, Some(b"v"), &[]));
    }
    assert_eq!(
        lengths(&inbox.next(&BTreeSet::from([3])).await),
        [(2, 1), (0, 1), (1, 1)],
        "those that are not busy, beginning behind the one served last"
    );
}

#[tokio::test(start_paused = true)]
async fn beside_another_write_a_batch_waits_to_be_filled_but_not_for_long() {
    let budget = Arc::new(Budget::new(1 << 20));
    let inbox = inbox(config(1 << 20, 5_000, 0), &budget);
    inbox.push(0, &message(0, None, Some(b"v"), &[]));
    let busy = BTreeSet::from([7]);
    let short = tokio::time::timeout(Duration::from_millis(50), inbox.next(&busy));
    assert!(short.await.is_err());
    let longer = tokio::time::timeout(Duration::from_millis(60), inbox.next(&busy));
    assert_eq!(lengths(&longer.await.unwrap()), [(0, 1)]);
}

#[tokio::test]
async fn a_lane_is_full_at_its_share_until_batches_are_released() {
    let budget = Arc::new(Budget::new(400_000));
    let inbox = inbox(config(1 << 20, 5_000, 0), &budget);
    let other = super::tests::inbox(config(1 << 20, 5_000, 0), &budget);
    let mut count = 0;
    while inbox.push(0, &message(count, None, Some(&[0; 10_000]), &[])) {
        count += 1;
    }
    // 320,000 bytes of 400,000.
    assert_eq!(count, 31);
    assert!(!inbox.has_room());
    assert!(other.push(0, &message(0, None, Some(b"v"), &[])));

    let taken = inbox.next(&IDLE).await;
    assert!(!inbox.has_room(), "what is being written counts");
    inbox.release(taken[0].1.bytes());
    assert!(inbox.has_room());
    inbox.push(1, &message(0, None, Some(b"v"), &[]));
    inbox.forget(1);
    drop((inbox, other));
    assert_eq!(budget.held(), 0);
}
