#!/usr/bin/env bash
# commitTransaction returns before the transaction is visible: the coordinator has decided by then, and writes the markers into the
# partitions afterwards, one broker request after the other. A read_committed reader that stops at the ends which it asked for right
# behind the commit sees the transaction in some partitions and not in others, or nowhere.
# Who is hit: a test, a backup or a comparison that commits, asks for the end offsets, and reads up to them; two tables that
# were changed in one transaction look torn. The busier the broker and the more partitions, the more often.
# What helps: ask for the ends with read_uncommitted, and read with read_committed until they are passed.
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

cat >Torn.java <<'JAVA'
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringSerializer;

class Torn {
    static final int PARTITIONS = 500;
    static final int ROUNDS = 20;

    /** How many partitions end in front of the record that they got in the transaction. */
    static long behind(Admin admin, long records) throws Exception {
        var asked = new HashMap<TopicPartition, OffsetSpec>();
        IntStream.range(0, PARTITIONS).forEach(n -> asked.put(new TopicPartition("t", n), OffsetSpec.latest()));
        var options = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
        return admin.listOffsets(asked, options).all().get().values().stream().filter(end -> end.offset() < records).count();
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "transactional.id", "torn",
                "acks", "all");
        int torn = 0, none = 0;
        try (var admin = Admin.create(Map.of("bootstrap.servers", arguments[0]));
                var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            admin.createTopics(List.of(new NewTopic("t", PARTITIONS, (short) 1))).all().get();
            producer.initTransactions();
            for (int round = 0; round < ROUNDS; round++) {
                producer.beginTransaction();
                for (int n = 0; n < PARTITIONS; n++) producer.send(new ProducerRecord<>("t", n, null, "row"));
                producer.flush();
                producer.commitTransaction();
                // Each transaction is a record and its marker in each partition.
                long records = 2L * round + 1, first = behind(admin, records);
                if (first == PARTITIONS) none++;
                else if (first > 0) torn++;
                while (behind(admin, records) > 0) Thread.sleep(1);
            }
        }
        System.out.println(ROUNDS + " transactions over " + PARTITIONS + " partitions, looked at when commitTransaction has returned: "
                + torn + " visible in some partitions and not in others, " + none + " in none yet");
        System.exit(torn + none > 0 ? 0 : 1);
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
java -cp "jars/*" Torn.java "127.0.0.1:$client_port" 2>client.log || { tail -5 client.log; exit 1; }
