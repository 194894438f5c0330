package io.penstock.flink.throttle;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class ThrottleTest {

    private final AtomicLong clock = new AtomicLong(1_000_000_000L);

    /** A throttle that lets the clock pass instead of sleeping. */
    private final Throttle throttle =
            new Throttle(clock::get) {
                @Override
                void pause(long nanos) {
                    clock.addAndGet(nanos);
                }
            };

    @Test
    void noMoreThanTheRatePass() {
        long began = clock.get();
        for (int row = 0; row <= 1_000; row++) {
            assertTrue(throttle.eval(100.0, (long) row));
        }
        assertEquals(10.0, (clock.get() - began) / 1e9, 0.01);
    }

    @Test
    void aPauseIsNotMadeUpFor() {
        throttle.eval(100.0, 0L);
        clock.addAndGet(60_000_000_000L);
        long began = clock.get();
        for (int row = 0; row <= 100; row++) {
            throttle.eval(100.0, (long) row);
        }
        assertEquals(1.0, (clock.get() - began) / 1e9, 0.11);
    }
}
