package io.penstock.flink.gate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.penstock.flink.gate.GateEvents.Follow;
import io.penstock.flink.gate.GateEvents.Report;

import org.apache.flink.runtime.operators.coordination.EventReceivingTasks;
import org.apache.flink.runtime.operators.coordination.OperatorEvent;
import org.junit.jupiter.api.Test;

import java.util.List;
import java.util.concurrent.CompletableFuture;

class GateCoordinatorTest {

    private static final Report ENDED = new Report(Long.MAX_VALUE, false);

    private final EventReceivingTasks tasks = EventReceivingTasks.createForRunningTasks();
    private final GateCoordinator coordinator = new GateCoordinator(3);

    @Test
    void idleGatesFollowTheLeastActiveOne() {
        assertEquals(20, target(active(20), active(30), idle(10)));
        assertEquals(20, target(active(20), idle(50), idle(10)));
    }

    @Test
    void whenAllAreIdleTheyMeetAtTheGreatest() {
        assertEquals(50, target(idle(20), idle(50), idle(10)));
    }

    @Test
    void nobodyMovesBeforeAllAreHeardOf() {
        assertEquals(Long.MIN_VALUE, target(active(20), idle(50), null));
        assertEquals(Long.MIN_VALUE, target(active(Long.MIN_VALUE), idle(50), active(20)));
    }

    @Test
    void thoseAtTheirEndNeitherHoldNorPull() {
        assertEquals(20, target(ENDED, active(20), idle(10)));
        assertEquals(10, target(ENDED, ENDED, idle(10)));
        assertEquals(Long.MIN_VALUE, target(ENDED, ENDED, ENDED));
    }

    @Test
    void tellsOnlyIdleGatesThatAreBehindAndOnlyOnce() {
        ready();
        coordinator.handleEventFromOperator(0, 0, active(100));
        coordinator.handleEventFromOperator(1, 0, active(200));
        assertEquals(List.of(), sentTo(2));
        coordinator.handleEventFromOperator(2, 0, idle(50));
        coordinator.handleEventFromOperator(1, 0, active(300));
        coordinator.handleEventFromOperator(2, 0, idle(100));
        assertEquals(List.of(new Follow(100)), sentTo(2));
        coordinator.handleEventFromOperator(0, 0, active(150));
        assertEquals(List.of(new Follow(100), new Follow(150)), sentTo(2));
        assertEquals(List.of(), sentTo(0));
        assertEquals(List.of(), sentTo(1));
    }

    @Test
    void aFailedSubtaskIsUnknownUntilItReportsAgain() {
        ready();
        coordinator.handleEventFromOperator(0, 0, active(100));
        coordinator.handleEventFromOperator(1, 0, active(100));
        coordinator.handleEventFromOperator(2, 0, idle(100));
        coordinator.executionAttemptFailed(0, 0, null);
        coordinator.handleEventFromOperator(1, 0, active(500));
        assertEquals(List.of(), sentTo(2));
        coordinator.subtaskReset(0, 7);
        coordinator.executionAttemptReady(0, 1, tasks.createGatewayForSubtask(0, 1));
        coordinator.handleEventFromOperator(0, 1, active(90));
        assertEquals(List.of(), sentTo(2));
        coordinator.handleEventFromOperator(0, 1, active(400));
        assertEquals(List.of(new Follow(400)), sentTo(2));
    }

    @Test
    void aGlobalFailureForgetsEverything() {
        ready();
        for (int i = 0; i < 3; i++) {
            coordinator.handleEventFromOperator(i, 0, idle(100 + i));
        }
        int before = tasks.getNumberOfSentEvents();
        coordinator.resetToCheckpoint(1, new byte[0]);
        ready();
        coordinator.handleEventFromOperator(0, 1, idle(1));
        coordinator.handleEventFromOperator(1, 1, idle(2));
        assertEquals(before, tasks.getNumberOfSentEvents());
    }

    @Test
    void checkpointsNothing() {
        CompletableFuture<byte[]> state = new CompletableFuture<>();
        coordinator.checkpointCoordinator(1, state);
        assertArrayEquals(new byte[0], state.join());
    }

    private void ready() {
        for (int i = 0; i < 3; i++) {
            coordinator.executionAttemptReady(i, 0, tasks.createGatewayForSubtask(i, 0));
        }
    }

    private List<OperatorEvent> sentTo(int subtask) {
        return tasks.getSentEventsForSubtask(subtask);
    }

    private static long target(Report... reports) {
        return GateCoordinator.target(reports);
    }

    private static Report active(long watermark) {
        return new Report(watermark, false);
    }

    private static Report idle(long watermark) {
        return new Report(watermark, true);
    }
}
