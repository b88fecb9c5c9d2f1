#!/usr/bin/env bash
# One broker that is gone hides every consumer group from librdkafka's list of groups, for as long as it is gone: rd_kafka_list_groups asks
# all brokers, and the error of the one that is gone, which comes last, takes the place of what the others have said. The header promises
# a partial list in that case (RD_KAFKA_RESP_ERR__PARTIAL, "if not all brokers responded in time but at least one group is returned").
# The broker need not have anything to do with the group: here it never had a group or a partition.
# Who is hit: tools and services that look who is in a group, in the very hour in which a broker is being replaced.
# What helps: not to need the answer then; to ask the coordinator alone (DescribeConsumerGroups) has faults of its own in this version.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 4.4.0 (Maven), two brokers, KRaft. Exits 1 once this changes. Takes 2 minutes.
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
import atexit, subprocess, sys, time
from confluent_kafka import Consumer, KafkaException, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers, other_broker = sys.argv[1], sys.argv[2:]
print("librdkafka", libversion()[0])
admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})

def until(what, is_reached):
    end = time.time() + 60
    while not is_reached():
        assert time.time() < end, what
        time.sleep(0.1)

def ask():
    began = time.time()
    try:
        seen = [(group.id, group.state, len(group.members)) for group in admin.list_groups("g", timeout=10)]
    except KafkaException as error:
        seen = error.args[0].name()
    print(f"  {time.time() - began:4.1f} s: {seen}")
    return seen

admin.create_topics([NewTopic("t", 1, 1)])["t"].result()
member = Consumer({"bootstrap.servers": brokers, "group.id": "g", "log_level": 0})
member.subscribe(["t"])
until("a group", lambda: member.poll(0.1) is None and member.assignment())
with open("other.log", "w") as log:
    other = subprocess.Popen(other_broker, stdout=log, stderr=log)
atexit.register(other.kill)
until("two brokers", lambda: member.poll(0.1) is None and len(admin.list_topics(timeout=10).brokers) == 2)
print("all brokers are there; only the first has ever had a group or a partition:")
before = ask()
other.kill()
other.wait()
print("the second is gone:")
behind = []
for _ in range(4):
    behind.append(ask())
    member.poll(1)
described = admin.describe_consumer_groups(["g"])["g"].result()
print("asked of the coordinator alone:", described.state.name, len(described.members))
member.close()
is_known = before == [("g", "Stable", 1)] and described.state.name == "STABLE"
sys.exit(0 if is_known and all(seen == "_TRANSPORT" for seen in behind) else 1)
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
first=$(port) second=$(port) controller=$(port)
for id in 1 2; do
    listener=$first roles=broker,controller also=",CONTROLLER://127.0.0.1:$controller"
    [ "$id" = 1 ] || { listener=$second roles=broker also=; }
    cat >"$id.properties" <<CONF
process.roles=$roles
node.id=$id
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$listener$also
advertised.listeners=PLAINTEXT://127.0.0.1:$listener
controller.listener.names=CONTROLLER
log.dirs=$work/data$id
offsets.topic.replication.factor=1
CONF
    java -cp "jars/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$id.properties" >format.log 2>&1 || { cat format.log; exit 1; }
done
java -Xmx384m -cp "jars/*" kafka.Kafka 1.properties >broker.log 2>&1 &
broker=$!
for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$first") 2>/dev/null; then break; fi
    kill -0 "$broker" 2>/dev/null || { cat broker.log; exit 1; }
    sleep 0.2
done
echo "Kafka $(basename jars/kafka-clients-*.jar .jar | sed 's/kafka-clients-//')"
py/bin/python -W ignore ask.py "127.0.0.1:$first" java -Xmx384m -cp "jars/*" kafka.Kafka 2.properties
