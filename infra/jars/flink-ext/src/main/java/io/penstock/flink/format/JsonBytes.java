package io.penstock.flink.format;

import io.penstock.flink.format.Rejected.Reason;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * Checks the bytes of a record for what Jackson lets pass: invalid UTF-8 in strings it skips,
 * UTF-16 and UTF-32 (which it would guess and decode), byte order marks, and half surrogate pairs
 * written as escapes. Pure ASCII without a backslash costs one pass of eight bytes at a time.
 */
final class JsonBytes {

    private static final VarHandle LONGS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final long HIGH_BITS = 0x8080808080808080L;
    private static final long ONES = 0x0101010101010101L;
    private static final long BACKSLASHES = 0x5C5C5C5C5C5C5C5CL;

    private JsonBytes() {}

    /** Throws {@link Rejected} unless the bytes are UTF-8 and begin, after white space, with '{'. */
    static void check(byte[] bytes) {
        int length = bytes.length;
        long high = 0;
        long escapes = 0;
        int i = 0;
        for (; i + Long.BYTES <= length; i += Long.BYTES) {
            long word = (long) LONGS.get(bytes, i);
            long x = word ^ BACKSLASHES;
            high |= word;
            escapes |= (x - ONES) & ~x; // the high bit of some byte is set if one of them is a backslash
        }
        for (; i < length; i++) {
            high |= bytes[i];
            escapes |= bytes[i] == '\\' ? HIGH_BITS : 0;
        }
        if ((high & HIGH_BITS) != 0) {
            checkUtf8(bytes);
        }
        checkStart(bytes);
        if ((escapes & HIGH_BITS) != 0) {
            checkSurrogates(bytes);
        }
    }

    private static void checkStart(byte[] bytes) {
        for (byte b : bytes) {
            if (b == '{') {
                return;
            }
            if (b != ' ' && b != '\n' && b != '\r' && b != '\t') {
                throw new Rejected(Reason.MALFORMED, "the value is not a JSON object");
            }
        }
        throw new Rejected(Reason.MALFORMED, "the value is empty");
    }

    /** The table of well-formed byte sequences of the Unicode standard (3-7), as code. */
    private static void checkUtf8(byte[] bytes) {
        int i = 0;
        while (i < bytes.length) {
            if (i + Long.BYTES <= bytes.length && ((long) LONGS.get(bytes, i) & HIGH_BITS) == 0) {
                i += Long.BYTES; // ASCII between the others
                continue;
            }
            int lead = bytes[i] & 0xFF;
            int low = 0x80;
            int high = 0xBF;
            int more;
            if (lead < 0x80) {
                more = 0;
            } else if (lead >= 0xC2 && lead <= 0xDF) {
                more = 1;
            } else if (lead >= 0xE0 && lead <= 0xEF) {
                more = 2;
                low = lead == 0xE0 ? 0xA0 : low; // shorter forms exist
                high = lead == 0xED ? 0x9F : high; // surrogates
            } else if (lead >= 0xF0 && lead <= 0xF4) {
                more = 3;
                low = lead == 0xF0 ? 0x90 : low;
                high = lead == 0xF4 ? 0x8F : high; // beyond U+10FFFF
            } else {
                throw new Rejected(Reason.INVALID_UTF8, "at byte " + i);
            }
            for (int k = 1; k <= more; k++) {
                int next = i + k < bytes.length ? bytes[i + k] & 0xFF : -1;
                if (next < low || next > high) {
                    throw new Rejected(Reason.INVALID_UTF8, "at byte " + i);
                }
                low = 0x80;
                high = 0xBF;
            }
            i += more + 1;
        }
    }

    /** A lone \\uD800..\\uDFFF is no character: it could not be written out as UTF-8 again. */
    private static void checkSurrogates(byte[] bytes) {
        int i = 0;
        while (i < bytes.length) {
            if (bytes[i] != '\\') {
                i++;
                continue;
            }
            int unit = escape(bytes, i);
            if (unit < 0 || !Character.isSurrogate((char) unit)) {
                i += 2; // not \\u, or an ordinary character; the parser checks the digits
                continue;
            }
            int next = Character.isHighSurrogate((char) unit) ? escape(bytes, i + 6) : -1;
            if (next < 0 || !Character.isLowSurrogate((char) next)) {
                throw new Rejected(Reason.MALFORMED, "half a surrogate pair at byte " + i);
            }
            i += 12;
        }
    }

    /** The UTF-16 unit of the escape \\uXXXX at this position, or -1 when there is none. */
    private static int escape(byte[] bytes, int at) {
        if (at + 6 > bytes.length || bytes[at] != '\\' || bytes[at + 1] != 'u') {
            return -1;
        }
        int unit = 0;
        for (int k = at + 2; k < at + 6; k++) {
            int digit = bytes[k] < 0 ? -1 : Character.digit(bytes[k], 16);
            if (digit < 0) {
                return -1;
            }
            unit = unit << 4 | digit;
        }
        return unit;
    }
}
