package io.penstock.flink.format;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.Projection;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.runtime.connector.source.ScanRuntimeProviderContext;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.util.Collector;
import org.apache.flink.util.InstantiationUtil;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;

class JsonOrErrorTest {

    private static final DataType TYPE =
            DataTypes.ROW(
                    DataTypes.FIELD("id", DataTypes.STRING()),
                    DataTypes.FIELD("at", DataTypes.BIGINT()),
                    DataTypes.FIELD("n", DataTypes.INT()),
                    DataTypes.FIELD("big", DataTypes.BIGINT()),
                    DataTypes.FIELD("x", DataTypes.DOUBLE()),
                    DataTypes.FIELD("ok", DataTypes.BOOLEAN()));
    private static final int ERROR = 6;
    private static final int BYTES = 7;
    private static final List<String> CLASSES =
            List.of(
                    "null value: ",
                    "invalid UTF-8: ",
                    "malformed JSON: ",
                    "wrong type: ",
                    "missing required field: ",
                    "number out of range: ",
                    "nested too deeply: ");

    private DeserializationSchema<RowData> format;

    @BeforeEach
    void open() throws Exception {
        format = decoder(List.of("id", "at"), List.of("at"), List.of("error", "bytes"), new int[] {0, 1, 2, 3, 4, 5});
    }

    private static DeserializationSchema<RowData> decoder(
            List<String> required, List<String> timestamps, List<String> metadata, int[] projection) throws Exception {
        JsonOrErrorFormat declared =
                new JsonOrErrorFormat(required, timestamps, timestamps.isEmpty() ? null : timestamps.get(0));
        declared.applyReadableMetadata(metadata);
        DeserializationSchema<RowData> decoder =
                InstantiationUtil.clone( // it travels to the task managers
                        declared.createRuntimeDecoder(
                                ScanRuntimeProviderContext.INSTANCE, TYPE, Projection.of(projection).toNestedIndexes()));
        decoder.open(null);
        return decoder;
    }

    // ---- good records --------------------------------------------------------------------------

    static Stream<Arguments> good() {
        return Stream.of(
                row("{\"id\":\"a\",\"at\":1}", "a", 1L, null, null, null, null),
                row("  \t\r\n{ \"id\" : \"a\" , \"at\" : 1 } \n", "a", 1L, null, null, null, null),
                row("{\"id\":\"\",\"at\":0,\"n\":-5,\"big\":-9223372036854775808,\"x\":-1.5e3,\"ok\":false}", "", 0L, -5, Long.MIN_VALUE, -1500.0, false),
                row("{\"ok\":true,\"x\":7,\"big\":9223372036854775807,\"n\":2147483647,\"at\":2,\"id\":\"b\"}", "b", 2L, Integer.MAX_VALUE, Long.MAX_VALUE, 7.0, true),
                row("{\"id\":\"a\",\"at\":1,\"n\":null,\"big\":null,\"x\":null,\"ok\":null}", "a", 1L, null, null, null, null),
                // a whole number however it is written
                row("{\"id\":\"a\",\"at\":1.7e12,\"n\":1.0,\"big\":9007199254740992.0}", "a", 1_700_000_000_000L, 1, 1L << 53, null, null),
                row("{\"id\":\"a\",\"at\":-62135596800000}", "a", Field.FIRST_TIMESTAMP, null, null, null, null),
                row("{\"id\":\"a\",\"at\":253402300799999}", "a", Field.LAST_TIMESTAMP, null, null, null, null),
                row("{\"id\":\"a\",\"at\":1,\"x\":123456789012345678901234567890}", "a", 1L, null, null, 1.2345678901234568e29, null),
                row("{\"id\":\"a\",\"at\":1,\"x\":1e-999}", "a", 1L, null, null, 0.0, null),
                row("{\"id\":\"a\",\"at\":1,\"x\":0.1}", "a", 1L, null, null, 0.1, null),
                // what is not declared is not looked at, if only it is JSON
                row("{\"u\":{\"id\":[1,{\"at\":\"x\"}]},\"id\":\"a\",\"v\":1e999,\"at\":1,\"w\":\"\\u00e9\"}", "a", 1L, null, null, null, null),
                row("{\"u\":" + "[".repeat(999) + "]".repeat(999) + ",\"id\":\"a\",\"at\":1}", "a", 1L, null, null, null, null),
                row("{\"u\":1,\"u\":2,\"id\":\"a\",\"at\":1}", "a", 1L, null, null, null, null),
                // text
                row("{\"id\":\"\\u00e9\\n\\\"\\\\\\/\",\"at\":1}", "\u00e9\n\"\\/", 1L, null, null, null, null),
                row("{\"id\":\"\\ud83d\\ude00\",\"at\":1}", "\ud83d\ude00", 1L, null, null, null, null),
                row("{\"id\":\"\ud83d\ude00 \u00e9 \u65e5\u672c\",\"at\":1}", "\ud83d\ude00 \u00e9 \u65e5\u672c", 1L, null, null, null, null),
                row("{\"\\u0069d\":\"escaped name\",\"at\":1}", "escaped name", 1L, null, null, null, null),
                row("{\"id\":\"" + "x".repeat(900_000) + "\",\"at\":1}", "x".repeat(900_000), 1L, null, null, null, null));
    }

    private static Arguments row(String json, Object... expected) {
        return Arguments.of(json, expected);
    }

    @ParameterizedTest
    @MethodSource("good")
    void readsGoodRecords(String json, Object[] expected) throws Exception {
        byte[] bytes = json.getBytes(StandardCharsets.UTF_8);
        GenericRowData row = one(format, bytes);
        assertNull(row.getField(ERROR), () -> row.getField(ERROR).toString());
        for (int i = 0; i < expected.length; i++) {
            Object value = row.getField(i);
            assertEquals(expected[i], i == 0 ? value.toString() : value, "field " + i);
        }
        assertSame(bytes, row.getField(BYTES));
    }

    // ---- broken records ------------------------------------------------------------------------

    static Stream<Arguments> broken() {
        return Stream.of(
                error("", "malformed JSON: the value is empty"),
                error(" \n ", "malformed JSON: the value is empty"),
                error("xyz", "malformed JSON: the value is not a JSON object"),
                error("null", "malformed JSON: the value is not a JSON object"),
                error("17", "malformed JSON: the value is not a JSON object"),
                error("\"{}\"", "malformed JSON: the value is not a JSON object"),
                error("[{\"id\":\"a\",\"at\":1}]", "malformed JSON: the value is not a JSON object"),
                error("\ufeff{\"id\":\"a\",\"at\":1}", "malformed JSON: the value is not a JSON object"),
                error("{", "malformed JSON: the value is cut off"),
                error("{\"id\":\"a\",\"at\":1", "malformed JSON: the value is cut off"),
                error("{\"id\":\"a\",\"at\":1,", "malformed JSON: the value is cut off"),
                error("{\"id\":\"a", "malformed JSON: the value is cut off"),
                error("{\"id\":\"a\",\"u\":[1,{", "malformed JSON: the value is cut off"),
                error("{\"id\":\"a\",\"at\":1} xyz", "malformed JSON: Unrecognized token 'xyz'"),
                error("{\"id\":\"a\",\"at\":1}}", "malformed JSON: Unexpected close marker '}'"),
                error("{\"id\":\"a\",\"at\":1}{\"id\":\"b\",\"at\":2}", "malformed JSON: content after the object"),
                error("{\"id\":\"a\",\"at\":1} 5", "malformed JSON: content after the object"),
                error("{\"id\":\"a\",\"at\":1}\0", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":1,}", "malformed JSON: "),
                error("{id:\"a\",\"at\":1}", "malformed JSON: "),
                error("{'id':'a','at':1}", "malformed JSON: "),
                error("{\"id\":\"a\" \"at\":1}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":01}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":+1}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":.5}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":NaN}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":-Infinity}", "malformed JSON: "),
                error("{\"id\":\"a\",\"at\":1 /* why */}", "malformed JSON: "),
                error("{\"id\":\"a\nb\",\"at\":1}", "malformed JSON: "),
                error("{\"u\":\"a\nb\",\"id\":\"a\",\"at\":1}", "malformed JSON: "),
                error("{\"u\":\"\\q\",\"id\":\"a\",\"at\":1}", "malformed JSON: "),
                error("{\"u\":\"\\u12\",\"id\":\"a\",\"at\":1}", "malformed JSON: "),
                error("{\"u\":\"\\ud83d\",\"id\":\"a\",\"at\":1}", "malformed JSON: half a surrogate pair"),
                error("{\"id\":\"a\",\"id\":\"b\",\"at\":1}", "malformed JSON: field 'id' appears twice"),
                error("{\"id\":null,\"id\":\"b\",\"at\":1}", "malformed JSON: field 'id' appears twice"),
                error("{\"u\":" + "[".repeat(1000) + "]".repeat(1000) + ",\"id\":\"a\",\"at\":1}", "nested too deeply: more than 1000 levels"),
                error("{\"u\":" + "{\"u\":".repeat(100_000) + "1" + "}".repeat(100_000) + "}", "nested too deeply: "),
                error("{\"u\":" + "[".repeat(500_000), "nested too deeply: "),
                error("{\"id\":5,\"at\":1}", "wrong type: field 'id' wants a string, got a whole number"),
                error("{\"id\":true,\"at\":1}", "wrong type: field 'id' wants a string, got true or false"),
                error("{\"id\":{\"a\":1},\"at\":1}", "wrong type: field 'id' wants a string, got an object"),
                error("{\"id\":[\"a\"],\"at\":1}", "wrong type: field 'id' wants a string, got an array"),
                error("{\"id\":\"a\",\"at\":\"abc\"}", "wrong type: field 'at' wants a time in epoch milliseconds, got a string"),
                error("{\"id\":\"a\",\"at\":\"1\"}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"n\":1.5}", "wrong type: field 'n' wants a whole number, got a fractional number"),
                error("{\"id\":\"a\",\"at\":1,\"n\":\"1\"}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"n\":false}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":\"abc\"}", "wrong type: field 'x' wants a number, got a string"),
                error("{\"id\":\"a\",\"at\":1,\"x\":\"NaN\"}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":[1]}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"ok\":\"true\"}", "wrong type: field 'ok' wants true or false, got a string"),
                error("{\"id\":\"a\",\"at\":1,\"ok\":1}", "wrong type: "),
                error("{\"id\":\"a\",\"at\":1,\"ok\":{}}", "wrong type: "),
                error("{}", "missing required field: 'id'"),
                error("{\"id\":\"a\"}", "missing required field: 'at'"),
                error("{\"id\":null,\"at\":1}", "missing required field: 'id'"),
                error("{\"ID\":\"a\",\"at\":1}", "missing required field: 'id'"),
                error("{\"u\":{\"id\":\"a\"},\"at\":1}", "missing required field: 'id'"),
                error("{\"id\":\"a\",\"at\":1,\"n\":2147483648}", "number out of range: field 'n' wants a whole number of 32 bits"),
                error("{\"id\":\"a\",\"at\":1,\"n\":1e300}", "number out of range: "),
                error("{\"id\":\"a\",\"at\":1,\"big\":9223372036854775808}", "number out of range: field 'big' wants a whole number of 64 bits"),
                error("{\"id\":\"a\",\"at\":1,\"big\":1e16}", "number out of range: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":1e999}", "number out of range: field 'x' wants a number a double can hold"),
                error("{\"id\":\"a\",\"at\":1,\"x\":-" + "9".repeat(400) + "}", "number out of range: "),
                error("{\"id\":\"a\",\"at\":1,\"x\":" + "9".repeat(5000) + "}", "number out of range: a number of more than 1000 digits"),
                error("{\"id\":\"a\",\"at\":253402300800000}", "number out of range: field 'at' wants a time in epoch milliseconds of the years 1 to 9999"),
                error("{\"id\":\"a\",\"at\":-62135596800001}", "number out of range: "));
    }

    private static Arguments error(String json, String reason) {
        return Arguments.of(json.length() > 100 ? json.substring(0, 100) : json, json, reason);
    }

    @ParameterizedTest(name = "{index}: {0}")
    @MethodSource("broken")
    void saysWhatIsWrong(String shown, String json, String reason) throws Exception {
        assertBroken(json.getBytes(StandardCharsets.UTF_8), reason);
    }

    @Test
    void refusesANullValue() throws Exception {
        assertBroken(null, "null value: ");
    }

    @Test
    void refusesOtherEncodings() throws Exception {
        String json = "{\"id\":\"a\",\"at\":1}";
        assertBroken(json.getBytes(StandardCharsets.UTF_16LE), "malformed JSON: ");
        assertBroken(json.getBytes(StandardCharsets.UTF_16BE), "malformed JSON: ");
        assertBroken("{}".getBytes(StandardCharsets.UTF_16LE), "malformed JSON: ");
        assertBroken(json.getBytes(StandardCharsets.UTF_16), "invalid UTF-8: "); // FE FF
        assertBroken("{\"id\":\"\u00e9\",\"at\":1}".getBytes(StandardCharsets.ISO_8859_1), "invalid UTF-8: at byte 7");
    }

    @Test
    void findsInvalidUtf8EvenInWhatItSkips() throws Exception {
        for (String template : List.of("{\"id\":\"#\",\"at\":1}", "{\"u\":\"#\",\"id\":\"a\",\"at\":1}", "{\"#\":1,\"id\":\"a\",\"at\":1}", "{\"id\":\"a\",\"at\":1}#")) {
            byte[] bytes = template.getBytes(StandardCharsets.US_ASCII);
            bytes[template.indexOf('#')] = (byte) 0xFF;
            assertBroken(bytes, "invalid UTF-8: at byte " + template.indexOf('#'));
        }
    }

    @Test
    void isCutOffAtAnyByte() throws Exception {
        byte[] whole = "{\"id\":\"\u00e9\",\"at\":12,\"n\":-3,\"x\":1.5e2,\"ok\":true,\"u\":[null,{}]}".getBytes(StandardCharsets.UTF_8);
        assertNull(one(format, whole).getField(ERROR));
        for (int length = 0; length < whole.length; length++) {
            byte[] cut = java.util.Arrays.copyOf(whole, length);
            String reason = one(format, cut).getField(ERROR).toString();
            assertTrue(reason.startsWith("malformed JSON: ") || reason.startsWith("invalid UTF-8: "), reason);
        }
    }

    @Test
    void oneBrokenRecordLeavesTheNextAlone() throws Exception {
        assertBroken("{\"id\":\"a\",\"n\":1,\"at\":".getBytes(StandardCharsets.UTF_8), "malformed JSON: ");
        GenericRowData row = one(format, "{\"id\":\"b\",\"at\":2}".getBytes(StandardCharsets.UTF_8));
        assertEquals("b", row.getField(0).toString());
        assertNull(row.getField(2));
        assertNull(row.getField(ERROR));
    }

    private void assertBroken(byte[] bytes, String reason) throws Exception {
        GenericRowData row = one(format, bytes);
        assertNotNull(row.getField(ERROR));
        String error = row.getField(ERROR).toString();
        assertTrue(error.startsWith(reason), error);
        for (int i = 0; i < ERROR; i++) {
            assertNull(row.getField(i));
        }
        assertSame(bytes, row.getField(BYTES));
    }

    // ---- anything at all -----------------------------------------------------------------------

    @Test
    void alwaysEmitsOneRowAndNeverThrows() throws Exception {
        long seed = 20240229;
        Random random = new Random(seed);
        byte[][] seeds = good().map(a -> ((String) a.get()[0]).getBytes(StandardCharsets.UTF_8)).filter(b -> b.length < 300).toArray(byte[][]::new);
        int broken = 0;
        for (int i = 0; i < 200_000; i++) {
            byte[] bytes = i % 4 == 0 ? noise(random) : mutated(random, seeds[random.nextInt(seeds.length)]);
            GenericRowData row = one(format, bytes);
            Object error = row.getField(ERROR);
            if (error != null) {
                broken++;
                String text = error.toString();
                assertTrue(CLASSES.stream().anyMatch(text::startsWith), () -> "seed " + seed + ": " + text);
                assertTrue(text.length() < 300 && text.chars().allMatch(c -> c >= ' ' && c < 127), text);
                for (int f = 0; f < ERROR; f++) {
                    assertNull(row.getField(f));
                }
            } else {
                assertNotNull(row.getField(0));
                assertNotNull(row.getField(1));
            }
        }
        assertTrue(broken > 100_000 && broken < 199_000, "the fuzz reaches both sides: " + broken);
    }

    private static byte[] noise(Random random) {
        byte[] bytes = new byte[random.nextInt(60)];
        random.nextBytes(bytes);
        if (bytes.length > 0 && random.nextBoolean()) {
            bytes[0] = '{';
        }
        return bytes;
    }

    private static byte[] mutated(Random random, byte[] original) {
        String alphabet = "{}[]\",:\\u019eE+-.tfn \0\u007f";
        byte[] bytes = original.clone();
        for (int k = random.nextInt(3); k >= 0; k--) {
            int at = random.nextInt(bytes.length);
            bytes[at] = random.nextInt(5) == 0 ? (byte) random.nextInt(256) : (byte) alphabet.charAt(random.nextInt(alphabet.length()));
        }
        return random.nextInt(5) == 0 ? java.util.Arrays.copyOf(bytes, random.nextInt(bytes.length + 1)) : bytes;
    }

    private static GenericRowData one(DeserializationSchema<RowData> format, byte[] bytes) throws Exception {
        List<RowData> rows = new ArrayList<>();
        format.deserialize(
                bytes,
                new Collector<>() {
                    @Override
                    public void collect(RowData row) {
                        rows.add(row);
                    }

                    @Override
                    public void close() {}
                });
        assertEquals(1, rows.size());
        return (GenericRowData) rows.get(0);
    }

    // ---- the declaration -----------------------------------------------------------------------

    @Test
    void judgesFieldsThatAreNotRead() throws Exception {
        DeserializationSchema<RowData> narrow = decoder(List.of("id"), List.of(), List.of("error"), new int[] {4});
        GenericRowData row = one(narrow, "{\"id\":\"a\",\"x\":2.5}".getBytes(StandardCharsets.UTF_8));
        assertEquals(GenericRowData.of(2.5, null), row);
        assertEquals("missing required field: 'id'", one(narrow, "{\"x\":2.5}".getBytes(StandardCharsets.UTF_8)).getField(1).toString());
        assertEquals(2, width(narrow));
    }

    private static int width(DeserializationSchema<RowData> decoder) {
        return ((InternalTypeInfo<RowData>) decoder.getProducedType()).toRowSize();
    }

    @Test
    void emitsTheMetadataAskedForInItsOrder() throws Exception {
        DeserializationSchema<RowData> decoder = decoder(List.of(), List.of(), List.of("bytes", "error"), new int[] {0});
        byte[] bytes = "{".getBytes(StandardCharsets.UTF_8);
        GenericRowData row = one(decoder, bytes);
        assertArrayEquals(bytes, row.getBinary(1));
        assertEquals("malformed JSON: the value is cut off", row.getString(2).toString());
        assertEquals(1, width(decoder(List.of(), List.of(), List.of(), new int[] {0})));
    }

    @Test
    void givesTheEventTimeOfGoodRecordsOnlyWhetherOrNotTheFieldIsRead() throws Exception {
        for (int[] projection : new int[][] {{0, 1}, {0}, {}}) {
            DeserializationSchema<RowData> decoder = decoder(List.of(), List.of("at"), List.of("event_time"), projection);
            int at = projection.length;
            GenericRowData good = one(decoder, "{\"id\":\"a\",\"at\":1700000000123}".getBytes(StandardCharsets.UTF_8));
            assertEquals(TimestampData.fromEpochMillis(1_700_000_000_123L), good.getTimestamp(at, 3));
            assertTrue(one(decoder, "{\"id\":\"a\"}".getBytes(StandardCharsets.UTF_8)).isNullAt(at));
            assertTrue(one(decoder, "{\"at\":1,\"id\":7}".getBytes(StandardCharsets.UTF_8)).isNullAt(at));
        }
    }

    @Test
    void refusesWhatItCannotHonour() {
        assertTrue(
                assertThrows(ValidationException.class, () -> decoder(List.of(), List.of(), List.of("event_time"), new int[] {0}))
                        .getMessage()
                        .contains("needs json-or-error.event-time"));
        assertTrue(
                assertThrows(
                                ValidationException.class,
                                () ->
                                        new JsonOrErrorFormat(List.of(), List.of("at"), "big")
                                                .createRuntimeDecoder(ScanRuntimeProviderContext.INSTANCE, TYPE, new int[][] {{0}}))
                        .getMessage()
                        .contains("event-time is 'big', which json-or-error.timestamps does not list"));
        refuses(TYPE, List.of("nope"), List.of(), "json-or-error.required names 'nope'");
        refuses(TYPE, List.of(), List.of("nope"), "json-or-error.timestamps names 'nope'");
        refuses(TYPE, List.of(), List.of("id"), "declare it as BIGINT");
        refuses(DataTypes.ROW(DataTypes.FIELD("a", DataTypes.STRING().notNull())), List.of(), List.of(), "Column 'a' is NOT NULL");
        refuses(DataTypes.ROW(DataTypes.FIELD("a", DataTypes.DECIMAL(10, 2))), List.of(), List.of(), "column 'a' is DECIMAL(10, 2)");
    }

    private static void refuses(DataType type, List<String> required, List<String> timestamps, String message) {
        int[][] all = Projection.all(type).toNestedIndexes();
        ValidationException e =
                assertThrows(
                        ValidationException.class,
                        () -> new JsonOrErrorFormat(required, timestamps, null).createRuntimeDecoder(ScanRuntimeProviderContext.INSTANCE, type, all));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void isFoundByNameAndReadsItsLists() {
        DeserializationFormatFactory factory =
                FactoryUtil.discoverFactory(getClass().getClassLoader(), DeserializationFormatFactory.class, "json-or-error");
        Configuration options = new Configuration();
        options.setString("required", "id;at");
        options.setString("timestamps", "at");
        options.setString("event-time", "at");
        JsonOrErrorFormat declared = (JsonOrErrorFormat) factory.createDecodingFormat(null, options);
        declared.createRuntimeDecoder(ScanRuntimeProviderContext.INSTANCE, TYPE, Projection.all(TYPE).toNestedIndexes());
        assertEquals(List.of("error", "bytes", "event_time"), List.copyOf(declared.listReadableMetadata().keySet()));
    }
}
