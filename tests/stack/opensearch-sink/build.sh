#!/bin/bash
# Builds Aiven's sink for OpenSearch, which is on no registry and whose own build needs Gradle's, from a checkout.
# Usage: build.sh CHECKOUT KAFKA_JARS FOLDER; the plugin is then FOLDER/plugins/opensearch-sink. Needs a JDK 21 or newer, and Maven.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$1 kafka=$2 folder=$3
read -r major jdk < <(sh "$here/../jdk.sh")
[ "$major" -ge 21 ] || { echo "Aiven's sink needs JDK 21, and the newest one found is $major" >&2; exit 1; }
[ -d "$checkout/src/main/java" ] || { echo "$checkout is no checkout of Aiven-Open/opensearch-connector-for-apache-kafka" >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder/classes" "$folder/plugins/opensearch-sink"
plugin=$folder/plugins/opensearch-sink
# Maven writes beside the pom.
cp "$here/pom.xml" "$folder/"
mvn -q -B -Dstyle.color=never -f "$folder/pom.xml" dependency:copy-dependencies -DoutputDirectory="$plugin" -DincludeScope=runtime >&2
find "$checkout/src/main/java" -name '*.java' > "$folder/sources"
"$jdk/bin/javac" --release 21 -proc:none -nowarn -Xlint:none -cp "$plugin/*:$kafka/*" -d "$folder/classes" "@$folder/sources" >&2
cp -r "$checkout/src/main/resources/." "$folder/classes/"
"$jdk/bin/jar" cf "$plugin/opensearch-sink.jar" -C "$folder/classes" .
