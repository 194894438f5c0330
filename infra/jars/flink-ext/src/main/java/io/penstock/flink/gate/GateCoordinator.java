package io.penstock.flink.gate;

import io.penstock.flink.gate.GateEvents.Follow;
import io.penstock.flink.gate.GateEvents.Report;

import org.apache.flink.runtime.operators.coordination.OperatorCoordinator;
import org.apache.flink.runtime.operators.coordination.OperatorEvent;

import java.util.Arrays;
import java.util.concurrent.CompletableFuture;

/**
 * Tells idle gates how far the others are: to the least watermark of the active ones or, when all
 * are idle, to the greatest. That is what a Flink operator makes of its channels.
 *
 * <p>Only how soon windows fire depends on it, never which rows are late for them; so it keeps
 * nothing in checkpoints. All methods are called by the JobManager's main thread.
 */
final class GateCoordinator implements OperatorCoordinator {

    private final SubtaskGateway[] gateways;

    /** Null: not heard of since it started, so it may be anywhere and nobody moves. */
    private final Report[] reports;

    private final long[] told;

    GateCoordinator(int parallelism) {
        gateways = new SubtaskGateway[parallelism];
        reports = new Report[parallelism];
        told = new long[parallelism];
        Arrays.fill(told, Long.MIN_VALUE);
    }

    @Override
    public void handleEventFromOperator(int subtask, int attempt, OperatorEvent event) {
        reports[subtask] = (Report) event;
        long target = target(reports);
        for (int i = 0; i < reports.length; i++) {
            boolean behind = reports[i] != null && reports[i].idle() && reports[i].watermark() < target;
            if (behind && told[i] < target && gateways[i] != null) {
                told[i] = target;
                gateways[i].sendEvent(new Follow(target));
            }
        }
    }

    /** How far idle gates may go; the least long when nobody may move. */
    static long target(Report[] reports) {
        long leastActive = Long.MAX_VALUE;
        long greatestIdle = Long.MIN_VALUE;
        for (Report report : reports) {
            if (report == null) {
                return Long.MIN_VALUE;
            }
            if (report.watermark() == Long.MAX_VALUE) {
                continue; // has come to its end: it neither holds the others back nor pulls them along
            }
            if (report.idle()) {
                greatestIdle = Math.max(greatestIdle, report.watermark());
            } else {
                leastActive = Math.min(leastActive, report.watermark());
            }
        }
        return leastActive == Long.MAX_VALUE ? greatestIdle : leastActive;
    }

    @Override
    public void executionAttemptReady(int subtask, int attempt, SubtaskGateway gateway) {
        gateways[subtask] = gateway;
    }

    @Override
    public void executionAttemptFailed(int subtask, int attempt, Throwable reason) {
        forget(subtask);
    }

    @Override
    public void subtaskReset(int subtask, long checkpointId) {
        forget(subtask);
    }

    @Override
    public void resetToCheckpoint(long checkpointId, byte[] data) {
        for (int i = 0; i < reports.length; i++) {
            forget(i);
        }
    }

    private void forget(int subtask) {
        gateways[subtask] = null;
        reports[subtask] = null;
        told[subtask] = Long.MIN_VALUE;
    }

    @Override
    public void checkpointCoordinator(long checkpointId, CompletableFuture<byte[]> result) {
        result.complete(new byte[0]);
    }

    @Override
    public void notifyCheckpointComplete(long checkpointId) {}

    @Override
    public void start() {}

    @Override
    public void close() {}
}
