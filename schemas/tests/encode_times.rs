//! Dates and times, their extremes among them: what apache-avro reads from what we wrote.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod oracle;

use oracle::tables::{time, timestamp};
use oracle::{assert_refused, assert_written};
use tributary_schemas::table::ColumnType;

#[test]
fn dates() {
    assert_written(
        &ColumnType::Date,
        &[
            ("1970-01-01", "0"),
            ("1969-12-31", "-1"),
            ("2020-02-29", "18321"),
            ("2000-02-29", "11016"),
            ("0001-01-01", "-719162"),
            ("0001-12-31 BC", "-719163"),
            // -0043-03-15 of ISO 8601 (java.time.LocalDate.toEpochDay)
            ("0044-03-15 BC", "-735160"),
            ("20000-01-01", "6585322"),
            // Postgres' first and last date
            ("4714-11-24 BC", "-2440588"),
            ("5874897-12-31", "2145042905"),
            ("infinity", "2147483647"),
            ("-infinity", "-2147483648"),
        ],
    );
    for text in [
        "",
        "2020-2-9",
        "29.02.2020",
        "2020-02-29 AD",
        "2020-13-01",
        "2020-00-01",
        "2020-01-32",
        "2020-01-00",
        "20-01-01",
    ] {
        assert_refused(
            &ColumnType::Date,
            text,
            "date",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn times() {
    assert_written(
        &time(6),
        &[
            ("00:00:00", "0"),
            ("12:34:56.789012", "45296789012"),
            ("12:00:00.5", "43200500000"),
            ("23:59:59.999999", "86399999999"),
            ("24:00:00", "86400000000"),
        ],
    );
    for precision in 0..=3 {
        assert_written(
            &time(precision),
            &[("12:34:56", "45296000"), ("24:00:00", "86400000")],
        );
    }
    assert_written(
        &time(3),
        &[("12:34:56.789", "45296789"), ("01:02:03.004", "3723004")],
    );
    assert_refused(
        &time(3),
        "12:34:56.7891",
        "time(3)",
        "finer than a millisecond",
    );
    for text in [
        "",
        "24:00:01",
        "24:00:00.000001",
        "12:60:00",
        "12:00:60",
        "12:00",
        "12:00:00.",
        "12:00:00.1234567",
        "12:00:00+00",
    ] {
        assert_refused(&time(6), text, "time(6)", "not a date or time in ISO form");
    }
}

#[test]
fn timestamps() {
    assert_written(
        &timestamp(6),
        &[
            ("2020-01-01 12:34:56.789012", "1577882096789012"),
            ("1969-12-31 23:59:59.999999", "-1"),
            ("0044-03-15 12:00:00.5 BC", "-63517780799500000"),
            ("0001-01-01 00:00:00", "-62135596800000000"),
            ("20000-01-01 12:00:00", "568971864000000000"),
            // Postgres' first timestamp; the last microsecond of 64 bits
            ("4714-11-24 00:00:00 BC", "-210866803200000000"),
            ("294247-01-10 04:00:54.775807", "9223372036854775807"),
            ("infinity", "9223372036825200000"),
            ("-infinity", "-9223372036832400000"),
        ],
    );
    assert_written(
        &timestamp(3),
        &[
            ("2020-01-01 12:34:56.789", "1577882096789"),
            ("0044-03-15 12:00:00.5 BC", "-63517780799500"),
            // past 64-bit microseconds, but not past milliseconds: Postgres' last
            ("294276-12-31 23:59:59.999", "9224318015999999"),
            ("infinity", "9223372036825200"),
            ("-infinity", "-9223372036832400"),
        ],
    );
}

#[test]
fn timestamps_that_do_not_fit_are_refused() {
    let past = "past the range of 64-bit microseconds";
    assert_refused(
        &timestamp(6),
        "294276-12-31 23:59:59.999999",
        "timestamp(6)",
        past,
    );
    assert_refused(
        &timestamp(6),
        "294247-01-10 04:00:54.775808",
        "timestamp(6)",
        past,
    );
    let sentinel = "equals the number that stands for infinity";
    assert_refused(
        &timestamp(6),
        "294247-01-10 04:00:25.2",
        "timestamp(6)",
        sentinel,
    );
    assert_refused(
        &timestamp(3),
        "294247-01-10 04:00:25.2",
        "timestamp(3)",
        sentinel,
    );
    assert_refused(
        &timestamp(3),
        "2020-01-01 12:34:56.7891",
        "timestamp(3)",
        "finer",
    );
    assert_refused(
        &timestamp(6),
        "2020-01-01",
        "timestamp(6)",
        "not a date or time",
    );
    assert_refused(
        &timestamp(6),
        "2020-01-01 00:00:00+00",
        "timestamp(6)",
        "not a date or time",
    );
}

/// As Debezium 3.3.1 streamed them.
#[test]
fn timestamps_with_a_zone() {
    assert_written(
        &ColumnType::TimestampTz,
        &[
            ("2020-01-01 10:34:56.1234+00", "2020-01-01T10:34:56.123400Z"),
            ("2020-01-01 00:00:00+00", "2020-01-01T00:00:00.000000Z"),
            (
                "2020-01-01 00:01:00.000001+00",
                "2020-01-01T00:01:00.000001Z",
            ),
            (
                "0044-03-15 12:00:00.5+00 BC",
                "-0043-03-15T12:00:00.500000Z",
            ),
            ("0001-12-31 00:00:00+00 BC", "0000-12-31T00:00:00.000000Z"),
            ("20000-01-01 12:00:00+00", "+20000-01-01T12:00:00.000000Z"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            // the ends of Postgres' range
            ("4714-11-24 00:00:00+00 BC", "-4713-11-24T00:00:00.000000Z"),
            (
                "294276-12-31 23:59:59.999999+00",
                "+294276-12-31T23:59:59.999999Z",
            ),
            // a session in another zone: still the same instant
            ("2020-01-01 01:00:00+02", "2019-12-31T23:00:00.000000Z"),
            ("2020-01-01 23:00:00-05:30", "2020-01-02T04:30:00.000000Z"),
            (
                "0001-01-01 00:00:00+00:00:01",
                "0000-12-31T23:59:59.000000Z",
            ),
        ],
    );
    for text in [
        "2020-01-01 00:00:00",
        "2020-01-01T00:00:00+00",
        "2020-01-01 00:00:00 UTC",
        "2020-01-01 00:00:00+00:60",
    ] {
        assert_refused(
            &ColumnType::TimestampTz,
            text,
            "timestamptz",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn times_with_a_zone_keep_it() {
    assert_written(
        &ColumnType::TimeTz,
        &[
            ("12:34:56.789+02", "12:34:56.789+02:00"),
            ("12:34:56-05:30", "12:34:56-05:30"),
            ("01:00:00.1+00", "01:00:00.1Z"),
            ("24:00:00+00", "24:00:00Z"),
            ("00:00:00+15:59", "00:00:00+15:59"),
            ("23:59:59.999999-15:59:59", "23:59:59.999999-15:59:59"),
        ],
    );
    for text in ["12:00:00", "12:00:00Z", "12:00:00+2", "12:00:00+02 BC"] {
        assert_refused(
            &ColumnType::TimeTz,
            text,
            "timetz",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn intervals() {
    assert_written(
        &ColumnType::Interval,
        &[
            ("1 year 2 mons -3 days +04:05:06.789", "P1Y2M-3DT4H5M6.789S"),
            ("infinity", "infinity"),
        ],
    );
    assert_refused(
        &ColumnType::Interval,
        "P1Y2M",
        "interval",
        "style of Postgres",
    );
}
