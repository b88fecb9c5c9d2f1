#!/usr/bin/env bash
# librdkafka knows no fetch sessions (KIP-227): each fetch names all partitions, also on an idle topic, and the broker parks it until
# fetch.wait.max.ms is over. It then leaves the request in its purgatory, with an object for each partition, until
# fetch.purgatory.purge.interval.requests (1,000) of them have come together. So one idle consumer holds up to
# 1,000 x its partitions of these objects in the broker's heap, for as long as it lives, though nothing is ever written.
# Who is hit: a broker with a small heap and a client of librdkafka (Python, Go, .NET, Rust, C++) that reads thousands of partitions.
# What helps: a lower fetch.purgatory.purge.interval.requests; a longer fetch.wait.max.ms only makes it take longer.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes a minute.
# Needs: bash, a JDK from 17 on (with jcmd), mvn, python3 with venv.
set -euo pipefail

work=$(mktemp -d)
broker=
cleanup() {
    [ -z "$broker" ] || { kill -9 "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; }
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.4.0</version></dependency>
  </dependencies>
</project>
POM

cat >idle.py <<'PY'
import subprocess, sys, time
from confluent_kafka import Consumer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers, broker = sys.argv[1], sys.argv[2]
partitions = 300
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", partitions, 1)])["t"].result()
consumer = Consumer({"bootstrap.servers": brokers, "group.id": "g", "fetch.wait.max.ms": 100})
consumer.assign([TopicPartition("t", n, 0) for n in range(partitions)])

def held():
    # Counts what is alive: a collection of garbage comes first.
    lines = subprocess.run(["jcmd", broker, "GC.class_histogram"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split() for line in lines if "FetchRequestData$FetchPartition " in line + " "]
    return int(found[0][1]) if found else 0

counts = []
for _ in range(3):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        consumer.poll(1.0)
    counts.append(held())
print(f"an idle consumer of {partitions} partitions without a record; after 10, 20 and 30 s the broker holds {counts} partitions of fetches, "
      f"{[count // partitions for count in counts]} whole requests")
sys.exit(0 if counts[2] > 100 * partitions else 1)
PY
python3 -m venv py
py/bin/pip install --quiet --disable-pip-version-check --only-binary :all: confluent-kafka==2.12.1
mvn -q -B -DoutputDirectory="$work/jars" dependency:copy-dependencies >mvn.log 2>&1 || { cat mvn.log; exit 1; }
port() { # a port that is free now
    local candidate
    while candidate=$((RANDOM % 20000 + 20000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then echo "$candidate"; return; fi
    done
}
client_port=$(port)
controller_port=$(port)
cat >server.properties <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$client_port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$client_port
controller.listener.names=CONTROLLER
log.dirs=$work/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
CONF
java -cp "jars/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c server.properties >format.log 2>&1 || { cat format.log; exit 1; }
java -Xmx384m -cp "jars/*" kafka.Kafka server.properties >broker.log 2>&1 &
broker=$!
for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$client_port") 2>/dev/null; then break; fi
    kill -0 "$broker" 2>/dev/null || { cat broker.log; exit 1; }
    sleep 0.2
done
echo "Kafka $(basename jars/kafka-clients-*.jar .jar | sed 's/kafka-clients-//')"
py/bin/python idle.py "127.0.0.1:$client_port" "$broker"
