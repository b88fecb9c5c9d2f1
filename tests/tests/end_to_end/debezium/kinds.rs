//! Tables of all types, with values at their ends, and of all kinds of identity, for both to publish.

/// The tables, each with its key.
pub(crate) const TABLES: [(&str, &[&str]); 8] = [
    ("kinds.scalar", &["id"]),
    ("kinds.list", &["id"]),
    ("kinds.structure", &["id"]),
    ("kinds.keyed", &["a", "b"]),
    ("kinds.whole", &["id"]),
    ("kinds.by_index", &["code"]),
    ("kinds.bag", &[]),
    ("kinds.Emptied", &["Id"]),
];

/// The columns are nullable, so that neither makes values up.
pub(crate) const SCHEMA: &str = r#"
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE SCHEMA kinds;
CREATE TYPE kinds.mood AS ENUM ('sad', 'ok', 'so so', 'größe');
ALTER TYPE kinds.mood ADD VALUE 'furious' BEFORE 'sad';
CREATE DOMAIN kinds.percent AS numeric(5,2) CHECK (VALUE <= 100);
CREATE DOMAIN kinds.days AS date[];
CREATE TYPE kinds.place AS (name text, "the point" point, tags text[]);
CREATE TABLE kinds.scalar (
    id integer PRIMARY KEY,
    c_bool boolean, c_int2 smallint, c_int4 integer, c_int8 bigint, c_oid oid,
    c_float4 real, c_float8 double precision,
    c_numeric_10_2 numeric(10,2), c_numeric numeric, c_money money, c_percent kinds.percent,
    c_text text, c_varchar varchar(20), c_char char(5), c_citext citext,
    c_bytea bytea, c_bit1 bit(1), c_bit3 bit(3), c_bit24 bit(24), c_varbit varbit, c_varbit10 varbit(10),
    c_date date, c_time time, c_time3 time(3), c_timetz timetz,
    c_timestamp timestamp, c_timestamp3 timestamp(3), c_timestamptz timestamptz, c_interval interval,
    c_uuid uuid, c_json json, c_jsonb jsonb, c_xml xml, c_mood kinds.mood,
    c_inet inet, c_cidr cidr, c_macaddr macaddr, c_macaddr8 macaddr8,
    c_hstore hstore, c_ltree ltree, c_tsvector tsvector,
    c_int4range int4range, c_int8range int8range, c_numrange numrange, c_daterange daterange, c_tsrange tsrange,
    c_tstzrange tstzrange, c_varbit1 varbit(1)
);
CREATE TABLE kinds.list (
    id integer PRIMARY KEY,
    l_bool boolean[], l_int2 smallint[], l_int4 integer[], l_int8 bigint[], l_oid oid[], l_float4 real[],
    l_float8 double precision[], l_numeric_10_2 numeric(10,2)[], l_numeric numeric[], l_text text[],
    l_varchar varchar(20)[], l_char char(5)[], l_citext citext[], l_bytea bytea[], l_date date[], l_time time[],
    l_timetz timetz[], l_timestamp timestamp[], l_timestamptz timestamptz[], l_interval interval[], l_uuid uuid[],
    l_json json[], l_jsonb jsonb[], l_xml xml[], l_mood kinds.mood[], l_inet inet[], l_int4range int4range[],
    l_hstore hstore[], l_money money[], l_bit bit(3)[], l_point point[], l_matrix integer[][]
);
CREATE TABLE kinds.structure (
    id integer PRIMARY KEY,
    s_point point, s_line line, s_lseg lseg, s_box box, s_path path, s_polygon polygon, s_circle circle,
    s_place kinds.place, s_places kinds.place[], s_days kinds.days, s_lsn pg_lsn
);
CREATE TABLE kinds.keyed (b text, a timestamptz, "V" jsonb, PRIMARY KEY (a, b));
CREATE TABLE kinds.whole (id integer PRIMARY KEY, n numeric(6,3), t text);
ALTER TABLE kinds.whole REPLICA IDENTITY FULL;
CREATE TABLE kinds.by_index (id integer PRIMARY KEY, code text NOT NULL, v integer);
CREATE UNIQUE INDEX by_code ON kinds.by_index (code);
ALTER TABLE kinds.by_index REPLICA IDENTITY USING INDEX by_code;
CREATE TABLE kinds.bag (n integer, t text);
CREATE TABLE kinds."Emptied" ("Id" integer PRIMARY KEY, "_Name" text);
"#;

/// Rows of each table of types: usual ones, those at the ends, empty ones, none; there before the snapshots.
pub(crate) const EXISTING: &str = r#"
INSERT INTO kinds.scalar VALUES
    (1, true, 1, 1, 1, 1, 1.5, 1.5, 1.50, 1.5, 1234.56, 99.99, 'text', 'varchar', 'char', 'CiText', '\x00ff', B'1', B'101',
        B'000000110000001000000001', B'0010111', B'101', '2024-02-29', '12:34:56.789012', '12:34:56.789', '12:34:56.789+02',
        '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789012+02',
        '1 year 2 mons 3 days 04:05:06.07', '00000000-0000-0000-0000-000000000001', '{"a" :  1}', '{"b": [1, null]}',
        '<a b="c">d</a>', 'ok', '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
        'a=>1, b=>NULL', 'Top.Science', 'a:1 fat:2,4 cat:3A', '[1,5)', '[1,5)', '[1.5,2.5)', '[2024-01-01,2024-02-01)',
        '[2024-01-01 00:00,2024-02-01 00:00)', '[2024-01-01 00:00+00,2024-02-01 00:00+00)'),
    (2, false, 32767, 2147483647, 9223372036854775807, 4294967295, 'Infinity', 'Infinity', 99999999.99, 1e100,
        92233720368547758.07, 100, E'\t\n"\\', '', '', '', '', B'0', B'111', B'111111111111111111111111', B'', B'',
        '9999-12-31', '23:59:59.999999', '23:59:59.999', '23:59:59.999999-15:59', '9999-12-31 23:59:59.999999',
        '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999+00', '100 years 11 mons 27 days 23:59:59.999999',
        'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', 'null', 'text', 'größe', '::', '::/0', 'ff:ff:ff:ff:ff:ff',
        'ff:ff:ff:ff:ff:ff:ff:ff', '', '', '', 'empty', '(,)', '[1,]', '(,)', '(,)', '[infinity,infinity]'),
    (3, NULL, -32768, -2147483648, -9223372036854775808, 0, '-Infinity', '-Infinity', -99999999.99, -1e-100,
        -92233720368547758.08, -999.99, 'größe 😀', 'NULL', 'ü', 'ß', '\xff00', NULL, B'000', B'000000000000000000000000',
        B'0', B'0000000001', '0001-01-01', '00:00', '00:00', '00:00+15:59', '0001-01-01 00:00', '0001-01-01 00:00',
        '0001-01-01 00:00+00', '-1 years -1 mons -1 days -00:00:00.000001', NULL, '"text"', '[]', '<a/>', 'so so',
        '2001:db8::1', '2001:db8::/32', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00', '"q\"uote"=>"a\\b"', 'a', 'x',
        '(,5]', '[-9223372036854775808,5]', '(,0]', '[,2024-02-01]', '(2024-01-01 00:00:00.5,]', NULL);
INSERT INTO kinds.scalar (id) VALUES (4);
UPDATE kinds.scalar SET c_varbit1 = CASE id WHEN 1 THEN B'1'::varbit WHEN 2 THEN B'0'::varbit WHEN 3 THEN B''::varbit END;
INSERT INTO kinds.list VALUES
    (1, '{t,NULL,f}', '{1,NULL}', '{1,NULL}', '{1,NULL}', '{1,NULL}', '{1.5,NULL}', '{1.5,NULL}', '{1.50,NULL}', '{1.50,NULL,10}',
        '{a,NULL,"b,c"}', '{a,NULL}', '{a,NULL}', '{Aa,NULL}', '{"\\x00ff",NULL}', '{2024-02-29,NULL}', '{12:34:56.789,NULL}',
        '{12:34:56.789+02,NULL}', '{2024-02-29 12:34:56.789012,NULL}', '{2024-02-29 12:34:56.789012+02,NULL}',
        '{1 mon,NULL}', '{00000000-0000-0000-0000-000000000001,NULL}', '{"{\"a\": 1}",NULL}', '{"{\"a\": 1}",NULL}',
        '{<a/>,NULL}', '{ok,NULL}', '{10.0.0.1,NULL}', '{"[1,5)",NULL}', '{"a=>1",NULL}', '{1.23,NULL}', '{101,NULL}',
        '{"(1,2)",NULL}', '{{1,NULL},{3,4}}'),
    (2, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (3, '{f}', '{-32768,32767}', '{-2147483648,2147483647}', '{-9223372036854775808,9223372036854775807}', '{4294967295}',
        '{-Infinity,NaN}', '{-Infinity,NaN}', '{-99999999.99}', '{1e100,-1e-100}', '{"",NULL,"NULL","{}","\"\\"}', '{""}',
        '{"",ü}', '{""}', '{"\\x"}', '{0001-01-01,9999-12-31}', '{00:00,23:59:59.999999}', '{00:00+15:59}',
        '{0001-01-01 00:00,9999-12-31 23:59:59.999999}', '{0001-01-01 00:00+00}', '{-1 days}',
        '{ffffffff-ffff-ffff-ffff-ffffffffffff}', '{null}', '{null}', '{text}', '{größe,"so so"}', '{::}', '{empty}',
        '{""}', '{-0.01}', '{000}', '{"(Infinity,-0.5)"}', '{{1,2}}');
INSERT INTO kinds.list (id) VALUES (4);
INSERT INTO kinds.structure VALUES
    (1, '(1.5,-2)', '{1,2,3}', '[(1,2),(3,4)]', '(3,4),(1,2)', '[(1,2),(3,4)]', '((1,2),(3,4),(5,6))', '<(1,2),3>',
        ROW('a "b"', '(1,2)', '{x,NULL}'), ARRAY[ROW('', NULL, '{}')::kinds.place, NULL], '{2024-02-29,NULL}', '16/B374D848'),
    (2, '(Infinity,1e-300)', NULL, NULL, NULL, '((1,2),(3,4))', NULL, NULL, ROW(NULL, NULL, NULL), '{}', '{}', '0/0');
INSERT INTO kinds.structure (id) VALUES (3);
INSERT INTO kinds.keyed VALUES ('x', '2024-02-29 12:34:56.789012+02', '{"a": 1}'), ('', '1969-12-31 23:59:59.999999+00', NULL);
INSERT INTO kinds.whole VALUES (1, 1.5, 'one'), (2, -999.999, NULL), (3, 3, 'three');
INSERT INTO kinds.by_index VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3);
INSERT INTO kinds.bag VALUES (1, 'a'), (1, 'a'), (NULL, NULL);
INSERT INTO kinds."Emptied" VALUES (1, 'one'), (2, NULL);
"#;

/// Changed while both stream.
pub(crate) const CHANGES: &str = r#"
INSERT INTO kinds.scalar SELECT (jsonb_populate_record(s, jsonb_build_object('id', id + 10))).* FROM kinds.scalar s WHERE id < 5 ORDER BY id;
INSERT INTO kinds.list SELECT (jsonb_populate_record(s, jsonb_build_object('id', id + 10))).* FROM kinds.list s WHERE id < 5 ORDER BY id;
INSERT INTO kinds.structure SELECT (jsonb_populate_record(s, jsonb_build_object('id', id + 10))).* FROM kinds.structure s WHERE id < 5 ORDER BY id;
UPDATE kinds.scalar SET c_text = 'changed' WHERE id = 1;
UPDATE kinds.scalar SET id = 21 WHERE id = 11;
UPDATE kinds.list SET l_text = '{changed}' WHERE id = 1;
UPDATE kinds.structure SET s_point = '(0,0)' WHERE id = 1;
DELETE FROM kinds.scalar WHERE id = 14;
DELETE FROM kinds.list WHERE id = 13;
DELETE FROM kinds.structure WHERE id = 12;
UPDATE kinds.keyed SET a = a + interval '1 us' WHERE b = 'x';
UPDATE kinds.keyed SET "V" = '[]' WHERE b = '';
DELETE FROM kinds.keyed WHERE b = 'x';
UPDATE kinds.whole SET t = 'eins' WHERE id = 1;
UPDATE kinds.whole SET id = 20 WHERE id = 2;
DELETE FROM kinds.whole WHERE id = 3;
UPDATE kinds.by_index SET v = 10 WHERE id = 1;
UPDATE kinds.by_index SET code = 'zwei' WHERE id = 2;
UPDATE kinds.by_index SET id = 30 WHERE id = 3;
DELETE FROM kinds.by_index WHERE code = 'three';
INSERT INTO kinds.bag VALUES (2, 'b'), (2, 'b');
TRUNCATE kinds."Emptied";
INSERT INTO kinds."Emptied" VALUES (1, 'again');
"#;

/// Values that stop Debezium's task or come out of it as something else, and what becomes of them with us, are in
/// docs/debezium.md; they have no place here, where both must get through.
pub(crate) const RECORDS: [(&str, i64); 8] = [
    ("kinds.scalar", 4 + 4 + 1 + 3 + 2),
    ("kinds.list", 4 + 4 + 1 + 2),
    ("kinds.structure", 3 + 3 + 1 + 2),
    ("kinds.keyed", 2 + 3 + 1 + 2),
    ("kinds.whole", 3 + 1 + 3 + 2),
    ("kinds.by_index", 3 + 1 + 3 + 1 + 2),
    ("kinds.bag", 3 + 2),
    ("kinds.Emptied", 2 + 1 + 1),
];
