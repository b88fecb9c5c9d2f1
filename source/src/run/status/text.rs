//! `status` for people.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use tributary_postgres::catalog::KEY_REMEDY;

/// The source's part of `/status` as lines.
pub(crate) fn details_text(details: &Value) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = slot(details, &mut text)
        .and_then(|()| snapshot(details, &mut text))
        .and_then(|()| tables(&details["tables"], &mut text));
    text
}

fn slot(details: &Value, text: &mut String) -> std::fmt::Result {
    let name = details["slot_name"].as_str().unwrap_or_default();
    let slot = &details["slot"];
    if slot.is_null() {
        writeln!(
            text,
            "slot      {name}: unknown (no connection, or there is none)"
        )?;
    } else {
        let active = if slot["active"] == true {
            "active"
        } else {
            "not active"
        };
        writeln!(
            text,
            "slot      {name}: {active}, wal_status {}, {} behind ({} s), holds {}{}",
            slot["wal_status"].as_str().unwrap_or("unknown"),
            bytes(&slot["lag_bytes"]),
            slot["lag_seconds"].as_f64().unwrap_or_default().round(),
            bytes(&slot["retained_bytes"]),
            match &slot["safe_wal_bytes"] {
                Value::Null => String::new(),
                safe => format!(", safe for another {}", bytes(safe)),
            }
        )?;
    }
    let position = &details["position"];
    if position.is_null() {
        return Ok(());
    }
    writeln!(
        text,
        "position  {} ordinal {}, confirmed {}, seq {}",
        position["lsn"].as_str().unwrap_or_default(),
        position["ordinal"],
        position["confirmed_lsn"].as_str().unwrap_or_default(),
        position["seq"],
    )
}

fn snapshot(details: &Value, text: &mut String) -> std::fmt::Result {
    let snapshot = &details["snapshot"];
    if snapshot.is_null() && details["position"].is_null() {
        return writeln!(text, "snapshot  not known: the source has not begun");
    }
    if snapshot.is_null() {
        return writeln!(text, "snapshot  none: every table is read");
    }
    let state = if snapshot["paused"] == true {
        ", paused"
    } else {
        ""
    };
    let left = match snapshot["seconds_left"].as_u64() {
        Some(seconds) => format!(", {seconds} s left"),
        None => String::new(),
    };
    writeln!(
        text,
        "snapshot  {} % of {} tables, {} rows, {} left{left}{state}",
        snapshot["percent"],
        snapshot["tables_left"],
        snapshot["rows"],
        bytes(&snapshot["bytes_left"]),
    )
}

fn tables(tables: &Value, text: &mut String) -> std::fmt::Result {
    let tables = tables.as_array().map_or(&[][..], Vec::as_slice);
    let name = |table: &Value| table["table"].as_str().unwrap_or_default().to_owned();
    let width = tables.iter().map(|table| name(table).chars().count()).max();
    let width = width.unwrap_or_default().max(5);
    if !tables.is_empty() {
        writeln!(
            text,
            "{:width$}  {:>12}  {:>12}  last change",
            "table", "snapshotted", "changes"
        )?;
    }
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    for table in tables {
        let ago = table["last_change_ms"].as_u64().map_or_else(
            || "-".to_owned(),
            |at| format!("{} s ago", now_ms.saturating_sub(u128::from(at)) / 1000),
        );
        let reading = match &table["snapshot"] {
            Value::Null => String::new(),
            snapshot => format!("  reading: {} %", snapshot["percent"]),
        };
        let without_key = if table["without_key"] == true {
            "  no key: UPDATE and DELETE are not published"
        } else {
            ""
        };
        writeln!(
            text,
            "{:width$}  {:>12}  {:>12}  {ago}{reading}{without_key}",
            name(table),
            table["rows_snapshotted"],
            table["changes"]
        )?;
    }
    if tables.iter().any(|table| table["without_key"] == true) {
        writeln!(text, "tables without a key: {KEY_REMEDY}")?;
    }
    Ok(())
}

/// A number of bytes with a fitting unit.
fn bytes(value: &Value) -> String {
    let all = value.as_f64().unwrap_or_default();
    let (mut scaled, mut unit) = (all, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, next);
    }
    if unit == "B" {
        format!("{all} B")
    } else {
        format!("{scaled:.1} {unit}")
    }
}
