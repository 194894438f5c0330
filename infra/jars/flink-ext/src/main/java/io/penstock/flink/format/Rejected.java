package io.penstock.flink.format;

/**
 * Says why a record is not a row. The text is "class: detail", on one line; the class is a stable
 * contract, since it is what dead letters are counted by.
 */
final class Rejected extends RuntimeException {

    private static final int LONGEST = 200;

    enum Reason {
        NULL_VALUE("null value"),
        INVALID_UTF8("invalid UTF-8"),
        MALFORMED("malformed JSON"),
        WRONG_TYPE("wrong type"),
        MISSING("missing required field"),
        OUT_OF_RANGE("number out of range"),
        TOO_DEEP("nested too deeply");

        private final String text;

        Reason(String text) {
            this.text = text;
        }
    }

    Rejected(Reason reason, String detail) {
        // No stack trace: a topic full of broken records must not slow the job down.
        super(reason.text + ": " + oneLine(detail), null, false, false);
    }

    /** Keeps printable ASCII only: the detail may quote the record, and travels as a Kafka header. */
    private static String oneLine(String detail) {
        String text = detail == null ? "no detail" : detail;
        StringBuilder clean = new StringBuilder(Math.min(text.length(), LONGEST));
        for (int i = 0; i < text.length() && i < LONGEST; i++) {
            char c = text.charAt(i);
            clean.append(c >= ' ' && c < 127 ? c : c == '\n' ? ' ' : '?');
        }
        return clean.toString();
    }
}
