use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tributary_postgres::catalog::{CatalogTable, LeafState, Storage};
use tributary_schemas::Lsn;
use tributary_schemas::table::{Column, ColumnType, Table};

use super::{Consequences, Membership, TableCommand, all};
use crate::config::SnapshotMode;
use crate::log::progress::{Followed, SnapshotRequest, TableProgress, TableSnapshot, Tables};
use crate::run::watch::{Facts, Survey, Surveyed};

/// What the stream and the registry tell.
mod told;

const TOPIC: &str = "p.s.t";
const OID: u32 = 100;
/// In a publication whose row transaction 1 wrote.
const PLACE: u64 = (1 << 32) | 5;

fn column(attnum: i16, name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        attnum,
        column_type,
        key_position: (name == "id").then_some(0),
    }
}

/// A table with two columns, `id` and `a`.
fn table() -> CatalogTable {
    CatalogTable {
        table: Table {
            oid: OID,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: vec![
                column(1, "id", ColumnType::Int4),
                column(2, "a", ColumnType::Text),
            ],
        },
        full_identity: false,
        partitioned: false,
        leaves: BTreeMap::new(),
        leaf_writers: BTreeMap::new(),
        storage: storage(10, &["700"], &[(1, "id"), (2, "a")]),
        defaulted: BTreeSet::new(),
    }
}

/// A partitioned table, and the files of its leaves.
fn partitioned(leaves: &[(u32, u32)]) -> CatalogTable {
    let leaf = |&(oid, filenode): &(u32, u32)| {
        let state = json!({"filenode": filenode, "attached": "600"});
        (oid, serde_json::from_value::<LeafState>(state).unwrap())
    };
    CatalogTable {
        partitioned: true,
        leaves: leaves.iter().map(leaf).collect(),
        ..table()
    }
}

fn storage(filenode: u32, altered: &[&str], columns: &[(i16, &str)]) -> Storage {
    let columns: BTreeMap<i16, &str> = columns.iter().copied().collect();
    serde_json::from_value(json!({"filenode": filenode, "altered": altered, "columns": columns}))
        .unwrap()
}

fn with(storage: &Storage, part: &str, value: serde_json::Value) -> Storage {
    let mut with = serde_json::to_value(storage).unwrap();
    with[part] = value;
    serde_json::from_value(with).unwrap()
}

/// What progress remembers of a table that it has taken in.
fn known(table: &CatalogTable) -> TableProgress {
    let mut followed = Followed {
        key: table.key(),
        ..Followed::default()
    };
    followed.place(PLACE, table);
    TableProgress {
        table: table.display_name(),
        oid: table.table.oid,
        partitions: 3,
        key_schema_id: (!table.is_keyless()).then_some(1),
        topic_id: None,
        followed,
        snapshot: None,
    }
}

fn under_way(table: &CatalogTable, sweep: bool) -> TableProgress {
    TableProgress {
        snapshot: Some(TableSnapshot::requested(all(sweep), 7)),
        ..known(table)
    }
}

fn tables(known: TableProgress) -> Tables {
    [(TOPIC.to_owned(), known)].into_iter().collect()
}

fn survey(table: CatalogTable, place: u64) -> Survey {
    let surveyed = Surveyed { table, place };
    Survey {
        since: Lsn(10),
        lsn: Lsn(20),
        facts: Facts {
            tables: [(TOPIC.to_owned(), surveyed)].into(),
            ..Facts::default()
        },
    }
}

fn membership() -> Membership {
    Membership::new(SnapshotMode::Initial)
}

/// What follows from a table as it is now.
fn found(
    membership: &mut Membership,
    known: Option<&TableProgress>,
    now: CatalogTable,
) -> Consequences {
    follows(membership, known, &survey(now, PLACE))
}

fn follows(
    membership: &mut Membership,
    known: Option<&TableProgress>,
    survey: &Survey,
) -> Consequences {
    membership.consider(known, (TOPIC, &survey.facts.tables[TOPIC]), survey)
}

fn remembered(found: &Consequences) -> Option<TableProgress> {
    found.commands.iter().find_map(|command| match command {
        TableCommand::Remember(_, table) => Some((**table).clone()),
        _ => None,
    })
}

fn requested(commands: &[TableCommand]) -> Option<&SnapshotRequest> {
    commands.iter().find_map(|command| match command {
        TableCommand::Read(_, request, _) => Some(request),
        _ => None,
    })
}

/// A row of ADR 7's table: what it is, what the catalog had before and has now, and whether the table is read again.
type Statement = (&'static str, CatalogTable, CatalogTable, bool);

fn stored(storage: Storage) -> CatalogTable {
    CatalogTable { storage, ..table() }
}

fn statements() -> Vec<Statement> {
    let mut all = of_columns();
    all.extend(of_values());
    all.extend(of_partitions());
    all
}

fn of_columns() -> Vec<Statement> {
    let same = [(1, "id"), (2, "a")];
    let more = [(1, "id"), (2, "a"), (3, "b")];
    let to = |filenode, altered: &[&str], columns: &[(i16, &str)]| {
        stored(storage(filenode, altered, columns))
    };
    let defaulted = CatalogTable {
        defaulted: BTreeSet::from([3]),
        ..to(10, &["700", "701"], &more)
    };
    let renamed = to(10, &["701"], &[(1, "id"), (2, "b")]);
    let again = to(10, &["701"], &[(1, "id"), (3, "a")]);
    vec![
        ("a default", table(), defaulted, true),
        ("no default", table(), to(10, &["700", "701"], &more), false),
        ("a rewrite", table(), to(11, &["701"], &same), true),
        ("VACUUM FULL", table(), to(11, &["700"], &same), false),
        ("SET NOT NULL", table(), to(10, &["701"], &same), false),
        ("RENAME", table(), renamed, true),
        ("DROP and ADD", table(), again, true),
    ]
}

fn of_values() -> Vec<Statement> {
    let labelled = |labels: &[&str]| stored(with(&table().storage, "labels", json!({"2": labels})));
    let (before, after) = (labelled(&["sad", "glad"]), labelled(&["sad", "happy"]));
    let generated = stored(with(&table().storage, "generated", json!([3])));
    let columns = [(1, "id"), (2, "a"), (3, "b")];
    let ordinary = stored(storage(10, &["701"], &columns));
    vec![
        ("DROP EXPRESSION", generated, ordinary, true),
        ("RENAME VALUE", before, after, true),
    ]
}

/// The stream tells that transaction 800 truncated the table.
fn of_partitions() -> Vec<Statement> {
    let before = || partitioned(&[(5, 51)]);
    let by = |writer| CatalogTable {
        leaf_writers: [(5, writer)].into(),
        ..partitioned(&[(5, 52)])
    };
    vec![
        ("TRUNCATE of the table", before(), by(800), false),
        ("TRUNCATE of a partition", before(), by(801), true),
    ]
}

#[test]
fn a_table_that_may_have_been_unlogged_is_read_where_no_publication_forbids_it() {
    let toasted = |filenode, toast| CatalogTable {
        storage: with(
            &storage(filenode, &["700"], &[(1, "id"), (2, "a")]),
            "toast",
            toast,
        ),
        ..table()
    };
    let before = toasted(10, 90.into());
    for (place, now, is_read) in [
        (0, toasted(12, 91.into()), true),
        (0, toasted(12, 90.into()), false),
        (PLACE, toasted(12, 91.into()), false),
    ] {
        let mut known = known(&before);
        known.followed.place = place;
        let found = follows(&mut membership(), Some(&known), &survey(now.clone(), place));
        let reads = |command: &TableCommand| {
            matches!(command, TableCommand::Read(_, request, why)
                if *request == all(true) && why.contains("may have been unlogged"))
        };
        assert_eq!(found.commands.iter().any(reads), is_read, "{place} {now:?}");
        let now = remembered(&found).unwrap().followed.storage;
        assert!(
            now.is_some_and(|now| now != before.storage),
            "and no news later"
        );
    }
}

#[test]
fn statements_without_events_lead_to_a_reading_or_do_not() {
    for (what, before, now, is_read) in statements() {
        let mut known = known(&before);
        known.followed.truncates = vec![800];
        let mut membership = membership();
        let first = found(&mut membership, Some(&known), now.clone());
        let request = requested(&first.commands);
        assert_eq!(request, is_read.then_some(&all(true)), "{what}");
        assert_eq!(first.take_in, None, "{what}");
        let later = remembered(&first).expect(what);
        let second = found(&mut membership, Some(&later), now);
        assert_eq!(
            second,
            Consequences::default(),
            "{what}: it is no news later"
        );
    }
}

#[test]
fn with_mode_never_old_rows_stay_as_they_are() {
    for (what, before, now, is_read) in statements() {
        let is_partitioned = now.partitioned;
        let mut never = Membership::new(SnapshotMode::Never);
        let mut known = known(&before);
        known.followed.truncates = vec![800];
        let found = found(&mut never, Some(&known), now);
        let left = found
            .commands
            .iter()
            .any(|command| matches!(command, TableCommand::LeaveUnread(..)));
        assert_eq!(left, is_read && !is_partitioned, "{what}");
        assert_eq!(
            requested(&found.commands).is_some(),
            is_read && is_partitioned,
            "{what}"
        );
        assert!(remembered(&found).is_some(), "{what}");
    }
    let never = Membership::new(SnapshotMode::Never);
    assert!(!never.reads_all(None) && never.reads_all(Some(&known(&table()))));
    assert!(membership().reads_all(None));
}

#[test]
fn a_table_that_is_as_it_was_is_left_alone() {
    let mut membership = membership();
    let now = table();
    let nothing = found(&mut membership, Some(&known(&now)), now.clone());
    assert_eq!(nothing, Consequences::default());
    // A record of an older version remembers nothing of its storage, and takes over what is found first.
    let mut old = known(&now);
    old.followed.storage = None;
    let first = found(&mut membership, Some(&old), now.clone());
    assert_eq!(remembered(&first), Some(known(&now)));
    assert_eq!(first.commands.len(), 1);
}

#[test]
fn tables_are_taken_in_that_are_new_back_or_others() {
    let now = table();
    let of = |change: fn(&mut TableProgress)| {
        let mut known = known(&table());
        change(&mut known);
        Some(known)
    };
    for (known, why) in [
        (None, "it is new"),
        (of(|known| known.oid += 1), "another table of the same name"),
        (of(|known| known.followed.leave()), "it is back"),
        (
            of(|known| known.followed.place += 1),
            "out of its publication",
        ),
        (
            of(|known| known.followed.key = vec!["a".to_owned()]),
            "another key",
        ),
    ] {
        let found = found(&mut membership(), known.as_ref(), now.clone());
        assert!(
            found.take_in.is_some_and(|told| told.contains(why)),
            "{why}"
        );
        assert!(found.commands.is_empty() && !found.learn_again, "{why}");
    }
}

#[test]
fn another_owner_of_the_publication_is_no_other_place() {
    let now = (2 << 32) | 5;
    let mut survey = survey(table(), now);
    let before = known(&table());
    let altered = follows(&mut membership(), Some(&before), &survey);
    assert!(altered.take_in.is_some());
    survey.facts.new_owners = [(1, 2)].into_iter().collect();
    let found = follows(&mut membership(), Some(&before), &survey);
    assert_eq!(found.take_in, None);
    assert_eq!(
        remembered(&found).map(|known| known.followed.place),
        Some(now)
    );
    assert_eq!(found.commands.len(), 1);
}

#[test]
fn tables_that_are_not_there_are_missed_and_untold_ones_are_not() {
    let missed = |known: TableProgress, untold: Option<&str>| {
        let facts = Facts {
            untold: untold
                .map(|name| (OID, name.to_owned()))
                .into_iter()
                .collect(),
            ..Facts::default()
        };
        Membership::miss(&tables(known), &facts)
    };
    let there = known(&table());
    let lost = missed(there.clone(), None);
    assert!(matches!(&lost[..], [TableCommand::Lose(topic, _)] if topic == TOPIC));
    assert_eq!(missed(there.clone(), Some("s.t")), []);
    assert_eq!(missed(there.clone(), Some("s.other")).len(), 1, "renamed");
    let mut absent = there.clone();
    absent.followed.leave();
    assert_eq!(missed(absent, None), []);
    let facts = survey(table(), PLACE).facts;
    assert_eq!(Membership::miss(&tables(there), &facts), []);
}

#[test]
fn a_survey_from_before_a_rename_is_not_believed() {
    let mut membership = membership();
    let known = known(&table());
    let same = membership.renamed(&tables(known.clone()), (OID, Some(TOPIC)), Lsn(15));
    assert_eq!(same, []);
    let other = membership.renamed(&tables(known.clone()), (OID + 1, Some("p.s.u")), Lsn(15));
    assert_eq!(other, [], "another table");
    let lost = membership.renamed(&tables(known.clone()), (OID, Some("p.s.u")), Lsn(15));
    assert_eq!(lost, [TableCommand::Lose(TOPIC.to_owned(), "renamed")]);
    let mut lost = known;
    lost.followed.leave();
    let again = membership.renamed(&tables(lost.clone()), (OID, Some("p.s.u")), Lsn(16));
    assert_eq!(again, [], "it is lost already");

    let mut survey = survey(table(), PLACE);
    let before = follows(&mut membership, Some(&lost), &survey);
    assert_eq!(before, Consequences::default());
    survey.since = Lsn(15);
    let behind = follows(&mut membership, Some(&lost), &survey);
    assert_eq!(behind.take_in, Some("it is back"));
}

#[test]
fn new_partitions_are_read_alone_unless_something_else_is_under_way() {
    let before = partitioned(&[(5, 51)]);
    let added = || partitioned(&[(5, 51), (6, 61), (7, 71)]);
    let alone = SnapshotRequest {
        sweep: false,
        filter: Some("tableoid IN (6, 7)".to_owned()),
    };
    let mut keyless = before.clone();
    keyless.table.columns[0].key_position = None;
    let mut keyless_now = added();
    keyless_now.table.columns[0].key_position = None;
    for (known, now, wanted, why) in [
        (known(&before), added(), alone, "nothing else"),
        (
            under_way(&before, false),
            added(),
            all(false),
            "all are being read",
        ),
        (
            under_way(&before, true),
            added(),
            all(true),
            "a sweep is under way",
        ),
        (known(&keyless), keyless_now, all(true), "no key"),
        (
            known(&before),
            partitioned(&[(6, 61)]),
            all(true),
            "one is gone",
        ),
        (
            known(&before),
            partitioned(&[(5, 52), (6, 61)]),
            all(true),
            "one was rewritten",
        ),
    ] {
        let leaves = now.leaves.clone();
        let found = found(&mut membership(), Some(&known), now);
        assert_eq!(requested(&found.commands), Some(&wanted), "{why}");
        // The request comes behind it: it holds the snapshot from before.
        assert!(
            matches!(found.commands[0], TableCommand::Remember(..)),
            "{why}"
        );
        let remembered = remembered(&found).map(|known| known.followed.leaves);
        assert_eq!(remembered, Some(leaves), "{why}");
    }
}

#[test]
fn other_types_are_looked_up_again_and_nothing_is_read() {
    let typed = |labels: &[&str]| {
        let mut table = table();
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        table.table.columns[1].column_type = ColumnType::Enum { labels };
        table
    };
    let mut membership = membership();
    membership.settle(Arc::new(survey(typed(&["sad"]), PLACE)));
    let now = typed(&["sad", "glad"]);
    let learned = found(&mut membership, Some(&known(&now)), now.clone());
    assert!(learned.learn_again && learned.commands.is_empty());
    membership.settle(Arc::new(survey(now.clone(), PLACE)));
    let settled = found(&mut membership, Some(&known(&now)), now);
    assert_eq!(settled, Consequences::default());

    // The first look of a session, which has none before: progress knows the labels.
    let labelled = |labels: &[&str]| CatalogTable {
        storage: with(&table().storage, "labels", json!({"2": labels})),
        ..table()
    };
    let before = known(&labelled(&["sad"]));
    let mut begun = Membership::new(SnapshotMode::Initial);
    let first = found(&mut begun, Some(&before), labelled(&["sad", "glad"]));
    assert!(first.learn_again && requested(&first.commands).is_none());
}
