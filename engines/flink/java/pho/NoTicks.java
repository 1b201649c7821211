package pho;

import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.flink.api.common.functions.FilterFunction;
import org.apache.flink.types.Row;

/** Keeps Ticks from the operators: once they have moved the watermark they have done their work. */
public final class NoTicks implements FilterFunction<Row> {
    private static final long serialVersionUID = 1L;

    private static final int KEY_LENGTH = 1 + 4 + 8 + 8;

    private final byte[][] headers;

    /**
     * @param headers how the bytes of a Tick begin, in each format they may be written in, as
     *     hexadecimal digits
     */
    public NoTicks(String[] headers) {
        this.headers = new byte[headers.length][];
        for (int i = 0; i < headers.length; i++) {
            this.headers[i] = HexFormat.of().parseHex(headers[i]);
        }
    }

    @Override
    public boolean filter(Row row) {
        byte[] envelope = (byte[]) row.getField(1);
        int begin = KEY_LENGTH + 2 + Short.toUnsignedInt(ByteBuffer.wrap(envelope).getShort(KEY_LENGTH));
        for (byte[] header : headers) {
            if (startsWith(envelope, begin, header)) {
                return false;
            }
        }
        return true;
    }

    private static boolean startsWith(byte[] bytes, int begin, byte[] header) {
        if (bytes.length < begin + header.length) {
            return false;
        }
        for (int i = 0; i < header.length; i++) {
            if (bytes[begin + i] != header[i]) {
                return false;
            }
        }
        return true;
    }
}
