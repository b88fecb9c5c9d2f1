#!/usr/bin/env bash
# A client of librdkafka that has asked about a topic once knows for minutes how many partitions it has: of one that was added since,
# query_watermark_offsets says "Unknown partition" at once, without asking a broker, until the next refresh of the metadata
# (topic.metadata.refresh.interval.ms, 5 minutes). A client that asks for the first time then gets the answer.
# Who is hit: a tool that runs beside a consumer group and asks for lag or offsets with a client of its own: the group, whose members
# hear of new partitions by their subscription, already reads what the tool takes for not there.
# What helps: to ask for the topic's metadata behind such an error (list_topics with its name); then the next question is answered.
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
import sys, time
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

brokers = sys.argv[1]
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", 1, 1)])["t"].result()

def client():
    return Consumer({"bootstrap.servers": brokers, "group.id": "g"})

def ask(consumer, partition):
    try:
        return consumer.get_watermark_offsets(TopicPartition("t", partition), timeout=10, cached=False)
    except KafkaException as error:
        return error.args[0].code()

asked_before = client()
print("partition 0, before:", ask(asked_before, 0))
admin.create_partitions([NewPartitions("t", 2)])["t"].result()
while len(client().list_topics("t", timeout=10).topics["t"].partitions) < 2:
    time.sleep(0.1)
time.sleep(10)
fresh, old = ask(client(), 1), ask(asked_before, 1)
print("partition 1, 10 s after it was added: a new client says", fresh, "and the one that has asked before says", KafkaError(old).str() if isinstance(old, int) else old)
asked_before.list_topics("t", timeout=10)
again = ask(asked_before, 1)
print("the same one behind a request for the topic's metadata:", again)
sys.exit(0 if fresh == (0, 0) and old == KafkaError._UNKNOWN_PARTITION and again == (0, 0) else 1)
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
