//! Row-level security: rows that a policy would hide from us. Reading such a table is an error, for our sessions have
//! `row_security` off.

use tributary_runtime::{Error, Problem};

use super::read::Catalog;
use super::table::CatalogTable;
use crate::quote::identifier;

// Of a partitioned table both count: rows are looked up by its own name, and read from each partition.
const ACTIVE: &str = "
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relforcerowsecurity AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY($1) AND pg_catalog.row_security_active(c.oid)
    ORDER BY 1";

impl Catalog<'_> {
    /// The tables, and partitions of them, whose row security our user cannot pass by.
    ///
    /// # Errors
    /// A failed query.
    pub async fn row_security(&self, tables: &[CatalogTable]) -> Result<Vec<Problem>, Error> {
        let leaves = tables.iter().flat_map(|table| table.leaves.keys().copied());
        let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
        let oids: Vec<u32> = oids.into_iter().chain(leaves).collect();
        let rows = self
            .client
            .query(ACTIVE, &[&oids])
            .await
            .map_err(|e| self.database.explain(e))?;
        let user = self.database.user();
        let problem = |row: &tokio_postgres::Row| {
            let (table, is_forced): (String, bool) = (row.get(0), row.get(1));
            let bypass = format!("as a superuser: ALTER ROLE {} BYPASSRLS", identifier(user));
            let or = if is_forced {
                format!(
                    "; or ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, which its owner passes by"
                )
            } else {
                String::new()
            };
            Problem::new(format!(
                "table {table} has row-level security, which would hide rows from user '{user}': it cannot be read"
            ))
            .remedy(format!("{bypass}{or}"))
        };
        Ok(rows.iter().map(problem).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;
    use crate::database::Database;

    /// Who may read all rows is not bothered: a superuser, a role with BYPASSRLS, the owner unless it is forced on him.
    #[tokio::test]
    async fn tables_are_named_whose_rows_a_policy_would_hide() {
        let database = Database::of_stack();
        let client = database.connect().await.unwrap();
        let run = async |sql: &str| {
            let done = client.batch_execute(sql).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        };
        // All of it goes with the transaction.
        run("BEGIN; CREATE ROLE hidden_reader; CREATE SCHEMA hidden; GRANT USAGE ON SCHEMA hidden TO hidden_reader;
            CREATE TABLE hidden.plain (id int PRIMARY KEY); CREATE TABLE hidden.secret (id int PRIMARY KEY);
            ALTER TABLE hidden.secret ENABLE ROW LEVEL SECURITY;
            CREATE TABLE hidden.own (id int PRIMARY KEY); ALTER TABLE hidden.own ENABLE ROW LEVEL SECURITY;
            CREATE TABLE hidden.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
            CREATE TABLE hidden.part PARTITION OF hidden.parts DEFAULT; ALTER TABLE hidden.part ENABLE ROW LEVEL SECURITY;
            GRANT SELECT ON ALL TABLES IN SCHEMA hidden TO hidden_reader;
            ALTER TABLE hidden.own OWNER TO hidden_reader").await;
        let names = "SELECT oid FROM pg_class WHERE relnamespace = 'hidden'::regnamespace AND relkind IN ('r', 'p')
            AND NOT relispartition";
        let oids = client.query(names, &[]).await.unwrap();
        let hidden = async || {
            let mut catalog = Catalog::new(&client, &database);
            let mut tables = Vec::new();
            for row in &oids {
                tables.extend(catalog.table(row.get(0)).await.unwrap());
            }
            assert_eq!(tables.len(), 4);
            let problems = catalog.row_security(&tables).await.unwrap();
            let told = problems.into_iter().map(|problem| {
                let table = problem.what.split(' ').nth(1).map(str::to_owned);
                (
                    table.unwrap_or_default(),
                    problem.remedy.unwrap_or_default(),
                )
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(hidden().await, [], "a superuser");
        run("SET LOCAL ROLE hidden_reader").await;
        let told = hidden().await;
        let tables: Vec<_> = told.iter().map(|(table, _)| table.as_str()).collect();
        assert_eq!(tables, ["hidden.part", "hidden.secret"]);
        assert!(told.iter().all(|(_, remedy)| remedy.ends_with("BYPASSRLS")));
        run("RESET ROLE; ALTER TABLE hidden.own FORCE ROW LEVEL SECURITY; SET LOCAL ROLE hidden_reader").await;
        let told = hidden().await;
        assert_eq!(told.len(), 3);
        assert!(
            told[0].0 == "hidden.own" && told[0].1.contains("NO FORCE"),
            "{told:?}"
        );
        run("RESET ROLE; ALTER ROLE hidden_reader BYPASSRLS; SET LOCAL ROLE hidden_reader").await;
        assert_eq!(hidden().await, []);
        run("ROLLBACK").await;
    }
}
