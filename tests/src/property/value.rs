//! Values of each type, among them the extremes that its form in the topics can hold.

use rand::RngExt;
use rand::rngs::SmallRng;

/// A type of a column, and how to make values of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueKind {
    /// As SQL has it; `{}` stands for the world's schema.
    pub(super) sql: &'static str,
    /// A value's text.
    pub(super) value: fn(&mut SmallRng) -> String,
    /// The n-th value of a key of this type; `None` for a type that no key has.
    pub(super) key: Option<fn(u32) -> String>,
    /// What the type may become without another meaning of the values.
    pub(super) wider: Option<&'static str>,
}

const fn kind(sql: &'static str, value: fn(&mut SmallRng) -> String) -> ValueKind {
    ValueKind {
        sql,
        value,
        key: None,
        wider: None,
    }
}

const fn key(
    sql: &'static str,
    value: fn(&mut SmallRng) -> String,
    key: fn(u32) -> String,
) -> ValueKind {
    ValueKind {
        key: Some(key),
        ..kind(sql, value)
    }
}

const fn widens(kind: ValueKind, wider: &'static str) -> ValueKind {
    ValueKind {
        wider: Some(wider),
        ..kind
    }
}

/// All types. What needs objects of the world's own is created by [`PRELUDE`].
pub(super) const KINDS: [ValueKind; 59] = [
    kind("boolean", |r| one_of(r, &["t", "f"])),
    widens(
        key(
            "smallint",
            |r| one_of(r, &["-32768", "32767", "0", "7"]),
            |n| (n % 30_000).to_string(),
        ),
        "integer",
    ),
    widens(
        key(
            "integer",
            |r| integer(r, i32::MIN.into(), i32::MAX.into()),
            |n| n.to_string(),
        ),
        "bigint",
    ),
    key(
        "bigint",
        |r| integer(r, i64::MIN, i64::MAX),
        |n| (i64::MIN + i64::from(n)).to_string(),
    ),
    widens(
        kind("real", |r| {
            one_of(
                r,
                &[
                    "0.1",
                    "-0",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "1e-45",
                    "3.4028235e+38",
                    "16777216",
                ],
            )
        }),
        "double precision",
    ),
    kind("double precision", |r| {
        one_of(
            r,
            &[
                "0.1",
                "-0",
                "NaN",
                "Infinity",
                "-Infinity",
                "5e-324",
                "1.7976931348623157e+308",
                "-123456.789",
            ],
        )
    }),
    kind("oid", |r| one_of(r, &["0", "4294967295", "16384"])),
    key("text", text, |n| format!("k {n} \"ü\"")),
    widens(
        key("varchar(40)", |r| short_text(r, 40), |n| format!("v{n}")),
        "text",
    ),
    key("char(9)", |r| short_text(r, 9), |n| format!("c{n}")),
    kind("name", |r| short_text(r, 20)),
    widens(
        kind("numeric(10,2)", |r| {
            one_of(r, &["0", "-0.01", "99999999.99", "-99999999.99", "12.3"])
        }),
        "numeric(12,2)",
    ),
    key(
        "numeric(38,10)",
        |r| {
            one_of(
                r,
                &[
                    "0.0000000001",
                    "-9999999999999999999999999999.9999999999",
                    "1",
                ],
            )
        },
        |n| format!("{n}.5"),
    ),
    kind("numeric(5,-2)", |r| one_of(r, &["1200", "-9999900", "0"])),
    kind("numeric(3,5)", |r| one_of(r, &["0.00999", "-0.00001", "0"])),
    key("numeric", numeric, |n| format!("{n}.25")),
    key(
        "date",
        |r| {
            one_of(
                r,
                &[
                    "2024-02-29",
                    "infinity",
                    "-infinity",
                    "4714-11-24 BC",
                    "0001-01-01",
                    "0001-12-31 BC",
                    "5874897-12-31",
                    "1582-10-10",
                ],
            )
        },
        |n| format!("{:04}-01-{:02}", 1 + n / 28, 1 + n % 28),
    ),
    kind("time", |r| {
        one_of(
            r,
            &["00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.7"],
        )
    }),
    kind("time(3)", |r| {
        one_of(r, &["00:00:00", "24:00:00", "23:59:59.999"])
    }),
    kind("timestamp", |r| {
        one_of(
            r,
            &[
                "2024-02-29 12:00:00",
                "infinity",
                "-infinity",
                "4714-11-24 00:00:00 BC",
                "294246-12-31 23:59:59.999999",
                "1969-12-31 23:59:59.999999",
                "0044-03-15 01:02:03.5 BC",
            ],
        )
    }),
    kind("timestamp(3)", |r| {
        one_of(
            r,
            &[
                "2024-02-29 12:00:00.123",
                "infinity",
                "-infinity",
                "4714-11-24 00:00:00.001 BC",
                "294246-12-31 23:59:59.999",
            ],
        )
    }),
    key(
        "timestamptz",
        |r| {
            one_of(
                r,
                &[
                    "2024-02-29 12:00:00.1+05:30",
                    "infinity",
                    "-infinity",
                    "4714-11-24 12:00:00+00 BC",
                    "294276-12-31 23:59:59.999999+00",
                    "12345-06-07 08:09:10+00",
                ],
            )
        },
        |n| format!("{:04}-02-01 00:00:{:02}+00", 1 + n / 60, n % 60),
    ),
    kind("timestamptz(0)", |r| {
        one_of(r, &["2024-02-29 12:00:00+00", "0001-01-01 00:00:00+00"])
    }),
    kind("timetz", |r| {
        one_of(
            r,
            &[
                "12:34:56.789+02",
                "00:00:00-15:59:59",
                "24:00:00+00",
                "23:59:59.999999+05:30",
            ],
        )
    }),
    kind("interval", interval),
    key("uuid", |r| uuid(r.random()), |n| uuid(u128::from(n))),
    kind("json", |r| {
        one_of(
            r,
            &[
                "{\"a\" : 1,  \"a\": [null, 1.50]}",
                "null",
                "\"ü \\u00e4 \\n\"",
                "[]",
                "1e400",
            ],
        )
    }),
    kind("jsonb", |r| {
        one_of(
            r,
            &[
                "{\"b\": {\"c\": \"x'\\\"\"}, \"n\": 1.50}",
                "null",
                "[1, 2, {}]",
                "12345678901234567890.12345",
            ],
        )
    }),
    kind("xml", |r| {
        one_of(r, &["<a b=\"1\">ü &amp; x</a>", "<x/>", "text only"])
    }),
    kind("{}.\"Mood x\"", |r| {
        one_of(r, &["sad", "h'appy, \"very\"", "ü 𝄞"])
    }),
    key(
        "{}.\"Mood x\"",
        |r| one_of(r, &["sad", "h'appy, \"very\"", "ü 𝄞"]),
        |n| ["sad", "h'appy, \"very\"", "ü 𝄞"][n as usize % 3].to_owned(),
    ),
    key("bytea", bytea, |n| format!("\\x00ff{n:08x}")),
    kind("{}.positive", |r| r.random_range(1..1_000_000).to_string()),
    kind("{}.label", |r| short_text(r, 30)),
    kind("integer[]", |r| {
        one_of(r, &["{}", "{1,NULL,-2147483648}", "{7}"])
    }),
    kind("text[]", |r| {
        one_of(
            r,
            &[
                "{}",
                "{NULL,\"NULL\",\"\",\"a \\\"b\\\" \\\\ , {}\",ü}",
                "{x}",
            ],
        )
    }),
    kind("numeric(6,2)[]", |r| {
        one_of(r, &["{1.50,-0.01,NULL}", "{}"])
    }),
    kind("double precision[]", |r| {
        one_of(r, &["{1e+20,NaN,-Infinity,0.1}", "{NULL}"])
    }),
    kind("timestamptz[]", |r| {
        one_of(r, &["{\"2024-02-29 12:00:00+00\",infinity}", "{}"])
    }),
    kind("bytea[]", |r| {
        one_of(r, &["{\"\\\\x00ff\",NULL,\"\\\\x\"}", "{}"])
    }),
    kind("boolean[]", |r| one_of(r, &["{t,f,NULL}", "{}"])),
    kind("uuid[]", |r| format!("{{{},NULL}}", uuid(r.random()))),
    kind("{}.\"Mood x\"[]", |r| {
        one_of(r, &["{sad,\"h'appy, \\\"very\\\"\",NULL}", "{}"])
    }),
    key(
        "inet",
        |r| one_of(r, &["10.0.0.1/8", "::1", "192.168.0.1"]),
        |n| format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
    ),
    kind("cidr", |r| one_of(r, &["10.0.0.0/8", "2001:db8::/32"])),
    kind("macaddr", |r| one_of(r, &["08:00:2b:01:02:03"])),
    kind("macaddr8", |r| one_of(r, &["08:00:2b:01:02:03:04:05"])),
    kind("int4range", |r| one_of(r, &["[1,10)", "empty", "(,5)"])),
    kind("tstzrange", |r| {
        one_of(
            r,
            &[
                "[\"2024-01-01 00:00:00+00\",\"2024-02-01 00:00:00+00\")",
                "empty",
            ],
        )
    }),
    kind("tsvector", |r| one_of(r, &["'a':1A 'fat':2B,4", "'it''s'"])),
    kind("bit(9)", |r| one_of(r, &["000000101", "111111111"])),
    kind("varbit(9)", |r| {
        one_of(r, &["", "0", "000000101", "111111111"])
    }),
    kind("box", |r| one_of(r, &["(1,1),(0,0)"])),
    kind("money", |r| {
        one_of(
            r,
            &[
                "-92233720368547758.08",
                "92233720368547758.07",
                "0",
                "-0.01",
            ],
        )
    }),
    kind("int8multirange", |r| {
        one_of(r, &["{}", "{[1,3),[5,8)}", "{(,5)}"])
    }),
    kind("integer[][]", |r| {
        one_of(r, &["{}", "{{1,NULL},{-2147483648,7}}", "{{0}}"])
    }),
    kind("text[][]", |r| {
        one_of(r, &["{}", "{{\"a,}\",NULL},{\"NULL\",\"\"}}", "{{ü}}"])
    }),
    kind("{}.\"Pair x\"", |r| {
        one_of(
            r,
            &[
                "(,)",
                "(-1,\"\")",
                "(2147483647,\"a \"\"b\"\" (c), \\\\d\")",
                "(7,ü)",
            ],
        )
    }),
    kind("{}.\"Pair x\"[]", |r| {
        one_of(r, &["{}", "{\"(1,x)\",NULL,\"(,\\\"y z\\\")\"}"])
    }),
];

/// Types that exist once per world; `{}` stands for its schema.
pub(super) const PRELUDE: &str = "
    CREATE TYPE {}.\"Mood x\" AS ENUM ('sad', 'h''appy, \"very\"', 'ü 𝄞');
    CREATE DOMAIN {}.positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN {}.label AS varchar(30);
    CREATE TYPE {}.\"Pair x\" AS (number integer, \"the text\" text);";

fn one_of(rng: &mut SmallRng, texts: &[&str]) -> String {
    texts[rng.random_range(0..texts.len())].to_owned()
}

fn integer(rng: &mut SmallRng, min: i64, max: i64) -> String {
    match rng.random_range(0..6) {
        0 => min.to_string(),
        1 => max.to_string(),
        2 => "0".to_owned(),
        _ => rng.random_range(min..=max).to_string(),
    }
}

fn numeric(rng: &mut SmallRng) -> String {
    match rng.random_range(0..9) {
        0 => "NaN".to_owned(),
        1 => "Infinity".to_owned(),
        2 => "-Infinity".to_owned(),
        3 => format!("-{}.{}", "9".repeat(1000), "1".repeat(1000)),
        4 => "0.000".to_owned(),
        5 => format!("0.{}1", "0".repeat(300)),
        _ => format!(
            "{}.{:03}0",
            rng.random_range(-1_000_000..1_000_000),
            rng.random_range(0..1000)
        ),
    }
}

fn interval(rng: &mut SmallRng) -> String {
    match rng.random_range(0..6) {
        0 => "178000000 years".to_owned(),
        1 => "-178000000 years -11 mons -3 days -04:05:06.000001".to_owned(),
        2 => "00:00:00".to_owned(),
        3 => "1 mon -30 days 720:00:00".to_owned(),
        _ => format!(
            "{} days {} seconds",
            rng.random_range(-1000..1000),
            rng.random_range(-100_000..100_000)
        ),
    }
}

fn uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn bytea(rng: &mut SmallRng) -> String {
    let length = match rng.random_range(0..5) {
        0 => 0,
        1 => 6_000,
        _ => rng.random_range(1..30),
    };
    let digits = (0..length).map(|_| format!("{:02x}", rng.random::<u8>()));
    format!("\\x{}", digits.collect::<String>())
}

/// Any text that Postgres takes; from time to time one that is stored out of line.
fn text(rng: &mut SmallRng) -> String {
    match rng.random_range(0..8) {
        0 => String::new(),
        1 => "NULL".to_owned(),
        2 => "\\N tab\t newline\n return\r back\\slash \u{1} \u{7f} '\"".to_owned(),
        3 => "__debezium_unavailable_value".to_owned(),
        // Not compressible, so that it is TOASTed.
        4 | 5 => (0..rng.random_range(3_000..9_000))
            .map(|_| char::from(rng.random_range(b'!'..=b'~')))
            .collect(),
        _ => short_text(rng, 40),
    }
}

fn short_text(rng: &mut SmallRng, length: usize) -> String {
    const ALPHABET: [char; 12] = [
        'a', 'B', ' ', 'ü', '𝄞', '\'', '"', '\\', ',', '{', '0', '\u{200d}',
    ];
    let length = rng.random_range(0..length);
    (0..length)
        .map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())])
        .collect()
}
