use tributary_postgres::catalog::KnownTypes;
use tributary_schemas::table::ColumnType;

use super::{TOPIC, known, table};
use crate::log::progress::{Followed, TableProgress};
use crate::log::table_topic::TableTopic;
use crate::run::streaming::membership::{Membership, TableCommand, all};

/// What a Relation message without types of its own leads to.
fn learned(known: &TableProgress, published: &TableTopic) -> Vec<TableCommand> {
    Membership::learned(known, published, &KnownTypes::default())
}

/// What is remembered, before all rows of the table are read and swept.
fn remembered_and_read(commands: &[TableCommand]) -> &TableProgress {
    let [
        TableCommand::Remember(_, now),
        TableCommand::Read(topic, request, _),
    ] = commands
    else {
        panic!("{commands:?}")
    };
    assert_eq!((topic.as_str(), request), (TOPIC, &all(true)));
    now
}

#[test]
fn another_key_is_remembered_before_its_rows_are_read() {
    let published = TableTopic::for_test(table().table);
    let same = known(&table());
    assert_eq!(learned(&same, &published), []);
    let before = TableProgress {
        key_schema_id: Some(9),
        followed: Followed {
            key: vec!["a".to_owned()],
            ..same.followed.clone()
        },
        ..same
    };
    let commands = learned(&before, &published);
    let now = remembered_and_read(&commands);
    assert_eq!(now.key_schema_id, Some(1));
    let followed = Followed {
        key: vec!["id".to_owned()],
        rekeyed: true,
        ..before.followed
    };
    assert_eq!(now.followed, followed, "all else stays");
}

#[test]
fn dimensions_and_a_new_type_are_remembered() {
    let mut arrays = table();
    arrays.table.columns[1].column_type =
        ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Int4))));
    let before = known(&arrays);
    let published = TableTopic::for_test(arrays.table);
    let commands = learned(&before, &published);
    let [TableCommand::Remember(_, now)] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(now.followed.dimensions, [("a".to_owned(), 2)].into());
    assert_eq!(learned(now, &published), []);

    let commands = Membership::retyped(TOPIC, &before);
    assert!(remembered_and_read(&commands).followed.rekeyed);
}
