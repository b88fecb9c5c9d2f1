#!/usr/bin/env bash
# A consumer of librdkafka with the cooperative-sticky assignor that has no partition (a standby) is closed, and does not tell the
# group: it stays a member until its session ends (9.6 s of 10 seen; 45 s is the default). One that has a partition, and one with the
# range assignor, are gone at once.
# Who is hit: whoever restarts a service with a standby. The group waits for the member that is gone when it next divides its
# partitions, so whoever joins meanwhile is given nothing for as long as that.
# What helps: to unsubscribe before closing.
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

cat >ask.py <<'PY'
import sys, time
from confluent_kafka import Consumer, KafkaException, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers = sys.argv[1]
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", 1, 1)])["t"].result()

def goes_after(strategy, unsubscribes):
    """Seconds until the group has one member less, once the one without a partition is closed."""
    group = f"{strategy}-{unsubscribes}"
    def consumer():
        made = Consumer({"bootstrap.servers": brokers, "group.id": group, "partition.assignment.strategy": strategy, "session.timeout.ms": 10000})
        made.subscribe(["t"])
        return made
    def members():
        try:
            return len(admin.describe_consumer_groups([group])[group].result().members)
        except KafkaException:  # a new cluster has no coordinator yet
            return 0
    two = [consumer(), consumer()]
    def has_settled():
        return members() == 2 and sorted(len(one.assignment()) for one in two) == [0, 1]
    since = None
    while since is None or time.time() - since < 5:
        for one in two:
            one.poll(0.1)
        since = (since or time.time()) if has_settled() else None
    standby, holder = sorted(two, key=lambda one: len(one.assignment()))
    if unsubscribes:
        standby.unsubscribe()
    standby.close()
    closed = time.time()
    while members() > 1:
        holder.poll(0.1)
    took = time.time() - closed
    holder.close()
    print(f"{strategy}{', unsubscribed first' if unsubscribes else ''}: gone {took:.1f} s after it was closed")
    return took

silent = goes_after("cooperative-sticky", False)
others = goes_after("cooperative-sticky", True), goes_after("range", False)
sys.exit(0 if silent > 5 and max(others) < 5 else 1)
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
