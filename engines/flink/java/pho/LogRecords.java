package pho;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Reads a record of the log as (key, envelope): the form PyFlink itself gives a keyed stream, so
 * that no Python function has to take the key out.
 *
 * <p>The envelope is big-endian: place of the stream (1 byte), partition (4), offset (8), log time
 * (8), length of the key (2), the key, the value.
 */
public final class LogRecords implements KafkaRecordDeserializationSchema<Row> {
    private static final long serialVersionUID = 1L;

    private static final int HEADER = 1 + 4 + 8 + 8 + 2;
    private static final int LONGEST_KEY = 65_535;

    private final String[] topics;
    private transient Map<String, Byte> places;
    private transient Map<Long, Long> newest;

    /**
     * @param topics the topics of the dataflow's streams; a record names its stream by its place
     *     here
     */
    public LogRecords(String[] topics) {
        this.topics = topics;
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Row> out) {
        byte place = place(record.topic());
        byte[] key = record.key() == null ? new byte[0] : record.key();
        byte[] value = record.value() == null ? new byte[0] : record.value();
        // Longer than any id of ours: what is left of it is still refused, as the wrong key.
        int length = Math.min(key.length, LONGEST_KEY);
        // Log time never goes back within a partition, also where the broker's clock did.
        long at = newest.merge((long) place << 32 | record.partition(), record.timestamp(), Math::max);
        ByteBuffer envelope = ByteBuffer.allocate(HEADER + length + value.length);
        envelope.put(place).putInt(record.partition()).putLong(record.offset()).putLong(at);
        envelope.putShort((short) length).put(key, 0, length).put(value);
        out.collect(Row.of(new String(key, 0, length, StandardCharsets.UTF_8), envelope.array()));
    }

    private byte place(String topic) {
        if (places == null) {
            places = new HashMap<>();
            newest = new HashMap<>();
            for (byte i = 0; i < topics.length; i++) {
                places.put(topics[i], i);
            }
        }
        return places.get(topic);
    }

    @Override
    public TypeInformation<Row> getProducedType() {
        return Types.ROW(Types.STRING, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
    }
}
