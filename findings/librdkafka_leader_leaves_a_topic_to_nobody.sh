#!/usr/bin/env bash
# A topic that is away in the moment in which a group's leader divides the partitions is given to nobody, and stays nobody's when it is
# there again: librdkafka's leader asks for the topics to divide anew, but compares the topics that it has subscribed to with those of its
# last regular refresh, sees the same ones before and behind, and divides nothing again. The group is STABLE, its member polls, no error
# is told, and the records of the topic are read by nobody until a member joins or leaves.
# Who is hit: whoever deletes a topic and makes it again while members restart; the wider the refresh (topic.metadata.refresh.interval.ms,
# 5 minutes by default), the longer the time in which it happens.
# What helps: to compare the members' assignments with the partitions that there are, and to have a member join again.
# Seen: three refreshes (30 s each) later the partition is still nobody's.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes 3 minutes.
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
REFRESH_S = 30
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers})

def make(topic):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()

def consumer():
    made = Consumer({
        "bootstrap.servers": brokers, "group.id": "g", "partition.assignment.strategy": "cooperative-sticky",
        "topic.metadata.refresh.interval.ms": REFRESH_S * 1000, "session.timeout.ms": 10000,
    })
    made.subscribe(["^shop[.].*"])
    return made

def group():
    try:
        described = admin.describe_consumer_groups(["g"])["g"].result()
    except KafkaException:  # a new cluster has no coordinator yet
        return "UNKNOWN", []
    held = [sorted(place.topic for place in member.assignment.topic_partitions) for member in described.members]
    return described.state.name, sorted(held)

def poll_until(consumers, seconds, is_reached):
    end = time.time() + seconds
    while time.time() < end and not is_reached():
        for one in consumers:
            one.poll(0.1)
    return is_reached()

make("shop.a")
make("shop.b")
first = consumer()
assert poll_until([first], 20, lambda: group() == ("STABLE", [["shop.a", "shop.b"]]))
second = consumer()
assert poll_until([first, second], 20, lambda: group() == ("STABLE", [["shop.a"], ["shop.b"]]))
lost = second.assignment()[0].topic
kept = first.assignment()[0].topic
admin.delete_topics([lost])[lost].result()
second.unsubscribe()
second.close()
assert poll_until([first], 20, lambda: group() == ("STABLE", [[kept]]))
make(lost)
is_given = poll_until([first], 3 * REFRESH_S + 10, lambda: [lost] in [[topic for topic in held if topic == lost] for held in group()[1]])
print(f"{lost} was deleted, a member left, {lost} was made again; {3 * REFRESH_S + 10} s later:", *group())
third = consumer()
is_given_then = poll_until([first, third], 30, lambda: group() == ("STABLE", [["shop.a"], ["shop.b"]]))
print("behind another member's joining:", *group())
for one in first, third:
    one.unsubscribe()
    one.close()
sys.exit(0 if not is_given and is_given_then else 1)
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
