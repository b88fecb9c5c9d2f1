use tributary_schemas::Lsn;

use super::{Monitor, details_text};
use crate::log::outbox::{Outbox, Record};
use crate::log::progress::{Position, Progress, TableProgress};
use crate::log::progress::{RelationRanges, SnapshotRequest, TableSnapshot};
use tributary_postgres::ctid::{Tid, TidRange};
use tributary_postgres::slot::Slot;

fn slot() -> Slot {
    Slot {
        database: Some("d".to_owned()),
        active: true,
        active_pid: Some(7),
        restart: Some(Lsn(1000)),
        confirmed_flush: Some(Lsn(5000)),
        wal_status: Some("reserved".to_owned()),
        safe_wal_bytes: None,
        wal_end: Some(Lsn(5000 + 3 * 1024 * 1024)),
        ..Slot::default()
    }
}

/// Records of one table, each with its tombstone.
fn outbox(count: usize) -> Outbox {
    let topic = std::sync::Arc::from("p.s.t");
    let record = |value| Record {
        topic: std::sync::Arc::clone(&topic),
        partition: 0,
        key: Some(0..0),
        value,
        seq: 1,
        max_batch_bytes: usize::MAX,
        headers: Vec::new(),
    };
    let records = (0..count).flat_map(|_| [record(Some(0..0)), record(None)]);
    Outbox {
        records: records.collect(),
        ..Outbox::default()
    }
}

fn progress() -> Progress {
    let mut snapshot = TableSnapshot::requested(SnapshotRequest::default(), 9);
    let mut relation = RelationRanges::unread(1, 2, 100);
    relation.finish(TidRange {
        after: Tid::ZERO,
        to: Some(Tid(25, 0)),
    });
    snapshot.relations = Some(vec![relation]);
    snapshot.rows = 500;
    let table = TableProgress {
        table: "s.t".to_owned(),
        oid: 9,
        partitions: 1,
        key_schema_id: Some(4),
        topic_id: None,
        followed: crate::log::progress::Followed::default(),
        snapshot: Some(snapshot),
    };
    let position = Position::at_consistent_point(Lsn(5000), 12);
    let mut progress = Progress::new("1".to_owned(), 1, position);
    progress.tables.insert("p.s.t".to_owned(), table);
    progress
}

#[test]
fn details_say_where_slot_position_tables_and_snapshot_are() {
    let monitor = Monitor::new("shop", "tributary_shop");
    monitor.slot_polled(slot(), 2.5);
    monitor.rows_read("p.s.t", "s.t", 500);
    monitor.handed_over(&outbox(503), 1_700_000_000_000_000);
    monitor.observe(&progress());
    let details = monitor.details();
    assert_eq!(details["slot"]["lag_bytes"], 3 * 1024 * 1024);
    assert_eq!(details["position"]["seq"], 12);
    assert_eq!(details["snapshot"]["percent"], 25.0);
    assert_eq!(details["snapshot"]["bytes_left"], 75 * 8192);
    let table = &details["tables"][0];
    assert_eq!(
        (&table["table"], &table["changes"]),
        (&"s.t".into(), &3.into())
    );
    assert_eq!(table["last_change_ms"], 1_700_000_000_000_i64);
    assert_eq!(table["rows_snapshotted"], 500);
    let text = details_text(&details);
    for part in [
        "slot      tributary_shop: active, wal_status reserved, 3.0 MiB behind (3 s), holds 3.0 MiB\n",
        "confirmed 0/1388, seq 12\n",
        "snapshot  25.0 % of 1 tables, 500 rows, 600.0 KiB left\n",
        "reading: 25.0 %\n",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_snapshot_that_is_read_is_over() {
    let monitor = Monitor::new("shop", "tributary_shop");
    let mut progress = progress();
    monitor.observe(&progress);
    for (_, table) in progress.tables.iter_mut() {
        table.snapshot = None;
    }
    monitor.observe(&progress);
    monitor.slot_unknown();
    let details = monitor.details();
    assert!(details["snapshot"].is_null() && details["slot"].is_null());
    let text = details_text(&details);
    assert!(text.contains("none: every table is read"), "{text}");
}
