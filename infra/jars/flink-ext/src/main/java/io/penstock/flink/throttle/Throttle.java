package io.penstock.flink.throttle;

import java.util.function.LongSupplier;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code throttle(rate, anything)}: TRUE, after as long as it takes for no more than {@code rate} rows a second to pass.
 *
 * <p>Each subtask has its own. It pauses its whole task, so the source behind it reads no faster either. The second
 * argument keeps the planner from evaluating it once for all rows.
 */
public class Throttle extends ScalarFunction {

    private static final long serialVersionUID = 1L;

    /** Unused time is kept for a tenth of a second: a task that was held up catches up no further than that. */
    private static final long BURST_NANOS = 100_000_000L;

    private final transient LongSupplier clock;
    private transient long next;
    private transient boolean begun;

    public Throttle() {
        this(null);
    }

    Throttle(LongSupplier clock) {
        this.clock = clock;
    }

    public @DataTypeHint("BOOLEAN NOT NULL") boolean eval(Double rate, Long ignored) {
        long now = now();
        if (!begun || next < now - BURST_NANOS) {
            next = now;
            begun = true;
        }
        if (next > now) {
            pause(next - now);
        }
        next += (long) (1e9 / rate);
        return true;
    }

    @Override
    public boolean isDeterministic() {
        return false;
    }

    void pause(long nanos) {
        try {
            Thread.sleep(nanos / 1_000_000, (int) (nanos % 1_000_000));
        } catch (InterruptedException interrupted) {
            // The task is being cancelled.
            Thread.currentThread().interrupt();
        }
    }

    private long now() {
        return clock == null ? System.nanoTime() : clock.getAsLong();
    }
}
