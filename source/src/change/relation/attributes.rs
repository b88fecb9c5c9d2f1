//! Which attributes of a table the columns of a Relation message are: their names may have changed since.

use tokio_postgres::Client;
use tributary_runtime::Error;

use tributary_postgres::database::Database;

/// An attribute that the catalog has now.
#[derive(Debug)]
pub(super) struct Attribute {
    /// `pg_attribute.attnum`
    pub(super) number: i16,
    /// None if it was dropped: what is left of it keeps its number from being given again.
    name: Option<String>,
}

impl Attribute {
    /// All that a table has had, in the order of their numbers; generated ones are not on the wire.
    pub(super) async fn read(
        client: &Client,
        database: &Database,
        table: u32,
    ) -> Result<Vec<Self>, Error> {
        let query = "SELECT attnum, CASE WHEN NOT attisdropped THEN attname END FROM pg_catalog.pg_attribute
            WHERE attrelid = $1 AND attnum > 0 AND attgenerated = '' ORDER BY attnum";
        let rows = client.query(query, &[&table]).await;
        let rows = rows.map_err(|e| database.explain(e))?;
        let attribute = |row: &tokio_postgres::Row| Self {
            number: row.get(0),
            name: row.get(1),
        };
        Ok(rows.iter().map(attribute).collect())
    }
}

/// A name that stayed.
const SAME_NAME: i32 = 2;
/// An attribute that is there now, and was not in the message although later ones were: it was generated then.
const LEFT_OUT: i32 = -3;

/// The number of the attribute that each column of a message is; 0 where that is not certain.
///
/// A message has its columns in the order of their numbers, too. So they are lined up with all that the table has had: in
/// the way in which most names agree, and each column that could have been dropped since taken for one that was. One with
/// another name than its attribute has is trusted only if neither name is given to anything else.
pub(super) fn numbers(columns: &[&str], attributes: &[Attribute]) -> Vec<i16> {
    let is_named =
        |(column, attribute): (&&str, &Attribute)| attribute.name.as_deref() == Some(column);
    if columns.len() <= attributes.len() && columns.iter().zip(attributes).all(is_named) {
        return attributes[..columns.len()]
            .iter()
            .map(|one| one.number)
            .collect();
    }
    let named = |name: &str| {
        let mut attributes = attributes.iter();
        attributes.find(|one| one.name.as_deref() == Some(name))
    };
    let Some(places) = line_up(columns, attributes) else {
        // The catalog does not show the newest columns yet.
        let columns = columns.iter();
        return columns
            .map(|column| named(column).map_or(0, |one| one.number))
            .collect();
    };
    let places = columns.iter().zip(places);
    let number = |(column, place): (&&str, usize)| {
        let attribute = &attributes[place];
        let certain = match attribute.name.as_deref() {
            Some(name) if name == *column => true,
            Some(name) => named(column).is_none() && !columns.contains(&name),
            None => true,
        };
        if certain { attribute.number } else { 0 }
    };
    places.map(number).collect()
}

/// The place in `attributes` of each column; none if there are too few.
fn line_up(columns: &[&str], attributes: &[Attribute]) -> Option<Vec<usize>> {
    // best[i][j]: how well the columns from i on agree with the attributes from j on.
    let mut best = vec![vec![None; attributes.len() + 1]; columns.len()];
    best.push(vec![Some(0); attributes.len() + 1]);
    for i in (0..columns.len()).rev() {
        for j in (0..attributes.len()).rev() {
            let (taken, left) = options(&best, columns[i], &attributes[j], (i, j));
            best[i][j] = taken.max(left);
        }
    }
    best[0][0]?;
    let (mut places, mut j) = (Vec::new(), 0);
    while places.len() < columns.len() {
        let i = places.len();
        let (taken, left) = options(&best, columns[i], attributes.get(j)?, (i, j));
        if taken >= left {
            places.push(j);
        }
        j += 1;
    }
    Some(places)
}

/// How well it agrees to take a column for an attribute, and to leave that attribute out; none where it cannot.
fn options(
    best: &[Vec<Option<i32>>],
    column: &str,
    attribute: &Attribute,
    (i, j): (usize, usize),
) -> (Option<i32>, Option<i32>) {
    let same = attribute.name.as_deref() == Some(column);
    let taken = best[i + 1][j + 1].map(|rest| rest + if same { SAME_NAME } else { 0 });
    let left_out = if attribute.name.is_some() {
        LEFT_OUT
    } else {
        0
    };
    (taken, best[i][j + 1].map(|rest| rest + left_out))
}

#[cfg(test)]
mod tests {
    use super::{Attribute, numbers};

    #[test]
    fn columns_are_found_again() {
        // A dash is an attribute that was dropped.
        for (columns, attributes, wanted, why) in [
            ("a b c", "a b c", "1 2 3", "nothing changed"),
            ("a b", "a b c d", "1 2", "added since"),
            ("a b c", "a b x", "1 2 3", "renamed"),
            ("a b c", "x y z", "1 2 3", "all renamed"),
            ("a b c", "a - c", "1 2 3", "dropped since"),
            ("a c", "a - c", "1 3", "dropped before"),
            ("a c d", "a - c x", "1 3 4", "dropped before, renamed since"),
            ("a b", "a - c", "1 2", "dropped and another one added"),
            ("a b c", "a - b", "1 2 0", "the next one has its name"),
            ("a b c", "a c b", "1 0 0", "names that were exchanged"),
            ("a b c d", "a g b c d", "1 3 4 5", "generated then"),
            ("a b", "a g b", "1 0", "generated then, or names moved"),
            ("a b c", "a b", "1 2 0", "not to be seen yet"),
            ("", "a", "", "no column"),
            ("a", "", "0", "no attribute"),
        ] {
            let attributes = attributes.split_whitespace().zip(1..);
            let attributes = attributes.map(|(name, number)| Attribute {
                number,
                name: (name != "-").then(|| name.to_owned()),
            });
            let columns: Vec<&str> = columns.split_whitespace().collect();
            let found = numbers(&columns, &attributes.collect::<Vec<_>>());
            let found: Vec<String> = found.iter().map(i16::to_string).collect();
            assert_eq!(found.join(" "), wanted, "{why}");
        }
    }
}
