use std::collections::{BTreeMap, BTreeSet, HashMap};

use tributary_schemas::table::{Column, ColumnType, Table};

use super::{Member, Members, NewOwners, PublicationNames, Version};
use crate::catalog::{CatalogTable, Selection, Storage};
use crate::plugin::Plugin;

fn names() -> PublicationNames {
    PublicationNames {
        keyed: "tributary_shop".to_owned(),
        keyless: "tributary_shop_keyless".to_owned(),
        plugin: Plugin::Pgoutput,
    }
}

fn table(oid: u32, key: bool) -> CatalogTable {
    let column = Column {
        name: "id".to_owned(),
        attnum: 1,
        column_type: ColumnType::Int4,
        key_position: key.then_some(0),
    };
    CatalogTable {
        table: Table {
            oid,
            schema: "s".to_owned(),
            name: format!("t{oid}"),
            columns: vec![column],
        },
        full_identity: false,
        partitioned: false,
        leaves: BTreeMap::new(),
        leaf_writers: BTreeMap::new(),
        storage: Storage::default(),
        defaulted: BTreeSet::new(),
    }
}

fn members(oids: &[u32]) -> HashMap<u32, Member> {
    let member = |oid: &u32| Member {
        place: 100 + u64::from(*oid),
        name: format!("\"s\".\"t{oid}\""),
        restricted: *oid == 9,
    };
    oids.iter().map(|oid| (*oid, member(oid))).collect()
}

fn corrections(tables: Vec<CatalogTable>, keyed: &[u32], keyless: &[u32]) -> Vec<String> {
    let selection = Selection {
        tables,
        unusable: Vec::new(),
        unreadable: Vec::new(),
        unmatched: Vec::new(),
    };
    let members = Members {
        keyed: members(keyed),
        keyless: members(keyless),
        ..Members::default()
    };
    let found = members.corrections(&selection, &names());
    found.into_iter().map(|one| one.sql).collect()
}

#[test]
fn what_is_right_stays() {
    let tables = vec![table(1, true), table(2, false)];
    assert_eq!(corrections(tables, &[1], &[2]), Vec::<String>::new());
}

#[test]
fn a_new_table_is_added_where_it_belongs() {
    let tables = vec![table(1, true), table(2, false)];
    assert_eq!(
        corrections(tables, &[], &[]),
        [
            r#"ALTER PUBLICATION "tributary_shop" ADD TABLE ONLY "s"."t1""#,
            r#"ALTER PUBLICATION "tributary_shop_keyless" ADD TABLE ONLY "s"."t2""#,
        ]
    );
}

#[test]
fn a_table_that_lost_its_key_leaves_the_publication_of_updates_first() {
    assert_eq!(
        corrections(vec![table(1, false)], &[1], &[]),
        [
            r#"ALTER PUBLICATION "tributary_shop" DROP TABLE ONLY "s"."t1"; ALTER PUBLICATION "tributary_shop_keyless" ADD TABLE ONLY "s"."t1""#
        ]
    );
    assert_eq!(
        corrections(vec![table(1, false)], &[1], &[1]),
        [r#"ALTER PUBLICATION "tributary_shop" DROP TABLE ONLY "s"."t1""#]
    );
}

#[test]
fn a_table_that_has_a_key_now_publishes_updates() {
    assert_eq!(
        corrections(vec![table(1, true)], &[], &[1]),
        [
            r#"ALTER PUBLICATION "tributary_shop_keyless" DROP TABLE ONLY "s"."t1"; ALTER PUBLICATION "tributary_shop" ADD TABLE ONLY "s"."t1""#
        ]
    );
}

#[test]
fn a_table_that_nobody_selected_is_taken_out() {
    assert_eq!(
        corrections(vec![table(1, true)], &[1, 7], &[]),
        [r#"ALTER PUBLICATION "tributary_shop" DROP TABLE ONLY "s"."t7""#]
    );
}

#[test]
fn lists_and_filters_are_told() {
    let members = Members {
        keyed: members(&[1, 9]),
        ..Members::default()
    };
    let found = members.restricted(&names());
    let [problem] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(problem.what.contains("\"s\".\"t9\""), "{problem}");
}

#[test]
fn a_new_owner_is_told_from_another_definition() {
    let members = |writer, owner| Members {
        versions: HashMap::from([(7, Version { writer, owner })]),
        ..Members::default()
    };
    let place = |writer: u64| writer << 32 | 16_400;
    let mut new_owners = NewOwners::default();
    assert!(
        !new_owners.note(&Members::default(), &members(3, 10)),
        "the first look"
    );
    assert!(!new_owners.note(&members(3, 10), &members(3, 10)));
    assert!(new_owners.note(&members(3, 10), &members(4, 11)));
    assert!(new_owners.note(&members(4, 11), &members(9, 10)));
    assert_eq!(new_owners.place(place(3)), place(9));
    assert_eq!(new_owners.place(place(4)), place(9));
    assert!(
        !new_owners.note(&members(9, 10), &members(12, 10)),
        "it was altered, and is the same again"
    );
    assert_eq!(new_owners.place(place(3)), place(9));
    assert_eq!(new_owners.place(place(12)), place(12));
}
