//! Tables and changes whose records both plug-ins must give alike.

/// The topics that are compared.
pub(crate) const TOPICS: &[&str] = &[
    "s.many",
    "s.whole",
    "s.by_index",
    "s.bag",
    "s.Weird_u0020N_u00e4me-_u0024",
    "s.shaped",
    "s.mark",
];

pub(crate) const TABLES: &str = r#"
    CREATE SCHEMA s;
    CREATE SCHEMA "odd ""schema";
    CREATE TYPE "odd ""schema"."Odd Type" AS ENUM ('a', 'b "c"', 'ü\d');
    CREATE TYPE s."Mood" AS ENUM ('sad', 'ok');
    CREATE DOMAIN s.price AS numeric;
    CREATE DOMAIN s.blob AS bytea;
    CREATE DOMAIN s.yes AS boolean;
    CREATE TABLE s.many (
        id int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, f4 real, f8 float8, n numeric, np numeric(20,4),
        t text, vc varchar(20), ch char(5), x bytea, d date, tm time, tm3 time(3), ts timestamp, ts3 timestamp(3),
        tz timestamptz, ttz timetz, iv interval, u uuid, j json, jb jsonb, e "odd ""schema"."Odd Type", m s."Mood",
        pr s.price, bl s.blob, ys s.yes, ia int[], ta text[], na numeric(10,2)[], ip inet, o oid,
        g text GENERATED ALWAYS AS (id::text || coalesce(t, '')) STORED, big text);
    ALTER TABLE s.many ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE s.whole (a text, b int, c text, PRIMARY KEY (b, a));
    ALTER TABLE s.whole REPLICA IDENTITY FULL;
    ALTER TABLE s.whole ALTER c SET STORAGE EXTERNAL;
    CREATE TABLE s.by_index (id int PRIMARY KEY, code text NOT NULL, other int);
    CREATE UNIQUE INDEX by_code ON s.by_index (code);
    ALTER TABLE s.by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE s.bag (a int, b text);
    CREATE TABLE s.mark (id serial PRIMARY KEY);
    CREATE TABLE s."Weird Näme-$" ("a ""b""" int, "c,d\e" text, "Ünï" text, PRIMARY KEY ("c,d\e", "a ""b"""));
    CREATE TABLE s.shaped (id bigint PRIMARY KEY, a text, b int, c text);
    ALTER TABLE s.shaped ALTER c SET STORAGE EXTERNAL;
"#;

/// Transactions, one after the other; between the groups both sources catch up: the catalog may be newer than a record,
/// and rows may be gone, and each plug-in has its own way with that.
pub(crate) const STEPS: &[&[&str]] = &[
    // Every type; nulls; what has only one way to be written.
    &[r#"INSERT INTO s.many (id, b, i2, i8, f4, f8, n, np, t, vc, ch, x, d, tm, tm3, ts, ts3, tz, ttz, iv, u, j, jb, e, m,
            pr, bl, ys, ia, ta, na, ip, o, big)
        VALUES (1, true, -32768, 9223372036854775807, 1.17549435e-38, 1.7976931348623157e308,
            123456789012345678901234567890.000000000123456789, -0.0001, E'quote " back \\ tab \t line \n \x01 é 😀', 'v', 'c',
            '\x00ff5c22', '0044-03-15 BC', '23:59:59.999999', '24:00:00', 'infinity', '1999-12-31 23:59:59.999',
            '2026-11-21 12:00:00.5+05:30', '12:00:00+05:30', '-1 year 2 mons -3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
            '{"a" :  [1, "\u00e9\"x"]}', '{"b": 1e3}', 'b "c"', 'ok', 'NaN', '\x0102', false, '{1,NULL,-3}',
            ARRAY['a,b', 'c"d', 'e\f', NULL], '{1.50,-2,NULL}', '10.0.0.1/8', 4294967295, repeat('big', 5000));
        INSERT INTO s.many (id) VALUES (2);
        INSERT INTO s.many (id, f4, f8, n, np, e, t) VALUES (3, '-0', -0.1, 0.000, 1e15, 'ü\d', '');
        SELECT pg_logical_emit_message(true, 'somebody else''s', E'\\x00'::bytea)"#,
    // A look-up gives what the format cannot write.
    "INSERT INTO s.many (id, f4, f8, n, t) VALUES (4, 'NaN', '-Infinity', 'Infinity', 'special')"],
    &["UPDATE s.many SET i8 = i8 - 1 WHERE id = 1; UPDATE s.many SET t = 'x' WHERE id IN (2, 3);
        DELETE FROM s.many WHERE id = 2; UPDATE s.many SET id = 30 WHERE id = 3; UPDATE s.many SET id = 10 WHERE id = 1",
    // Savepoints, an aborted transaction, an empty one, several changes of one row.
    "BEGIN; INSERT INTO s.bag VALUES (1, 'a'); SAVEPOINT x; INSERT INTO s.bag VALUES (2, 'gone'); ROLLBACK TO x;
        INSERT INTO s.bag VALUES (1, NULL); UPDATE s.bag SET a = 5; DELETE FROM s.bag WHERE b = 'a'; COMMIT",
    "BEGIN; INSERT INTO s.bag VALUES (9, 'aborted'); ROLLBACK",
    "CREATE TABLE public.unrelated (id int); INSERT INTO public.unrelated VALUES (1)",
    // The other identities.
    "INSERT INTO s.whole VALUES ('k', 1, repeat('whole', 2000)), ('l', 2, NULL);
        UPDATE s.whole SET a = 'kk' WHERE b = 1; UPDATE s.whole SET c = 'x' WHERE b = 2; DELETE FROM s.whole WHERE b = 2",
    "INSERT INTO s.by_index VALUES (1, 'one', NULL), (2, 'two', 2); UPDATE s.by_index SET other = 7 WHERE id = 1;
        UPDATE s.by_index SET code = 'eins' WHERE id = 1; DELETE FROM s.by_index WHERE id = 2",
    r#"INSERT INTO s."Weird Näme-$" VALUES (1, 'x', 'y'); UPDATE s."Weird Näme-$" SET "Ünï" = 'z';
        UPDATE s."Weird Näme-$" SET "a ""b""" = 2; DELETE FROM s."Weird Näme-$""#,
    // Another shape, also in the middle of a transaction.
    "INSERT INTO s.shaped VALUES (1, 'a', 1, repeat('c', 9000)), (2, 'b', 2, 'short')",
    "UPDATE s.shaped SET b = 3 WHERE id = 1"],
    &["ALTER TABLE s.shaped ADD d text DEFAULT 'd'",
    "INSERT INTO s.shaped VALUES (3, 'c', 3, NULL, 'new')",
    "BEGIN; INSERT INTO s.shaped VALUES (4, 'd', 4, NULL, 'x'); ALTER TABLE s.shaped RENAME a TO aa;
        INSERT INTO s.shaped VALUES (5, 'e', 5, NULL, 'y'); ALTER TABLE s.shaped DROP b; INSERT INTO s.shaped VALUES (6, 'f', NULL, 'z');
        COMMIT",
    ],
    &["ALTER TABLE s.shaped ADD e numeric(6,2); INSERT INTO s.shaped VALUES (7, 'g', NULL, NULL, 1.5)",
    "UPDATE s.shaped SET aa = 'after' WHERE id = 1"],
    &["ALTER TABLE s.shaped DROP c",
    "UPDATE s.shaped SET aa = 'without c' WHERE id = 1"],
    &["TRUNCATE s.shaped, s.bag", "INSERT INTO s.bag VALUES (7, 'after')"],
];

/// What a look-up has given, or not: the record says so. The second one's row was deleted in the same transaction.
pub(crate) const DIFFERENCES: &[&str] = &[
    "s.many record 3: tributary.completed: f4,f8,n",
    "s.many record 5: tributary.incomplete: f4,f8,n,np",
];
