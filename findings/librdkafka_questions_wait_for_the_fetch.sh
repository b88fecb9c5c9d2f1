#!/usr/bin/env bash
# A consumer of librdkafka that has nothing to read answers questions about its partitions late: a broker takes one request of a
# connection after the other, an empty fetch is one that it keeps for fetch.wait.max.ms, and librdkafka asks on the same connection.
# So query_watermark_offsets and offsets_for_times take up to that long for each call while the topics are idle, and are quick while
# records come. A longer fetch.wait.max.ms, which spares an idle consumer's processor, makes each of them slower.
# Who is hit: whoever measures lag, or looks for offsets, by the consumer that reads: partition by partition, thousands take minutes.
# What helps: a second client, which fetches nothing, for the questions.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes half a minute.
# Needs: bash, a JDK from 17 on, mvn, python3 with venv.
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

cat >ask.py <<'PY'
import statistics, sys, time
from confluent_kafka import Consumer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers, wait = sys.argv[1], 2.0
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", 1, 1)])["t"].result()
settings = {"bootstrap.servers": brokers, "group.id": "g", "fetch.wait.max.ms": int(wait * 1000)}
place = TopicPartition("t", 0, 0)
reader, apart = Consumer(settings), Consumer(settings)
reader.assign([place])
# The first fetch is under way.
end = time.monotonic() + 3
while time.monotonic() < end:
    reader.poll(0.1)

def ask(consumer):
    began = time.monotonic()
    consumer.get_watermark_offsets(place, timeout=30, cached=False)
    return time.monotonic() - began

ask(apart)
times = {name: statistics.median(ask(consumer) for _ in range(5)) for name, consumer in [("that reads", reader), ("apart", apart)]}
for name, took in times.items():
    print(f"idle topic, fetch.wait.max.ms={wait * 1000:.0f}: the consumer {name} knows where the partition ends after {took * 1000:.0f} ms (median of 5)")
sys.exit(0 if times["that reads"] > wait / 4 and times["apart"] < wait / 10 else 1)
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
py/bin/python ask.py "127.0.0.1:$client_port"
