package pho;

import java.nio.ByteBuffer;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Writes what an operator gave out to the topic it names, under its key.
 *
 * <p>What an operator gives out is big-endian: place of the stream (1 byte), length of the key (2),
 * the key, the value.
 */
public final class Emitted implements KafkaRecordSerializationSchema<byte[]> {
    private static final long serialVersionUID = 1L;

    private final String[] topics;

    /** @param topics the topics of the dataflow's streams, in the order of their places */
    public Emitted(String[] topics) {
        this.topics = topics;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(
            byte[] emitted, KafkaSinkContext context, Long timestamp) {
        ByteBuffer bytes = ByteBuffer.wrap(emitted);
        String topic = topics[bytes.get()];
        byte[] key = new byte[Short.toUnsignedInt(bytes.getShort())];
        bytes.get(key);
        byte[] value = new byte[bytes.remaining()];
        bytes.get(value);
        // No timestamp of ours: the broker stamps what is appended (LogAppendTime).
        return new ProducerRecord<>(topic, null, null, key, value);
    }
}
