//! A shop: the tables and the live workload of the demo and of the end-to-end tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio_postgres::{Client, NoTls};

/// The tables, in an order in which foreign keys would allow to fill them.
pub const TABLES: [&str; 4] = [
    "catalog.product",
    "inventory.stock",
    "sales.order",
    "sales.order_line",
];

/// The regions that hold stock.
pub const REGIONS: [&str; 3] = ["eu-central", "eu-west", "us-east"];

/// The whole package record is stored out of line, so that a change of price leaves it untouched in the WAL.
pub const SCHEMA: &str = r#"
CREATE SCHEMA catalog;
CREATE SCHEMA inventory;
CREATE SCHEMA sales;
CREATE TYPE catalog.status AS ENUM ('listed', 'withdrawn', 'on sale');
CREATE TABLE catalog.product (
    id bigint PRIMARY KEY,
    sku text NOT NULL,
    name text NOT NULL,
    description text,
    section varchar(80),
    price numeric(12,2) NOT NULL,
    installed_kib integer,
    download_bytes bigint,
    rating double precision,
    essential boolean NOT NULL DEFAULT false,
    status catalog.status NOT NULL DEFAULT 'listed',
    tags text[] NOT NULL DEFAULT '{}',
    attributes jsonb NOT NULL DEFAULT '{}',
    checksum bytea,
    listed_on date NOT NULL DEFAULT current_date,
    changed_at timestamptz NOT NULL DEFAULT now(),
    record text NOT NULL
);
ALTER TABLE catalog.product ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE TABLE inventory.stock (
    product_id bigint NOT NULL,
    region text NOT NULL,
    quantity integer NOT NULL,
    shelf smallint,
    counted_at timestamp(3) NOT NULL DEFAULT localtimestamp,
    PRIMARY KEY (product_id, region)
);
CREATE TABLE sales."order" (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer text NOT NULL,
    total numeric NOT NULL DEFAULT 0,
    placed_at timestamptz NOT NULL DEFAULT now(),
    ship_after interval,
    cut_off time
);
CREATE INDEX ON sales."order" (placed_at);
CREATE TABLE sales.order_line (
    order_id uuid NOT NULL,
    line smallint NOT NULL,
    product_id bigint NOT NULL,
    quantity integer NOT NULL,
    price numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
"#;

/// Connects to a database of the stack.
///
/// # Errors
/// No connection.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("connect to Postgres")?;
    // The connection's end shows in the client's next call.
    tokio::spawn(connection);
    Ok(client)
}

/// Fills the catalogue with made-up products and their stock: what the tests use instead of real packages.
///
/// # Errors
/// The database refuses.
pub async fn fill(client: &Client, products: i64) -> Result<()> {
    client
        .batch_execute(&format!(
            "INSERT INTO catalog.product (id, sku, name, description, section, price, installed_kib, download_bytes,
                 rating, tags, attributes, checksum, record)
             SELECT g, 'sku-' || g, 'Product ' || g, CASE WHEN g % 7 = 0 THEN NULL ELSE 'About number ' || g END,
                 'section ' || g % 20, (g % 1000) + 0.99, g % 5000, g * 1024, (g % 50) / 7.0,
                 ARRAY['tag' || g % 3, NULL, 'a \"quoted\", one'], jsonb_build_object('n', g, 'text', 'ü' || g),
                 decode(md5(g::text), 'hex'), repeat(md5(g::text), 100)
             FROM generate_series(1, {products}) g;
             INSERT INTO inventory.stock (product_id, region, quantity, shelf)
             SELECT g, r, (g * 7) % 100, g % 30 FROM generate_series(1, {products}) g,
                 unnest(ARRAY['eu-central', 'eu-west', 'us-east']) r;"
        ))
        .await
        .context("fill the shop")?;
    Ok(())
}

/// A live workload from several connections, until told to stop. Connections that the server ends are opened
/// again, as an application's are.
#[derive(Debug, Default)]
pub struct Workload {
    stop: AtomicBool,
    transactions: AtomicU64,
}

impl Workload {
    /// Ends all runners after their current transaction.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Transactions committed so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Runs one connection's share: about `per_second` transactions a second, each some rows.
    ///
    /// # Errors
    /// The database refuses for another reason than that the connection is lost.
    pub async fn run(&self, url: &str, seed: u64, products: i64, per_second: f64) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        let mut client = None;
        while !self.stop.load(Ordering::Relaxed) {
            tick.tick().await;
            let open = match client.take() {
                Some(open) => open,
                // The server may be away: the next tick tries again.
                None => match connect(url).await {
                    Ok(open) => open,
                    Err(_) => continue,
                },
            };
            match transaction(&open, &mut rng, products).await {
                Ok(()) => {
                    self.transactions.fetch_add(1, Ordering::Relaxed);
                    client = Some(open);
                }
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error).context("run the workload"),
            }
        }
        Ok(())
    }
}

/// Lost connections, a server that starts or stops, deadlocks among the runners, and a key that is taken.
fn passes(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        None => true,
        Some(code) => {
            code.code().starts_with("57P")
                || code.code().starts_with("08")
                || matches!(code.code(), "40P01" | "23505")
        }
    }
}

/// One business transaction.
async fn transaction(
    client: &Client,
    rng: &mut SmallRng,
    products: i64,
) -> Result<(), tokio_postgres::Error> {
    let sql = match rng.random_range(0..100) {
        0..40 => order(rng, products),
        40..65 => stock_movement(rng, products),
        65..80 => price_change(rng, products),
        80..84 => withdraw(rng, products),
        84..88 => cancel(),
        88..92 => renumber(rng, products),
        92..96 => savepoint(rng, products),
        _ => format!("BEGIN; {}; ROLLBACK", price_change(rng, products)),
    };
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The connection may go on being used: leave the failed transaction.
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

fn order(rng: &mut impl Rng, products: i64) -> String {
    let lines: Vec<(i64, i32)> = (0..rng.random_range(1..5))
        .map(|_| (rng.random_range(1..=products), rng.random_range(1..4)))
        .collect();
    let values: Vec<String> = lines
        .iter()
        .zip(1..)
        .map(|((product, quantity), line)| format!("({line}, {product}, {quantity})"))
        .collect();
    let ordered: Vec<String> = lines.iter().map(|(id, _)| id.to_string()).collect();
    let customer = rng.random_range(1..100_000);
    // The new order's id is kept in a setting: the planner finds rows by it in their indexes, as it does not by a
    // table that it knows nothing of.
    let placed = "current_setting('shop.placed')::uuid";
    format!(
        "BEGIN;
         WITH o AS (INSERT INTO sales.\"order\" (customer, ship_after, cut_off)
             VALUES ('customer {customer}', '{} hours', '{:02}:30:00') RETURNING id)
             SELECT set_config('shop.placed', id::text, true) FROM o;
         INSERT INTO sales.order_line SELECT {placed}, v.line, v.product, v.quantity, p.price
             FROM (VALUES {}) v(line, product, quantity) JOIN catalog.product p ON p.id = v.product;
         UPDATE sales.\"order\" SET total = (SELECT coalesce(sum(price * quantity), 0) FROM sales.order_line WHERE order_id = {placed})
             WHERE id = {placed};
         UPDATE inventory.stock SET quantity = quantity - 1, counted_at = localtimestamp
             WHERE region = '{}' AND product_id IN ({});
         COMMIT",
        rng.random_range(1..200),
        rng.random_range(0..24),
        values.join(", "),
        REGIONS[rng.random_range(0..REGIONS.len())],
        ordered.join(", "),
    )
}

fn stock_movement(rng: &mut impl Rng, products: i64) -> String {
    let (from, to) = (
        rng.random_range(0..REGIONS.len()),
        rng.random_range(0..REGIONS.len()),
    );
    let product = rng.random_range(1..=products);
    format!(
        "BEGIN;
         UPDATE inventory.stock SET quantity = quantity - 5 WHERE product_id = {product} AND region = '{}';
         UPDATE inventory.stock SET quantity = quantity + 5, shelf = NULL WHERE product_id = {product} AND region = '{}';
         COMMIT",
        REGIONS[from], REGIONS[to]
    )
}

fn price_change(rng: &mut impl Rng, products: i64) -> String {
    format!(
        "UPDATE catalog.product SET price = round(price * {:.2}, 2) + 0.01, status = 'on sale', changed_at = now()
         WHERE id IN ({}, {})",
        rng.random_range(0.8..1.2),
        rng.random_range(1..=products),
        rng.random_range(1..=products),
    )
}

fn withdraw(rng: &mut impl Rng, products: i64) -> String {
    let product = rng.random_range(1..=products);
    format!(
        "BEGIN; DELETE FROM inventory.stock WHERE product_id = {product}; DELETE FROM catalog.product WHERE id = {product}; COMMIT"
    )
}

fn cancel() -> String {
    "BEGIN;
     CREATE TEMP TABLE IF NOT EXISTS cancelled (id uuid); TRUNCATE cancelled;
     INSERT INTO cancelled SELECT id FROM sales.\"order\" ORDER BY placed_at DESC OFFSET 3 LIMIT 1;
     DELETE FROM sales.order_line WHERE order_id = (SELECT id FROM cancelled);
     DELETE FROM sales.\"order\" WHERE id = (SELECT id FROM cancelled);
     COMMIT"
        .to_owned()
}

/// A changed key; sometimes it goes back to a number that was withdrawn.
fn renumber(rng: &mut impl Rng, products: i64) -> String {
    let (from, to) = (
        rng.random_range(1..=products),
        rng.random_range(1..=products * 2),
    );
    format!(
        "UPDATE catalog.product SET id = {to}, sku = 'moved-{from}' WHERE id = {from} AND NOT EXISTS (SELECT FROM catalog.product WHERE id = {to})"
    )
}

fn savepoint(rng: &mut impl Rng, products: i64) -> String {
    let product = rng.random_range(1..=products);
    format!(
        "BEGIN; {}; SAVEPOINT s; UPDATE catalog.product SET name = 'never seen' WHERE id = {product};
         ROLLBACK TO SAVEPOINT s; UPDATE catalog.product SET rating = rating + 1 WHERE id = {product}; COMMIT",
        price_change(rng, products)
    )
}
