package io.penstock.flink.format;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

class JsonBytesTest {

    private static final int[] INTERESTING = {
        0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF
    };

    @Test
    void agreesWithTheJdkOnEveryShortSequenceAndEveryBoundary() {
        for (int lead = 0; lead < 256; lead++) {
            for (int second = 0; second < 256; second++) {
                assertAgrees(lead, second);
            }
            for (int second : INTERESTING) {
                for (int third : INTERESTING) {
                    for (int fourth : INTERESTING) {
                        assertAgrees(lead, second, third, fourth);
                    }
                }
            }
        }
    }

    private static void assertAgrees(int... sequence) {
        byte[] bytes = new byte[sequence.length + 1];
        bytes[0] = '{';
        for (int i = 0; i < sequence.length; i++) {
            bytes[i + 1] = (byte) sequence[i];
        }
        boolean valid = true;
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes));
        } catch (CharacterCodingException e) {
            valid = false;
        }
        boolean accepted = true;
        try {
            JsonBytes.check(bytes);
        } catch (Rejected e) {
            accepted = false;
            assertTrue(e.getMessage().startsWith("invalid UTF-8: at byte "), e.getMessage());
        }
        assertEquals(valid, accepted, () -> java.util.HexFormat.of().formatHex(bytes));
    }

    @Test
    void findsABadByteWhereverItStands() {
        for (int length = 1; length < 40; length++) {
            for (int at = 1; at < length; at++) {
                byte[] bytes = " ".repeat(length).getBytes(StandardCharsets.US_ASCII);
                bytes[0] = '{';
                assertDoesNotThrow(() -> JsonBytes.check(bytes));
                bytes[at] = (byte) 0xFF;
                assertThrows(Rejected.class, () -> JsonBytes.check(bytes));
            }
        }
    }

    @Test
    void findsHalfASurrogatePairWhereverItStands() {
        for (int pad = 0; pad < 20; pad++) {
            String before = "{\"a\":\"" + "x".repeat(pad);
            for (String half : new String[] {"\\uD83D", "\\uDE00", "\\uDE00\\uD83D", "\\uD83Dx", "\\uD83D\\n", "\\ud83d\\u0041"}) {
                assertThrows(Rejected.class, () -> JsonBytes.check((before + half + "\"}").getBytes(StandardCharsets.UTF_8)), half);
            }
            for (String whole : new String[] {"\\uD83D\\uDE00", "\\\\uD83D", "\\u0041", "\\ud83d\\ude00", "\\\""}) {
                assertDoesNotThrow(() -> JsonBytes.check((before + whole + "\"}").getBytes(StandardCharsets.UTF_8)), whole);
            }
        }
    }
}
