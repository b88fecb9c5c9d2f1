#!/usr/bin/env bash
# A broker stands still (a frozen VM, a host that swaps, a network that drops packets): its connections stay open. librdkafka takes its
# own session for timed out, gives the partitions up with a call to on_lost, and from then on looks like an idle member of the
# group: poll returns nothing, the error callback is not called, and the assignment is empty, as it is for a standby. Only its log
# lines tell. The offsets that it knows stay what they were, so a lag that is made from them stands still as well.
# Who is hit: a consumer whose health is "no error was reported": it is ready, with a lag of zero, while it reads nothing.
# What helps: ask the broker something with a deadline now and then (the ends of the partitions, or metadata), and take silence for an error.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes a minute.
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

cat >silent.py <<'PY'
import os, signal, sys, time
from confluent_kafka import Consumer, Producer, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers, broker = sys.argv[1], int(sys.argv[2])
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", 1, 1)])["t"].result()
producer = Producer({"bootstrap.servers": brokers})
producer.produce("t", b"row")
producer.flush()

begin, seen, errors = time.monotonic(), {}, []
def note(what):
    seen.setdefault(what, time.monotonic() - begin)
consumer = Consumer({
    "bootstrap.servers": brokers, "group.id": "g", "session.timeout.ms": 6000, "auto.offset.reset": "earliest",
    "error_cb": lambda error: errors.append(f"{time.monotonic() - begin:.0f} s: {error.name()} {error.str()}"),
})
consumer.subscribe(["t"], on_assign=lambda c, p: note("assigned"), on_lost=lambda c, p: note("lost"))
while True:
    message = consumer.poll(1.0)
    if message is not None and message.error() is None:
        break
    if time.monotonic() - begin > 60:
        sys.exit("no record came")
os.kill(broker, signal.SIGSTOP)
begin = time.monotonic()
answers = []
while time.monotonic() - begin < 45:
    message = consumer.poll(1.0)
    if message is not None:
        answers.append(str(message.error() or "a record"))
print("45 s with a frozen broker: partitions lost after", f"{seen.get('lost', -1):.0f} s; assignment", consumer.assignment(), "; from poll:", answers, "; error_cb:", errors)
os.kill(broker, signal.SIGCONT)
os._exit(0 if "lost" in seen and not answers and not errors and not consumer.assignment() else 1)
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
py/bin/python silent.py "127.0.0.1:$client_port" "$broker" 2>client.log || { echo "CHANGED: it says so"; tail -5 client.log; exit 1; }
echo "what only the log tells: $(grep -o "SESSTMOUT" client.log | head -1), $(grep -c REQTMOUT client.log) lines of REQTMOUT"
