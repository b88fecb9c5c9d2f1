import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.apicurio.registry.utils.converter.AvroConverter;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.Struct;

/**
 * Reads topics to their ends as any Kafka Connect sink would, with Apicurio's Avro converter, and prints what it got
 * as JSON, one line each: {"schema": n, "is": {...}} before the first record that uses it, and
 * {"topic", "partition", "offset", "headers", "key", "value"}, the last two {"schema": n, "is": ...} or null.
 *
 * <p>Usage: Decode BOOTSTRAP REGISTRY TOPIC...
 */
public final class Decode {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

    private final Map<Schema, Integer> schemas = new HashMap<>();
    private final ObjectMapper mapper = new ObjectMapper();
    private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        Decode decode = new Decode();
        Map<String, Object> registry = Map.of(
            "apicurio.registry.url", arguments[1],
            "apicurio.registry.as-confluent", "true",
            "apicurio.registry.use-id", "contentId",
            "apicurio.registry.headers.enabled", "false");
        try (AvroConverter<?> keys = new AvroConverter<>(); AvroConverter<?> values = new AvroConverter<>()) {
            keys.configure(registry, true);
            values.configure(registry, false);
            for (String topic : List.of(arguments).subList(2, arguments.length)) {
                decode.topic(arguments[0], topic, keys, values);
            }
        }
        decode.out.flush();
        // The converters leave threads behind.
        System.exit(decode.out.checkError() ? 1 : 0);
    }

    private void topic(String bootstrap, String topic, AvroConverter<?> keys, AvroConverter<?> values) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions =
                consumer.partitionsFor(topic).stream().map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    record(record, keys.toConnectData(topic, record.key()), values.toConnectData(topic, record.value()));
                }
            }
        }
    }

    private void record(ConsumerRecord<byte[], byte[]> record, SchemaAndValue key, SchemaAndValue value) throws Exception {
        ObjectNode line = JSON.objectNode();
        line.put("topic", record.topic()).put("partition", record.partition()).put("offset", record.offset());
        ArrayNode headers = line.putArray("headers");
        for (Header header : record.headers()) {
            headers.add(header.key());
        }
        line.set("key", datum(key));
        line.set("value", datum(value));
        print(line);
    }

    private JsonNode datum(SchemaAndValue datum) throws Exception {
        if (datum == null || datum.schema() == null) {
            return JSON.nullNode();
        }
        Integer number = schemas.get(datum.schema());
        if (number == null) {
            number = schemas.size();
            schemas.put(datum.schema(), number);
            ObjectNode line = JSON.objectNode().put("schema", number);
            line.set("is", schema(datum.schema()));
            print(line);
        }
        ObjectNode node = JSON.objectNode().put("schema", number);
        node.set("is", value(datum.value()));
        return node;
    }

    private void print(JsonNode line) throws Exception {
        out.println(mapper.writeValueAsString(line));
    }

    private static JsonNode schema(Schema schema) {
        ObjectNode node = JSON.objectNode();
        node.put("type", schema.type().getName()).put("name", schema.name()).put("version", schema.version());
        node.put("optional", schema.isOptional()).put("doc", schema.doc());
        node.set("default", value(schema.defaultValue()));
        ObjectNode parameters = node.putObject("parameters");
        if (schema.parameters() != null) {
            new TreeMap<>(schema.parameters()).forEach(parameters::put);
        }
        switch (schema.type()) {
            case STRUCT -> {
                ArrayNode fields = node.putArray("fields");
                for (Field field : schema.fields()) {
                    fields.addObject().put("name", field.name()).set("schema", schema(field.schema()));
                }
            }
            case ARRAY -> node.set("items", schema(schema.valueSchema()));
            case MAP -> {
                node.set("keys", schema(schema.keySchema()));
                node.set("items", schema(schema.valueSchema()));
            }
            default -> { }
        }
        return node;
    }

    /** Values of one Java class look alike only if they are equal: a decimal keeps its scale, a double all its digits. */
    private static JsonNode value(Object value) {
        if (value == null) {
            return JSON.nullNode();
        } else if (value instanceof Struct struct) {
            ObjectNode node = JSON.objectNode();
            for (Field field : struct.schema().fields()) {
                // The plain getter would put the default in the place of a null.
                node.set(field.name(), value(struct.getWithoutDefault(field.name())));
            }
            return node;
        } else if (value instanceof List<?> list) {
            ArrayNode node = JSON.arrayNode();
            list.forEach(item -> node.add(value(item)));
            return node;
        } else if (value instanceof Map<?, ?> map) {
            ObjectNode node = JSON.objectNode();
            map.forEach((name, item) -> node.set(String.valueOf(name), value(item)));
            return node;
        } else if (value instanceof byte[] bytes) {
            return JSON.textNode("bytes " + HexFormat.of().formatHex(bytes));
        } else if (value instanceof ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            return JSON.textNode("bytes " + HexFormat.of().formatHex(bytes));
        } else if (value instanceof BigDecimal decimal) {
            return JSON.textNode("decimal " + decimal.unscaledValue() + " scale " + decimal.scale());
        } else if (value instanceof Float || value instanceof Double) {
            return JSON.textNode("float " + value);
        } else if (value instanceof Boolean flag) {
            return JSON.booleanNode(flag);
        } else if (value instanceof Number number) {
            return JSON.numberNode(number.longValue());
        } else if (value instanceof String text) {
            return JSON.textNode(text);
        }
        throw new IllegalArgumentException("no form for a " + value.getClass());
    }
}
