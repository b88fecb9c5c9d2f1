-- Records what a real server's pgoutput sends: one line per message, "xid hex".
--   psql -XAtq -F ' ' -d DATABASE -f recorded.sql > recorded.txt
-- Needs wal_level = logical and a superuser (for the replication origin); leaves nothing behind.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\o /dev/null
SET DateStyle = 'ISO';
SET TimeZone = 'UTC';
CREATE SCHEMA recorded;
SET search_path = recorded;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE by_key (id int PRIMARY KEY, name text, price numeric(8,2), feeling mood, big text);
ALTER TABLE by_key ALTER big SET STORAGE EXTERNAL;
CREATE TABLE "Weird Näme" ("a b" int UNIQUE NOT NULL, "€" text);
ALTER TABLE "Weird Näme" REPLICA IDENTITY USING INDEX "Weird Näme_a b_key";
CREATE TABLE whole (a int, b text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE keyless (a bigserial);
ALTER TABLE keyless REPLICA IDENTITY NOTHING;
CREATE PUBLICATION recorded FOR TABLE by_key, "Weird Näme", whole;
CREATE PUBLICATION recorded_keyless FOR TABLE keyless WITH (publish = 'insert, truncate');
SELECT FROM pg_create_logical_replication_slot('recorded', 'pgoutput');
SELECT FROM pg_create_logical_replication_slot('recorded_binary', 'pgoutput');

INSERT INTO by_key VALUES (1, 'one', 1.50, 'happy', repeat('x', 2200)), (2, '', NULL, NULL, NULL);
UPDATE by_key SET name = 'eins' WHERE id = 1;
UPDATE by_key SET id = 3 WHERE id = 2;
DELETE FROM by_key WHERE id = 3;
BEGIN;
INSERT INTO "Weird Näme" VALUES (7, 'ü');
UPDATE "Weird Näme" SET "a b" = 8;
COMMIT;
INSERT INTO whole VALUES (1, 'old');
UPDATE whole SET b = 'new';
DELETE FROM whole;
INSERT INTO keyless VALUES (1);
TRUNCATE whole, keyless RESTART IDENTITY CASCADE;
SELECT FROM pg_logical_emit_message(true, 'in transaction', 'content');
SELECT FROM pg_logical_emit_message(false, 'outside', '\x00ff'::bytea);
SELECT FROM pg_replication_origin_create('recorded origin');
SELECT FROM pg_replication_origin_session_setup('recorded origin');
BEGIN;
SELECT FROM pg_replication_origin_xact_setup('1/2A', '2020-01-01 00:00:00Z');
INSERT INTO whole VALUES (2, NULL);
COMMIT;
SELECT FROM pg_replication_origin_session_reset();

\o
SELECT xid, encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('recorded', NULL, NULL,
  'proto_version', '1', 'publication_names', 'recorded,recorded_keyless', 'messages', 'true');
SELECT xid, encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('recorded_binary', NULL, 9,
  'proto_version', '1', 'publication_names', 'recorded', 'binary', 'true');
\o /dev/null
SELECT FROM pg_drop_replication_slot('recorded');
SELECT FROM pg_drop_replication_slot('recorded_binary');
SELECT FROM pg_replication_origin_drop('recorded origin');
DROP PUBLICATION recorded, recorded_keyless;
DROP SCHEMA recorded CASCADE;
