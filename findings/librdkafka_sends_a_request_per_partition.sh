#!/usr/bin/env bash
# A producer of librdkafka sends each partition's records in a Produce request of their own, where the Java client packs the batches of
# all partitions that one broker leads into one. So a small transaction costs the broker by the number of partitions that it touches,
# whatever it holds: 24 records to 24 partitions are 24 Produce requests, and from the Java client 2 requests of any kind. The broker
# checks, counts and answers each of them; on two busy cores one such transaction took 40 ms of its processor, and the records hardly mattered.
# Who is hit: pipelines that commit small transactions over many partitions, one after the other, through librdkafka.
# What helps: fewer, larger transactions (wait a little behind each commit); fewer partitions.
# Versions: librdkafka 2.12.1 (PyPI confluent-kafka 2.12.1), kafka_2.13 and kafka-clients 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes. Takes half a minute.
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

cat >produce.py <<'PY'
import json, sys
from confluent_kafka import Producer, libversion
from confluent_kafka.admin import AdminClient, NewTopic

brokers, partitions, rounds = sys.argv[1], 24, 20
admin = AdminClient({"bootstrap.servers": brokers})
admin.create_topics([NewTopic("t", partitions, 1)])["t"].result()
sent = {}

def count(text):
    for broker in json.loads(text)["brokers"].values():
        for kind, number in broker["req"].items():
            sent[kind, broker["name"]] = number

settings = {"bootstrap.servers": brokers, "transactional.id": "one", "statistics.interval.ms": 200, "stats_cb": count, "linger.ms": 5}
producer = Producer(settings)
producer.init_transactions()

def transaction():
    producer.begin_transaction()
    for partition in range(partitions):
        producer.produce("t", b"x", partition=partition)
    producer.commit_transaction()

def total(kind):
    seen = None
    # Until two reports say the same.
    while True:
        producer.poll(0.5)
        now = sum(number for (name, _), number in sent.items() if name == kind)
        if now == seen:
            return now
        seen = now

transaction()
before = total("Produce")
for _ in range(rounds):
    transaction()
each = (total("Produce") - before) / rounds
print(f"librdkafka {libversion()[0]}: a transaction of one record to each of {partitions} partitions is {each:.1f} Produce requests")
sys.exit(0 if each >= partitions else 1)
PY
cat >Produce.java <<'JAVA'
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Produce {
  static final int PARTITIONS = 24, ROUNDS = 20;

  public static void main(String[] brokers) {
    Properties settings = new Properties();
    settings.put("bootstrap.servers", brokers[0]);
    settings.put("transactional.id", "two");
    settings.put("linger.ms", "5");
    try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
      producer.initTransactions();
      transaction(producer);
      double before = requests(producer);
      for (int round = 0; round < ROUNDS; round++) transaction(producer);
      double each = (requests(producer) - before) / ROUNDS;
      System.out.printf("kafka-clients: the same is %.1f requests of any kind%n", each);
      if (each > PARTITIONS / 3) System.exit(1);
    }
  }

  static void transaction(KafkaProducer<byte[], byte[]> producer) {
    producer.beginTransaction();
    for (int partition = 0; partition < PARTITIONS; partition++)
      producer.send(new ProducerRecord<>("t", partition, null, new byte[] {'x'}));
    producer.commitTransaction();
  }

  static double requests(KafkaProducer<byte[], byte[]> producer) {
    return producer.metrics().entrySet().stream()
        .filter(metric -> metric.getKey().name().equals("request-total") && metric.getKey().group().equals("producer-metrics"))
        .mapToDouble(metric -> (double) metric.getValue().metricValue()).sum();
  }
}
JAVA
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
py/bin/python produce.py "127.0.0.1:$client_port"
java -cp "jars/*" Produce.java "127.0.0.1:$client_port" 2>client.log || { tail -5 client.log; exit 1; }
