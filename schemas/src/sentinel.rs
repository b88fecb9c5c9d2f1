//! The values that stand for what a typed form has no number for.
//!
//! No value of a table equals one of them: Postgres' range excludes it, or the encode plan refuses
//! the value. Debezium writes the timestamps' sentinels as well; the others are Tributary's.

use std::ops::RangeInclusive;

/// `infinity` in `io.debezium.time.Date` (days). Postgres' last date is 2,145,042,905 days after 1970.
pub const DATE_INFINITY: i32 = i32::MAX;
/// `-infinity` in `io.debezium.time.Date` (days).
pub const DATE_NEGATIVE_INFINITY: i32 = i32::MIN;

/// `infinity` in `io.debezium.time.Date`, as Debezium writes it: it streams the one, and a snapshot has the others, by the zone of its JVM.
/// All of them are before Postgres' first date.
pub const DEBEZIUM_DATE_INFINITY: [RangeInclusive<i32>; 2] =
    [-2_147_472_692..=-2_147_472_692, -622_191_235..=-622_191_232];
/// `-infinity` in `io.debezium.time.Date`, as Debezium writes it.
pub const DEBEZIUM_DATE_NEGATIVE_INFINITY: [RangeInclusive<i32>; 2] =
    [-2_147_472_691..=-2_147_472_691, -625_821_273..=-625_821_270];

/// `infinity` in `io.debezium.time.NanoTimestamp` (nanoseconds); Postgres counts microseconds.
pub const NANO_TIMESTAMP_INFINITY: i64 = i64::MAX;
/// `-infinity` in `io.debezium.time.NanoTimestamp` (nanoseconds).
pub const NANO_TIMESTAMP_NEGATIVE_INFINITY: i64 = i64::MIN;

/// `infinity` in `io.debezium.time.MicroTimestamp` (microseconds).
pub const MICRO_TIMESTAMP_INFINITY: i64 = 9_223_372_036_825_200_000;
/// `-infinity` in `io.debezium.time.MicroTimestamp` (microseconds).
pub const MICRO_TIMESTAMP_NEGATIVE_INFINITY: i64 = -9_223_372_036_832_400_000;

/// `infinity` in `io.debezium.time.Timestamp` (milliseconds).
pub const TIMESTAMP_INFINITY: i64 = MICRO_TIMESTAMP_INFINITY / 1000;
/// `-infinity` in `io.debezium.time.Timestamp` (milliseconds).
pub const TIMESTAMP_NEGATIVE_INFINITY: i64 = MICRO_TIMESTAMP_NEGATIVE_INFINITY / 1000;

/// `infinity` in `io.debezium.time.ZonedTimestamp` and `io.debezium.time.Interval` (PG17).
pub const TEXT_INFINITY: &str = "infinity";
/// `-infinity` in `io.debezium.time.ZonedTimestamp` and `io.debezium.time.Interval` (PG17).
pub const TEXT_NEGATIVE_INFINITY: &str = "-infinity";

/// The scale of a `io.debezium.data.VariableScaleDecimal` that is no number. Its value, one byte,
/// tells which: [`NAN`], [`INFINITY`] or [`NEGATIVE_INFINITY`]. Postgres' scales are 0 to 16,383.
pub const SPECIAL_SCALE: i32 = i32::MIN;
/// `NaN`, as the value of a decimal of [`SPECIAL_SCALE`].
pub const NAN: [u8; 1] = [0];
/// `Infinity`, as the value of a decimal of [`SPECIAL_SCALE`].
pub const INFINITY: [u8; 1] = [1];
/// `-Infinity`, as the value of a decimal of [`SPECIAL_SCALE`].
pub const NEGATIVE_INFINITY: [u8; 1] = [0xFF];
