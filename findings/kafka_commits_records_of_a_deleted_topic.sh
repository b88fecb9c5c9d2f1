#!/usr/bin/env bash
# A topic is deleted while a transaction has acknowledged records in it. Kafka commits the transaction
# all the same: the records are gone, those of other topics become visible, and the producer hears of
# nothing, whether the topic was made again or not. So "committed" does not say that all is there.
# Who is hit: whoever writes data and its position in one transaction, as Kafka Streams, Connect with
# exactly-once sources and Flink do: after a topic was deleted and made again, the position covers
# records that nobody can read.
# What helps: compare the topics' ids (DescribeTopics) with those from before, and watch for
# acknowledged offsets that go back.
# Versions: kafka_2.13 and kafka-clients 4.4.0 (Maven), one broker, KRaft. Exits 1 once this changes.
# Needs: bash, a JDK from 17 on, mvn.
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

cat >Commit.java <<'JAVA'
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

class Commit {
    static Admin admin;
    static String servers;

    static boolean exists(String topic) throws Exception {
        return admin.listTopics().names().get().contains(topic);
    }

    static void create(String topic) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        while (!exists(topic)) Thread.sleep(20);
    }

    static int committed(String topic) throws Exception {
        if (!exists(topic)) return 0;
        Map<String, Object> settings = Map.of("bootstrap.servers", servers, "isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            var partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            int found = 0;
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) found += consumer.poll(Duration.ofMillis(200)).count();
            return found;
        }
    }

    static boolean round(String data, String positions, boolean deleted, boolean again) throws Exception {
        create(data);
        create(positions);
        Map<String, Object> settings = Map.of("bootstrap.servers", servers, "transactional.id", data,
                "enable.idempotence", true, "acks", "all");
        String outcome;
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int row = 0; row < 3; row++) producer.send(new ProducerRecord<>(data, "row " + row));
            producer.send(new ProducerRecord<>(positions, "3 rows"));
            producer.flush();
            if (deleted) {
                admin.deleteTopics(List.of(data)).all().get();
                while (exists(data)) Thread.sleep(20);
                if (again) create(data);
            }
            try {
                producer.commitTransaction();
                outcome = "the commit succeeds";
            } catch (Exception error) {
                outcome = "the commit fails: " + error;
            }
        }
        int rows = committed(data), position = committed(positions);
        String what = !deleted ? "topic left alone" : again ? "topic deleted and made again" : "topic deleted";
        System.out.println(what + ": " + outcome + "; committed rows " + rows + " of 3, position records " + position + " of 1");
        return outcome.equals("the commit succeeds") && position == 1 && rows == (deleted ? 0 : 3);
    }

    public static void main(String[] arguments) throws Exception {
        servers = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", servers));
        boolean same = round("a", "a-positions", false, false);
        same &= round("b", "b-positions", true, true);
        same &= round("c", "c-positions", true, false);
        admin.close();
        System.exit(same ? 0 : 1);
    }
}
JAVA

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
java -cp "jars/*" Commit.java "127.0.0.1:$client_port" 2>client.log || { tail -5 client.log; exit 1; }
