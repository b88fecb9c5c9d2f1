#!/usr/bin/env bash
# Apicurio Registry 3.3.3 answers GET /apis/ccompat/v7/schemas/ids/N with another text than was registered:
# the same JSON, written anew without its spaces. 2.6.13 gives back the text as it was sent.
# Who is hit: a client of the Confluent API that compares or hashes the text, to find out whether an id
# has the schema that it knows, or to use it as a cache's key. Both read as the same Avro schema.
# What helps: compare parsed schemas, or read /schemas/ids/N/schema, which in 3.3.3 has the text as sent.
# Versions: io.apicurio:apicurio-registry-app 2.6.13.Final and 3.3.3 (Maven). Exits 1 once this changes,
# 77 without a JDK from 21 on (in JAVA_HOME, on the PATH or beside it). Needs: bash, mvn, curl, python3.
set -euo pipefail

major() { "$1" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.specification.version = \([0-9]*\).*/\1/p'; }
java=
for one in "${JAVA_HOME:-/none}/bin/java" "$(command -v java || echo /none)" /usr/lib/jvm/*/bin/java; do
    if [ -x "$one" ] && [ "$(major "$one")" -ge 21 ]; then java=$one; break; fi
done
[ -n "$java" ] || { echo "skipped: Apicurio 3.3.3 needs a JDK from 21 on, none found (set JAVA_HOME)"; exit 77; }

work=$(mktemp -d)
pid=
stop() {
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    pid=
}
trap 'stop; rm -rf "$work"' EXIT
cd "$work"

# VERSION JAR (a pattern): starts it on a port of its own choice, with its store in memory.
start() {
    local artifact=io.apicurio:apicurio-registry-app:$1:tar.gz:all end
    mkdir "$1"
    mvn -q -B dependency:get -Dtransitive=false -Dartifact="$artifact" >mvn.log 2>&1 &&
        mvn -q -B dependency:copy -Dartifact="$artifact" -DoutputDirectory=. >mvn.log 2>&1 || { cat mvn.log; exit 1; }
    tar xzf "apicurio-registry-app-$1-all.tar.gz" -C "$1" --no-same-owner
    rm ./*.tar.gz
    (cd "$1" && QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=0 QUARKUS_MANAGEMENT_HOST=127.0.0.1 \
        QUARKUS_MANAGEMENT_PORT=0 exec "$java" -Xmx512m -jar ./$2) >log 2>&1 &
    pid=$!
    end=$((SECONDS + 120))
    until url=$(grep -oE 'Listening on: http://127.0.0.1:[0-9]+' log | head -1 | cut -c15-) && [ -n "$url" ]; do
        kill -0 "$pid" && [ "$SECONDS" -lt "$end" ] || { cat log; exit 1; }
        sleep 0.2
    done
    url=$url/apis/ccompat/v7
}
member() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

sent='{"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}'
# VERSION JAR: registers the text and reads it back into $got and $raw.
try() {
    start "$1" "$2"
    local id
    id=$(python3 -c 'import json, sys; print(json.dumps({"schema": sys.argv[1]}))' "$sent" |
        curl --noproxy '*' -sS --fail-with-body -H 'Content-Type: application/json' --data-binary @- "$url/subjects/s/versions" | member id)
    got=$(curl --noproxy '*' -sS --fail-with-body "$url/schemas/ids/$id" | member schema)
    raw=$(curl --noproxy '*' -sS -w ' (%{http_code})' "$url/schemas/ids/$id/schema")
    printf '%s\n' "Apicurio $1" "  sent:                  $sent" "  /schemas/ids/N:        $got" "  /schemas/ids/N/schema: $raw"
    stop
    rm -rf "./$1"
}

try 2.6.13.Final 'apicurio-registry-app-*-runner.jar'
[ "$got" = "$sent" ] || { echo "CHANGED: 2.6.13 no longer returns the text as sent"; exit 1; }
try 3.3.3 quarkus-run.jar
[ "$got" != "$sent" ] || { echo "CHANGED: 3.3.3 returns the text as sent"; exit 1; }
[ "$got" = "${sent// /}" ] || { echo "CHANGED: 3.3.3 returns yet another text"; exit 1; }
