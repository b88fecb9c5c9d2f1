#!/usr/bin/env bash
# Debezium 3.6.1 does not run on Kafka Connect 4.4.0. Its metrics call a Kafka class that is not part of
# Kafka's public API, org.apache.kafka.common.utils.Sanitizer, and kafka-clients 4.4.0 has it in another
# package (utils.internals). The connector's class still loads; a task's start fails with a
# NoClassDefFoundError where it makes its metrics.
# Who is hit: whoever moves Connect to 4.4 with Debezium 3.6.1 in the plugin path, since Connect gives
# every plugin its own kafka-clients. What helps: Connect 4.3; Debezium 3.6.1's own
# build names Kafka 4.3.0.
# Below, the same calls as in the start of a task, with each Kafka's jars and no database.
# Versions: io.debezium:debezium-connector-postgres 3.6.1.Final; org.apache.kafka:connect-runtime 4.1.0,
# 4.3.0 and 4.4.0 (Maven). Exits 1 once this changes. Needs: bash, a JDK from 17 on, mvn.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId><version>${kafka}</version></dependency>
    <dependency><groupId>io.debezium</groupId><artifactId>debezium-connector-postgres</artifactId><version>3.6.1.Final</version></dependency>
  </dependencies>
</project>
POM

cat >Start.java <<'JAVA'
import io.debezium.config.Configuration;
import io.debezium.connector.base.ChangeEventQueueMetrics;
import io.debezium.connector.common.CdcSourceTaskContext;
import io.debezium.connector.postgresql.PostgresConnector;
import io.debezium.connector.postgresql.PostgresConnectorConfig;
import io.debezium.pipeline.metrics.DefaultChangeEventSourceMetricsFactory;
import java.util.Map;

class Start {
    public static void main(String[] arguments) {
        System.out.println("    connector class loads, version " + new PostgresConnector().version());
        Configuration settings = Configuration.from(Map.of("name", "c", "topic.prefix", "t",
                "database.hostname", "localhost", "database.user", "u", "database.dbname", "d"));
        var task = new CdcSourceTaskContext<>(settings, new PostgresConnectorConfig(settings), Map.of());
        ChangeEventQueueMetrics queue = new ChangeEventQueueMetrics() {
            public int totalCapacity() { return 1; }
            public int remainingCapacity() { return 1; }
            public long maxQueueSizeInBytes() { return 0; }
            public long currentQueueSizeInBytes() { return 0; }
        };
        var metrics = new DefaultChangeEventSourceMetricsFactory<>().getSnapshotMetrics(task, queue, null);
        metrics.register();
        metrics.unregister();
        System.out.println("    the task's metrics are made and registered");
    }
}
JAVA

# KAFKA EXPECTED
try() {
    mvn -q -B -Dkafka="$1" -DoutputDirectory="$work/$1" dependency:copy-dependencies >mvn.log 2>&1 || { cat mvn.log; exit 1; }
    echo "Debezium 3.6.1.Final on Connect $1:"
    java -cp "$1/*" Start.java 2>&1 | grep -vE 'SLF4J|^log4j' >seen || true
    head -4 seen
    grep -q "$2" seen || { echo "CHANGED: expected $2"; exit 1; }
}

echo "expected of all three: the metrics are made"
try 4.1.0 'metrics are made'
try 4.3.0 'metrics are made'
try 4.4.0 'NoClassDefFoundError: org/apache/kafka/common/utils/Sanitizer'
