package io.penstock.flink.format;

import io.penstock.flink.format.Rejected.Reason;

import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonParser;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonToken;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.exc.InputCoercionException;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.types.logical.LogicalType;

import java.io.IOException;
import java.io.Serializable;

/**
 * One declared field. The JSON type must be the declared one: nothing is converted, so that every
 * reader of the topic sees the same value. 1.0 and 1e3 are whole numbers, as in JSON itself.
 *
 * @param position index in the emitted row, or -1 when the query does not read the field
 */
record Field(String name, Kind kind, boolean required, int position) implements Serializable {

    /** 0001-01-01 to 9999-12-31T23:59:59.999, what SQL timestamps can hold, as epoch milliseconds. */
    static final long FIRST_TIMESTAMP = -62_135_596_800_000L;

    static final long LAST_TIMESTAMP = 253_402_300_799_999L;

    /** Up to here every whole number is exact as a double. */
    private static final double EXACT = 0x1p53;

    enum Kind {
        STRING("a string"),
        BOOLEAN("true or false"),
        INT("a whole number"),
        LONG("a whole number"),
        DOUBLE("a number"),
        TIMESTAMP("a time in epoch milliseconds");

        private final String wanted;

        Kind(String wanted) {
            this.wanted = wanted;
        }

        static Kind of(String column, LogicalType type, boolean timestamp) {
            Kind kind =
                    switch (type.getTypeRoot()) {
                        case VARCHAR -> STRING;
                        case BOOLEAN -> BOOLEAN;
                        case INTEGER -> INT;
                        case BIGINT -> timestamp ? TIMESTAMP : LONG;
                        case DOUBLE -> DOUBLE;
                        default -> throw new ValidationException(
                                "json-or-error reads STRING, BOOLEAN, INT, BIGINT and DOUBLE, but column '%s' is %s."
                                        .formatted(column, type.asSummaryString()));
                    };
            if (timestamp && kind != TIMESTAMP) {
                throw new ValidationException(
                        "json-or-error.timestamps names column '%s', which is %s: declare it as BIGINT (epoch milliseconds)."
                                .formatted(column, type.asSummaryString()));
            }
            return kind;
        }
    }

    /** The value of the token the parser stands on; not called for null. */
    Object read(JsonParser parser, JsonToken token) throws IOException {
        return switch (kind) {
            case STRING -> {
                require(token == JsonToken.VALUE_STRING, token);
                yield StringData.fromString(parser.getText());
            }
            case BOOLEAN -> {
                require(token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE, token);
                yield token == JsonToken.VALUE_TRUE;
            }
            case INT -> {
                long number = whole(parser, token);
                inRange(number == (int) number);
                yield (int) number;
            }
            case LONG -> whole(parser, token);
            case TIMESTAMP -> {
                long number = whole(parser, token);
                inRange(number >= FIRST_TIMESTAMP && number <= LAST_TIMESTAMP);
                yield number;
            }
            case DOUBLE -> {
                require(token.isNumeric(), token);
                double number = parser.getDoubleValue();
                inRange(!Double.isInfinite(number));
                yield number;
            }
        };
    }

    private long whole(JsonParser parser, JsonToken token) throws IOException {
        if (token == JsonToken.VALUE_NUMBER_INT) {
            try {
                return parser.getLongValue();
            } catch (InputCoercionException overflow) {
                throw outOfRange();
            }
        }
        require(token == JsonToken.VALUE_NUMBER_FLOAT, token);
        double number = parser.getDoubleValue();
        inRange(Math.abs(number) <= EXACT);
        require(number == Math.rint(number), token);
        return (long) number;
    }

    private void inRange(boolean holds) {
        if (!holds) {
            throw outOfRange();
        }
    }

    private Rejected outOfRange() {
        return new Rejected(Reason.OUT_OF_RANGE, "field '" + name + "' wants " + kind.wanted + range());
    }

    private String range() {
        return switch (kind) {
            case INT -> " of 32 bits";
            case LONG -> " of 64 bits";
            case TIMESTAMP -> " of the years 1 to 9999";
            default -> " a double can hold";
        };
    }

    private void require(boolean holds, JsonToken token) {
        if (!holds) {
            String found =
                    switch (token) {
                        case START_OBJECT -> "an object";
                        case START_ARRAY -> "an array";
                        case VALUE_STRING -> "a string";
                        case VALUE_NUMBER_INT -> "a whole number";
                        case VALUE_NUMBER_FLOAT -> "a fractional number";
                        default -> "true or false";
                    };
            throw new Rejected(Reason.WRONG_TYPE, "field '" + name + "' wants " + kind.wanted + ", got " + found);
        }
    }
}
