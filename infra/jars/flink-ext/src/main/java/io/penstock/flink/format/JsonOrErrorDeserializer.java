package io.penstock.flink.format;

import io.penstock.flink.format.Rejected.Reason;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonFactory;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.StreamReadConstraints;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.StreamReadFeature;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.exc.StreamConstraintsException;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;

import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Turns the value of each record into exactly one row and never throws: the declared fields, or
 * NULLs and the reason. A good record is parsed once.
 *
 * <p>The emitted row is flat (the Kafka connector casts it to {@link GenericRowData}): the fields
 * the query reads, then the metadata it asks for.
 */
final class JsonOrErrorDeserializer implements DeserializationSchema<RowData> {

    static final int DEEPEST = 1000;
    private static final int LONGEST_NUMBER = 1000;

    private final Field[] fields;
    private final Metadata[] metadata;
    /** Index of the field that holds the event time, or -1. */
    private final int eventTimeField;

    private final int physicalArity;
    private final int requiredCount;
    private final TypeInformation<RowData> producedType;

    private transient JsonFactory factory;
    private transient Map<String, Integer> index;

    /** For each field, the number of the last record that had it: finds repeats without clearing. */
    private transient long[] seenIn;

    private transient long record;

    /** Of the record being read, or null. */
    private transient TimestampData eventTime;

    JsonOrErrorDeserializer(
            List<Field> fields,
            String eventTime,
            int physicalArity,
            List<Metadata> metadata,
            TypeInformation<RowData> producedType) {
        this.fields = fields.toArray(new Field[0]);
        this.eventTimeField = fields.stream().map(Field::name).toList().indexOf(eventTime);
        this.metadata = metadata.toArray(new Metadata[0]);
        this.physicalArity = physicalArity;
        this.requiredCount = (int) fields.stream().filter(Field::required).count();
        this.producedType = producedType;
    }

    @Override
    public void open(InitializationContext context) {
        factory =
                JsonFactory.builder()
                        // The bytes are known to be UTF-8: nothing to guess.
                        .disable(JsonFactory.Feature.CHARSET_DETECTION)
                        .enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER)
                        .streamReadConstraints(
                                StreamReadConstraints.builder()
                                        .maxNestingDepth(DEEPEST)
                                        // Longer numbers take quadratic time to convert.
                                        .maxNumberLength(LONGEST_NUMBER)
                                        // Kafka bounds the record, and so everything in it.
                                        .maxStringLength(Integer.MAX_VALUE)
                                        .maxNameLength(Integer.MAX_VALUE)
                                        .build())
                        .build();
        index = new HashMap<>();
        for (int i = 0; i < fields.length; i++) {
            index.put(fields[i].name(), i);
        }
        seenIn = new long[fields.length];
    }

    @Override
    public RowData deserialize(byte[] message) {
        GenericRowData row = new GenericRowData(physicalArity + metadata.length);
        String error = null;
        eventTime = null;
        try {
            read(message, row);
        } catch (Rejected rejected) {
            error = rejected.getMessage();
        } catch (IOException | RuntimeException | StackOverflowError e) {
            error = classify(e).getMessage();
        }
        if (error != null) {
            row = new GenericRowData(physicalArity + metadata.length); // no half-read row
        }
        for (int i = 0; i < metadata.length; i++) {
            row.setField(
                    physicalArity + i,
                    switch (metadata[i]) {
                        case ERROR -> error == null ? null : StringData.fromString(error);
                        case BYTES -> message;
                        case EVENT_TIME -> error == null ? eventTime : null;
                    });
        }
        return row;
    }

    private void read(byte[] message, GenericRowData row) throws IOException {
        if (message == null) {
            throw new Rejected(Reason.NULL_VALUE, "the record has no value");
        }
        JsonBytes.check(message);
        record++;
        int requiredFound = 0;
        try (JsonParser parser = factory.createParser(message)) {
            parser.nextToken(); // the '{' that JsonBytes found
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken token = parser.nextToken();
                Integer at = index.get(name);
                if (at == null) {
                    parser.skipChildren();
                    continue;
                }
                Field field = fields[at];
                if (seenIn[at] == record) {
                    // Readers disagree on which one counts.
                    throw new Rejected(Reason.MALFORMED, "field '" + name + "' appears twice");
                }
                seenIn[at] = record;
                if (token == JsonToken.VALUE_NULL) {
                    continue;
                }
                Object value = field.read(parser, token);
                requiredFound += field.required() ? 1 : 0;
                if (at == eventTimeField) {
                    eventTime = TimestampData.fromEpochMillis((Long) value);
                }
                if (field.position() >= 0) {
                    row.setField(field.position(), value);
                }
            }
            if (parser.nextToken() != null) {
                throw new Rejected(Reason.MALFORMED, "content after the object");
            }
        }
        if (requiredFound < requiredCount) {
            throw new Rejected(Reason.MISSING, "'" + firstMissing(message) + "'");
        }
    }

    /** Parses once more, which only a record without a required field costs. */
    private String firstMissing(byte[] message) throws IOException {
        boolean[] present = new boolean[fields.length];
        try (JsonParser parser = factory.createParser(message)) {
            parser.nextToken();
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken token = parser.nextToken();
                Integer at = index.get(name);
                if (at != null && token != JsonToken.VALUE_NULL) {
                    present[at] = true;
                }
                parser.skipChildren();
            }
        }
        for (int i = 0; i < fields.length; i++) {
            if (fields[i].required() && !present[i]) {
                return fields[i].name();
            }
        }
        throw new IllegalStateException("no field is missing");
    }

    private static Rejected classify(Throwable e) {
        if (e instanceof StackOverflowError) {
            return new Rejected(Reason.TOO_DEEP, "the parser's stack overflowed");
        }
        String message = e instanceof JsonProcessingException json ? json.getOriginalMessage() : e.toString();
        if (e instanceof StreamConstraintsException && message.contains("nesting depth")) {
            return new Rejected(Reason.TOO_DEEP, "more than " + DEEPEST + " levels");
        }
        if (e instanceof StreamConstraintsException && message.contains("Number value length")) {
            return new Rejected(Reason.OUT_OF_RANGE, "a number of more than " + LONGEST_NUMBER + " digits");
        }
        if (message.startsWith("Unexpected end-of-input")) {
            return new Rejected(Reason.MALFORMED, "the value is cut off");
        }
        return new Rejected(Reason.MALFORMED, message);
    }

    @Override
    public boolean isEndOfStream(RowData row) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return producedType;
    }
}
