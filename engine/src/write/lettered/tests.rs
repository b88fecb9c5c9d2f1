use tributary_schemas::header;

use super::LetteredKeys;
use crate::flow::records::tests::message;
use crate::write::replay::Counts;
use crate::write::scan::Ranges;

fn letters() -> Ranges {
    Ranges::from([(0, (0, 100))])
}

fn keys(bytes_max: usize, letters: &[(&[u8], i64)]) -> LetteredKeys {
    let mut keys = LetteredKeys::new(bytes_max, 1_000, true);
    for (at, (key, offset)) in (0..).zip(letters) {
        assert!(keys.add(key, (0, at), *offset));
    }
    keys
}

#[test]
fn the_newest_record_of_each_key_counts() {
    let mut keys = keys(1 << 20, &[(b"a", 5), (b"b", 7), (b"c", 9), (b"a", 11)]);
    assert_eq!(keys.from(), Some(5));
    for (offset, key) in [(5, b"a"), (6, b"x"), (7, b"b"), (11, b"a"), (12, b"b")] {
        keys.take(&message(offset, Some(key), Some(b"v"), &[]));
    }
    let mut pass = keys.finish(&letters(), 100);
    assert!(pass.rest.is_empty() && !pass.has_versions);
    assert_eq!((pass.counts.gone, pass.counts.superseded), (1, 0));
    let (records, are_letters) = pass.records(None);
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [11, 12]);
    assert!(are_letters[&11] && !are_letters[&12]);
}

#[test]
fn what_has_no_room_is_left_to_the_next_pass() {
    let mut keys = keys(20_000, &[(b"a", 5), (b"b", 6), (b"c", 7), (b"d", 8)]);
    let large = vec![b'v'; 4_000];
    for (offset, key) in [(5, b"a"), (6, b"b"), (7, b"c"), (8, b"d")] {
        keys.take(&message(offset, Some(key), Some(&large), &[]));
    }
    let mut pass = keys.finish(&letters(), 100);
    assert_eq!(pass.rest, Ranges::from([(0, (2, 100))]));
    assert_eq!(pass.records(None).0.len(), 2);

    // One record may be larger than all, so that there is an end.
    let mut keys = self::keys(1_000, &[(b"a", 5)]);
    keys.take(&message(5, Some(b"a"), Some(&large), &[]));
    assert!(!keys.is_overfull());
    assert!(!keys.add(b"b", (0, 1), 6));
}

#[test]
fn what_is_gone_below_and_where_a_table_was_emptied_is_superseded() {
    let seq = |seq: u64| seq.to_be_bytes();
    let mut keys = keys(1 << 20, &[(b"a", 5), (b"b", 6)]);
    keys.take(&message(5, Some(b"a"), None, &[(header::SEQ, &seq(50))]));
    keys.take(&message(6, Some(b"b"), None, &[(header::SEQ, &seq(60))]));
    let below = [(header::SEQ, &seq(70)[..]), (header::BELOW, &seq(60)[..])];
    keys.take(&message(7, Some(b"t"), None, &below));
    let mut pass = keys.finish(&letters(), 100);
    assert!(pass.has_versions && !pass.is_mixed);
    let superseded = |superseded| Counts {
        superseded,
        ..Counts::default()
    };
    assert_eq!(pass.counts, superseded(1));
    assert!(pass.records(Some(7)).0.len() == 0);
    assert_eq!(pass.counts, superseded(2));
}

#[test]
fn a_key_of_another_schema_is_told_where_records_have_no_version() {
    let (one, two): (&[u8], &[u8]) = (b"\0\0\0\0\x01k", b"\0\0\0\0\x02k");
    for (headers, is_mixed) in [
        (&[][..], true),
        (&[(header::SEQ, &8_u64.to_be_bytes()[..])][..], false),
    ] {
        let mut keys = keys(1 << 20, &[(one, 5)]);
        keys.take(&message(5, Some(one), None, headers));
        assert!(!keys.is_mixed);
        keys.take(&message(6, Some(two), None, headers));
        assert_eq!(keys.finish(&letters(), 100).is_mixed, is_mixed);
    }
}

#[test]
fn a_letter_without_a_key_is_told_by_where_it_was() {
    let (seq, below) = (50_u64.to_be_bytes(), 40_u64.to_be_bytes());
    let row = |offset, value| message(offset, None, Some(value), &[(header::SEQ, &seq)]);
    let mut keys = LetteredKeys::new(1 << 20, 1_000, true);
    // Of the topic before this one: the newest letter of an offset is that of the record in the log.
    assert!(keys.add_keyless(Some(b"old"), (0, 0), 5));
    for (at, offset) in [(0, 5), (1, 6), (2, 7), (3, 5), (4, 120)] {
        assert!(keys.add_keyless(Some(b"v"), (0, at), offset));
    }
    assert!(keys.add(b"a", (0, 5), 8));
    assert_eq!(keys.from(), Some(5));
    keys.take(&row(5, b"v"));
    // Of a topic that was made again, and another row's.
    keys.take(&row(6, b"another"));
    keys.take(&message(7, Some(b"a"), Some(b"v"), &[(header::SEQ, &seq)]));
    keys.take(&row(9, b"v"));
    let emptied = [(header::SEQ, &seq[..]), (header::BELOW, &below[..])];
    keys.take(&message(10, None, Some(b"t"), &emptied));
    let mut pass = keys.finish(&letters(), 100);
    assert_eq!(pass.lost, [6, 7]);
    let counts = Counts {
        gone: 2,
        superseded: 1,
        ..Counts::default()
    };
    assert_eq!(pass.counts, counts);
    let (_, are_letters) = pass.records(None);
    assert_eq!(are_letters, [(5, true), (7, true)].into());

    // What has no room is left to the next pass.
    let mut keys = LetteredKeys::new(1_000, 1, true);
    assert!(keys.add_keyless(Some(b"v"), (0, 0), 5));
    assert!(!keys.add_keyless(Some(b"v"), (0, 1), 6));
    assert!(keys.add_keyless(Some(b"v"), (0, 2), 5));
}

#[test]
fn a_record_that_comes_a_second_time_is_not_newer() {
    let record = |offset, seq: u64| {
        let seq = seq.to_be_bytes();
        message(offset, Some(b"a"), Some(b"v"), &[(header::SEQ, &seq)])
    };
    let mut keys = keys(1 << 20, &[(b"a", 5)]);
    for (offset, seq) in [(5, 50), (6, 60), (7, 50), (8, 60), (9, 59)] {
        keys.take(&record(offset, seq));
    }
    let (records, _) = keys.finish(&letters(), 100).records(None);
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [8]);
}

#[test]
fn keys_of_any_schema_are_nothing_to_letters_without_one() {
    let mut keys = LetteredKeys::new(1 << 20, 1_000, false);
    assert!(keys.add_keyless(Some(b"v"), (0, 0), 5));
    keys.take(&message(5, None, Some(b"v"), &[]));
    keys.take(&message(6, Some(b"\0\0\0\0\x01k"), None, &[]));
    let pass = keys.finish(&letters(), 100);
    assert!(!pass.is_mixed && pass.lost.is_empty());
}
