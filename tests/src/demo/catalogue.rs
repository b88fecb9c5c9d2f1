//! Packages as the products of a shop, and their way into Postgres.

use std::io::Cursor;

use anyhow::{Context, Result};
use futures::SinkExt;
use serde_json::json;
use tokio_postgres::Client;

use super::package_index::Package;

/// How much is handed to COPY at a time.
const COPY_BYTES: usize = 1 << 20;
/// `section varchar(80)`
const SECTION_CHARS: usize = 80;

const COLUMNS: &str = "id, sku, name, description, section, price, installed_kib, download_bytes, rating, essential, tags, attributes, checksum, record";

/// Stock in every region, and some orders of the days before.
const MORE: &str = r#"
INSERT INTO inventory.stock (product_id, region, quantity, shelf)
    SELECT id, r.name, (coalesce(download_bytes, 0) / 1000 * r.number % 500)::integer,
        CASE WHEN id % 9 = 0 THEN NULL ELSE id % 300 END
    FROM catalog.product,
        (VALUES (7, 'eu-central'), (11, 'eu-west'), (13, 'us-east')) r(number, name);
INSERT INTO sales."order" (id, customer, placed_at, ship_after, cut_off)
    SELECT md5('order ' || g)::uuid, 'customer ' || g % 700, now() - g * interval '3 minutes', (g % 96) * interval '1 hour', time '16:30'
    FROM generate_series(1, 2000) g;
INSERT INTO sales.order_line (order_id, line, product_id, quantity, price)
    SELECT md5('order ' || g)::uuid, line, p.id, 1 + g % 3, p.price
    FROM generate_series(1, 2000) g, generate_series(1, 3) line,
        LATERAL (SELECT id, price FROM catalog.product WHERE id = 1 + (g * 7919 + line * 104729) % (SELECT max(id) FROM catalog.product)) p
    WHERE line <= 1 + g % 3;
UPDATE sales."order" o SET total = l.total
    FROM (SELECT order_id, sum(price * quantity) AS total FROM sales.order_line GROUP BY order_id) l WHERE l.order_id = o.id;
ANALYZE;
"#;

/// Fills the shop's tables; the products have the ids 1 to the number of packages.
///
/// # Errors
/// The database refuses.
pub(super) async fn load(client: &Client, packages: &[Package]) -> Result<()> {
    let copy = format!("COPY catalog.product ({COLUMNS}) FROM STDIN");
    let sink = client
        .copy_in::<_, Cursor<String>>(&copy)
        .await
        .context("begin to load the catalogue")?;
    let mut sink = std::pin::pin!(sink);
    let mut lines = String::new();
    for (package, id) in packages.iter().zip(1..) {
        push_line(&mut lines, id, package);
        if lines.len() >= COPY_BYTES {
            sink.send(Cursor::new(std::mem::take(&mut lines))).await?;
        }
    }
    sink.send(Cursor::new(lines)).await?;
    sink.finish().await.context("load the catalogue")?;
    client
        .batch_execute(MORE)
        .await
        .context("load stock and orders")
}

/// One product as a line of COPY's text format.
fn push_line(out: &mut String, id: i64, package: &Package) {
    let bytes = package.number("size");
    let section = package.get("section");
    let installed = package
        .number("installed-size")
        .and_then(|kib| i32::try_from(kib).ok());
    let cells = [
        Some(id.to_string()),
        package.get("package").map(str::to_owned),
        package.get("package").map(title),
        package.get("description").map(str::to_owned),
        section.map(|section| section.chars().take(SECTION_CHARS).collect()),
        Some(price(bytes.unwrap_or_default())),
        installed.map(|kib| kib.to_string()),
        bytes.map(|bytes| bytes.to_string()),
        checksum(package).and_then(|digits| rating(&digits)),
        Some((package.get("essential") == Some("yes")).to_string()),
        Some(array(&package.list("tag"))),
        Some(attributes(package)),
        checksum(package).map(|digits| format!("\\x{digits}")),
        Some(package.record.clone()),
    ];
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.push('\t');
        }
        match cell {
            None => out.push_str("\\N"),
            Some(text) => push_escaped(out, text),
        }
    }
    out.push('\n');
}

fn push_escaped(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
}

/// `libpostgresql-jdbc-java` as the words of a title.
fn title(name: &str) -> String {
    name.replace('-', " ")
}

/// What a download costs: 99 cents and a cent for every 10,000 bytes.
fn price(bytes: i64) -> String {
    let cents = 99 + bytes / 10_000;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// SHA256, or MD5 where that is missing, in hexadecimal digits.
fn checksum(package: &Package) -> Option<String> {
    let is_hex = |digits: &&str| {
        digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    ["sha256", "md5sum"]
        .iter()
        .filter_map(|name| package.get(name))
        .find(is_hex)
        .map(str::to_owned)
}

/// From 0 to 5, by the checksum's first byte: nobody rates packages.
fn rating(digits: &str) -> Option<String> {
    let byte = u8::from_str_radix(digits.get(..2)?, 16).ok()?;
    Some((f64::from(byte) / 51.0).to_string())
}

/// The literal of a text array.
fn array(items: &[String]) -> String {
    let quoted: Vec<String> = items
        .iter()
        .map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

fn attributes(package: &Package) -> String {
    json!({
        "version": package.get("version"),
        "architecture": package.get("architecture"),
        "priority": package.get("priority"),
        "maintainer": package.get("maintainer"),
        "homepage": package.get("homepage"),
        "depends": package.list("depends"),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::package_index::parse;
    use super::{array, price, push_line};

    fn line(record: &str) -> Vec<String> {
        let mut out = String::new();
        push_line(&mut out, 7, &parse(record)[0]);
        assert!(out.ends_with('\n') && out.matches('\n').count() == 1);
        out.trim_end_matches('\n')
            .split('\t')
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_package_becomes_a_product() {
        let cells = line(
            "Package: gnu-chess\nVersion: 6.2\nInstalled-Size: 300\nEssential: yes\nDescription: game\n of chess\nTag: game::board,\n a\nSection: games\nSize: 1234567\nMD5sum: ff00\n",
        );
        assert_eq!(
            cells[..11],
            [
                "7",
                "gnu-chess",
                "gnu chess",
                "game\\nof chess",
                "games",
                "2.22",
                "300",
                "1234567",
                "5",
                "true",
                "{\"game::board\",\"a\"}"
            ]
        );
        assert!(
            cells[11].contains("\"version\":\"6.2\"") && cells[11].contains("\"homepage\":null")
        );
        assert_eq!(cells[12], "\\\\xff00");
        assert!(cells[13].starts_with("Package: gnu-chess\\nVersion: 6.2"));
    }

    #[test]
    fn what_a_package_lacks_is_null() {
        let cells = line("Package: a\nSHA256: no hex\nInstalled-Size: 99999999999\n");
        for at in [3, 4, 6, 7, 8, 12] {
            assert_eq!(cells[at], "\\N", "column {at}");
        }
        assert_eq!(
            (&*cells[5], &*cells[9], &*cells[10]),
            ("0.99", "false", "{}")
        );
    }

    #[test]
    fn backslashes_tabs_and_quotes_are_escaped() {
        let cells = line("Package: a\nDescription: x\ty \\N\nTag: a\"b\\c\n");
        assert_eq!(cells[3], "x\\ty \\\\N");
        assert_eq!(cells[10], "{\"a\\\\\"b\\\\\\\\c\"}");
        assert_eq!(
            array(&["a\"b\\c".to_owned(), "ü".to_owned()]),
            "{\"a\\\"b\\\\c\",\"ü\"}"
        );
    }

    #[test]
    fn sections_are_cut_to_the_column() {
        let cells = line(&format!("Package: a\nSection: {}\n", "ü".repeat(100)));
        assert_eq!(cells[4].chars().count(), 80);
    }

    #[test]
    fn prices_have_two_digits() {
        assert_eq!(price(0), "0.99");
        assert_eq!(price(10_000), "1.00");
        assert_eq!(price(1_377_557_908), "1378.54");
    }
}
