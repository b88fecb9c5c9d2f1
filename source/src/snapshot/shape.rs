//! Whether a transaction's snapshot still shows a relation as it was: what ALTER TABLE does, no snapshot hides.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::log::table_topic::TableTopic;

/// As the snapshot has it, beside what holds now.
const SAME_FILE: &str = "
    SELECT FROM pg_catalog.pg_class WHERE oid = ANY($1) AND relfilenode = pg_catalog.pg_relation_filenode(oid)";

/// As the snapshot has them.
const COLUMNS: &str = "
    SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

/// Whether each of these relations has the file that it had: another one may not show the rows.
///
/// # Errors
/// Those of the server.
pub(crate) async fn have_their_files(
    client: &Client,
    relations: &[u32],
) -> Result<bool, tokio_postgres::Error> {
    let same = client.query(SAME_FILE, &[&relations]).await?;
    Ok(same.len() == relations.len())
}

/// Whether a relation that holds rows of this table has the file that it had, and the table its columns, with others
/// behind them at the most. Both are locked.
///
/// # Errors
/// Those of the server.
pub(super) async fn is_unchanged(
    client: &Client,
    table: &TableTopic,
    relation: u32,
) -> Result<bool, tokio_postgres::Error> {
    if !have_their_files(client, &[relation]).await? {
        return Ok(false);
    }
    let before = client.query(COLUMNS, &[&table.table.oid]).await?;
    let before = before.iter().map(|row| row.get::<_, &str>(0));
    // A statement is planned with the columns that the table has now.
    let select = format!("SELECT * FROM ONLY {} LIMIT 0", table.quoted_name());
    let answer = client.simple_query(&select).await?;
    let now = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(columns),
        _ => None,
    });
    let mut now = now.into_iter().flat_map(|columns| columns.iter());
    Ok(before
        .into_iter()
        .all(|name| now.next().is_some_and(|column| column.name() == name)))
}
