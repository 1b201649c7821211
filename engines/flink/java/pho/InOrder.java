package pho;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Holds an operator's records back until no earlier one can come, and gives each key's on in the
 * order (log time, place of the stream among the operator's inputs, place in the partition).
 *
 * <p>What a timer of Flink gives on goes before the watermark that called it, so the operator has
 * every record up to a time before its own timers of that time fire.
 */
public final class InOrder extends KeyedProcessFunction<Row, Row, Row> {
    private static final long serialVersionUID = 1L;
    private static final int PARTITION = 1;
    private static final int OFFSET = 5;
    private static final int TIME = 13;
    private static final int KEY_LENGTH = 21;

    private final byte[] ranks;
    private transient ListState<byte[]> waiting;
    private transient Comparator<byte[]> order;

    /** @param inputs places of the operator's streams, in the order of its inputs */
    public InOrder(int[] inputs) {
        ranks = new byte[Byte.MAX_VALUE];
        for (byte rank = 0; rank < inputs.length; rank++) {
            ranks[inputs[rank]] = rank;
        }
    }

    @Override
    public void open(OpenContext context) {
        waiting =
                getRuntimeContext()
                        .getListState(
                                new ListStateDescriptor<>(
                                        "waiting",
                                        PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
        order =
                Comparator.<byte[]>comparingLong(InOrder::time)
                        .thenComparingInt(envelope -> ranks[envelope[0]])
                        .thenComparingInt(envelope -> ByteBuffer.wrap(envelope).getInt(PARTITION))
                        .thenComparingLong(envelope -> ByteBuffer.wrap(envelope).getLong(OFFSET));
    }

    @Override
    public void processElement(Row row, Context context, Collector<Row> out) throws Exception {
        byte[] envelope = (byte[]) row.getField(1);
        if (time(envelope) <= context.timerService().currentWatermark()) {
            out.collect(row);
            return;
        }
        waiting.add(envelope);
        context.timerService().registerEventTimeTimer(time(envelope));
    }

    @Override
    public void onTimer(long at, OnTimerContext context, Collector<Row> out) throws Exception {
        List<byte[]> complete = new ArrayList<>();
        List<byte[]> later = new ArrayList<>();
        for (byte[] envelope : waiting.get()) {
            (time(envelope) <= at ? complete : later).add(envelope);
        }
        if (later.isEmpty()) {
            waiting.clear();
        } else {
            waiting.update(later);
        }
        complete.sort(order);
        for (byte[] envelope : complete) {
            out.collect(Row.of(key(envelope), envelope));
        }
    }

    private static long time(byte[] envelope) {
        return ByteBuffer.wrap(envelope).getLong(TIME);
    }

    private static String key(byte[] envelope) {
        int length = Short.toUnsignedInt(ByteBuffer.wrap(envelope).getShort(KEY_LENGTH));
        return new String(envelope, KEY_LENGTH + 2, length, StandardCharsets.UTF_8);
    }
}
