//! What somebody would ask the two targets, and whether the answers are right: the source is asked the same.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;

use super::Demo;
use super::board::{detail, say};

/// The word that is searched.
pub(super) const WORD: &str = "chess";
/// A package that says it about itself.
const EXPECTED: &str = "gnuchess";
/// The fields that are searched; a word in the name counts three times.
pub(super) const FIELDS: [&str; 2] = ["name^3", "description"];

/// Stock and its value by region.
const BY_REGION: &str = "SELECT s.region, count(*)::text, sum(s.quantity)::text, sum(s.quantity * p.price)::text
    FROM inventory.stock s JOIN catalog.product p ON p.id = s.product_id GROUP BY s.region ORDER BY s.region";

impl Demo {
    /// A full-text search, judged by regular expressions over the source's rows.
    ///
    /// # Errors
    /// A hit lacks the word, or a row that has it is not among the hits.
    pub(super) async fn search(&self) -> Result<()> {
        let alias = self.pipeline.topic("catalog.product");
        // All is written; what the engine has accepted since its last refresh is made visible.
        self.engine.refresh(&alias).await?;
        let hits = self.engine.search(&alias, &FIELDS, WORD).await?;
        say(format_args!(
            "search: \"{WORD}\" finds {} products; the best:",
            hits.len()
        ));
        for hit in hits.iter().take(5) {
            detail(format_args!(
                "{:>6.2}  {:<24} {}",
                hit.score,
                hit.source["sku"].as_str().unwrap_or("?"),
                hit.source["description"].as_str().unwrap_or("-")
            ));
        }
        let source = self.pipeline.source().await?;
        let found: BTreeSet<i64> = hits
            .iter()
            .map(|hit| hit.source["id"].as_i64().context("a hit without its id"))
            .collect::<Result<_>>()?;
        // The engine's rules for the borders of words differ from those of any regular expression at signs like
        // the dot. So: each hit has the word, and each row that has it between blanks and the like is hit.
        let has = ids(&source, &format!(r"\m{WORD}\M")).await?;
        let surely = ids(&source, &format!(r#"(^|[\s,;()/"-]){WORD}($|[\s,;()/"-])"#)).await?;
        let wrong: Vec<_> = found.difference(&has).collect();
        let missed: Vec<_> = surely.difference(&found).collect();
        if !wrong.is_empty() || !missed.is_empty() || surely.is_empty() {
            bail!(
                "the search is wrong: hits without the word {wrong:?}, rows with it that are missed {missed:?}, of {} rows",
                surely.len()
            );
        }
        detail(format_args!(
            "right: all of them have the word, and none of the {} rows is missing that have it in the source",
            surely.len()
        ));
        self.expect(&source, &found).await
    }

    async fn expect(&self, source: &Client, found: &BTreeSet<i64>) -> Result<()> {
        let query = "SELECT id FROM catalog.product WHERE sku = $1";
        match source.query_opt(query, &[&EXPECTED]).await? {
            // The workload withdraws products, or the distribution did.
            None => detail(format_args!("{EXPECTED} is not in the catalogue any more")),
            Some(row) if found.contains(&row.get(0)) => {
                detail(format_args!("right: {EXPECTED} is among them"));
            }
            Some(_) => bail!("the search does not find {EXPECTED}"),
        }
        Ok(())
    }

    /// Stock by region, from the warehouse and from the source.
    ///
    /// # Errors
    /// The answers differ.
    pub(super) async fn query_warehouse(&self) -> Result<()> {
        let answer = table(&self.pipeline.warehouse().await?).await?;
        say("warehouse: stock by region");
        for [region, products, pieces, value] in &answer {
            detail(format_args!(
                "{region:<12} {products:>7} products {pieces:>10} pieces, worth {value:>16}"
            ));
        }
        let wanted = table(&self.pipeline.source().await?).await?;
        if answer != wanted {
            bail!("the warehouse's answer is wrong, the source's is {wanted:?}");
        }
        detail("right: the source gives the same answer");
        Ok(())
    }
}

/// The products whose name or description matches, cases aside.
async fn ids(source: &Client, pattern: &str) -> Result<BTreeSet<i64>> {
    let query = "SELECT id FROM catalog.product WHERE name ~* $1 OR description ~* $1";
    let rows = source.query(query, &[&pattern]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn table(client: &Client) -> Result<Vec<[String; 4]>> {
    let rows = client.query(BY_REGION, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| [0, 1, 2, 3].map(|at| row.get(at)))
        .collect())
}
