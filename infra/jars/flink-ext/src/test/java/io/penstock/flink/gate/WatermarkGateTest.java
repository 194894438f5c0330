package io.penstock.flink.gate;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.penstock.flink.gate.GateEvents.Follow;
import io.penstock.flink.gate.GateEvents.Report;

import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.operators.coordination.MockOperatorEventGateway;
import org.apache.flink.runtime.operators.coordination.OperatorEvent;
import org.apache.flink.streaming.api.operators.AbstractStreamOperatorFactory;
import org.apache.flink.streaming.api.operators.OneInputStreamOperatorFactory;
import org.apache.flink.streaming.api.operators.StreamOperator;
import org.apache.flink.streaming.api.operators.StreamOperatorParameters;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.streaming.util.AbstractStreamOperatorTestHarness;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.junit.jupiter.api.Test;

import java.util.ArrayList;
import java.util.List;

class WatermarkGateTest {

    private static final RowData ROW = GenericRowData.of(1L);

    @Test
    void passesRowsAndRisingWatermarksInOrder() throws Exception {
        try (Gate gate = new Gate(1, 0)) {
            gate.row();
            gate.watermark(10);
            gate.row();
            gate.watermark(10);
            gate.watermark(5);
            gate.watermark(11);
            assertEquals(List.of("row", 10L, "row", 11L), gate.output());
        }
    }

    @Test
    void neverSaysIdleAndFollowsWhileItIs() throws Exception {
        try (Gate gate = new Gate(2, 0)) {
            gate.watermark(10);
            gate.status(WatermarkStatus.IDLE);
            gate.event(new Follow(30));
            gate.event(new Follow(20));
            gate.status(WatermarkStatus.ACTIVE);
            gate.row();
            gate.watermark(15); // its own source, still behind what it has said
            gate.watermark(31);
            assertEquals(List.of(10L, 30L, "row", 31L), gate.output());
        }
    }

    @Test
    void aGateThatWokeUpNoLongerFollows() throws Exception {
        try (Gate gate = new Gate(2, 0)) {
            gate.watermark(10);
            gate.status(WatermarkStatus.IDLE);
            gate.status(WatermarkStatus.ACTIVE);
            gate.event(new Follow(30));
            assertEquals(List.of(10L), gate.output());
        }
    }

    @Test
    void aRestoredGateEmitsItsWatermarkBeforeTheFirstRow() throws Exception {
        OperatorSubtaskState checkpoint = checkpoint(100, 1, 0);
        try (Gate gate = new Gate(1, 0, checkpoint)) {
            assertEquals(List.of(), gate.output()); // not while operators are being opened
            gate.row();
            gate.watermark(40);
            gate.row();
            gate.watermark(101);
            assertEquals(List.of(100L, "row", "row", 101L), gate.output());
        }
    }

    @Test
    void aRestoredGateEmitsItsWatermarkBeforeALowerOne() throws Exception {
        try (Gate gate = new Gate(1, 0, checkpoint(100, 1, 0))) {
            gate.watermark(40);
            gate.watermark(41);
            assertEquals(List.of(100L), gate.output());
        }
    }

    @Test
    void aRestoredGateWithoutRowsEmitsItsWatermarkAllTheSame() throws Exception {
        try (Gate gate = new Gate(1, 0, checkpoint(100, 1, 0))) {
            gate.time(WatermarkGate.REPORT_INTERVAL);
            assertEquals(List.of(100L), gate.output());
            assertEquals(List.of(new Report(100, false)), gate.reports());
        }
    }

    @Test
    void aRestoredGateThatHadSeenNothingEmitsNothing() throws Exception {
        try (Gate gate = new Gate(1, 0, checkpoint(Long.MIN_VALUE, 1, 0))) {
            gate.row();
            assertEquals(List.of("row"), gate.output());
        }
    }

    @Test
    void goesOnFromItsOwnWatermarkOrAfterARescaleFromTheLeast() throws Exception {
        OperatorSubtaskState both =
                AbstractStreamOperatorTestHarness.repackageState(checkpoint(100, 2, 0), checkpoint(70, 2, 1));
        assertEquals(List.of(100L, "row"), firstOutput(both, 2, 2, 0));
        assertEquals(List.of(70L, "row"), firstOutput(both, 2, 2, 1));
        assertEquals(List.of(70L, "row"), firstOutput(both, 2, 1, 0));
        for (int subtask = 0; subtask < 3; subtask++) {
            assertEquals(List.of(70L, "row"), firstOutput(both, 2, 3, subtask));
        }
    }

    @Test
    void survivesTwoRestoresWithoutARowBetween() throws Exception {
        OperatorSubtaskState again;
        try (Gate gate = new Gate(1, 0, checkpoint(100, 1, 0))) {
            again = gate.snapshot(2);
        }
        assertEquals(List.of(100L, "row"), firstOutput(again, 1, 1, 0));
    }

    @Test
    void floorOfNothingIsNothing() {
        assertEquals(Long.MIN_VALUE, WatermarkGate.floor(List.of(), 0, 1));
        assertEquals(5, WatermarkGate.floor(List.of(Tuple2.of(1, 9L), Tuple2.of(0, 5L)), 0, 2));
        assertEquals(5, WatermarkGate.floor(List.of(Tuple2.of(1, 9L), Tuple2.of(0, 5L)), 1, 3));
    }

    @Test
    void reportsChangesAndOnlyChangesAtItsInterval() throws Exception {
        try (Gate gate = new Gate(2, 0)) {
            gate.watermark(10);
            gate.watermark(11);
            assertEquals(List.of(), gate.reports());
            gate.time(WatermarkGate.REPORT_INTERVAL);
            gate.time(2 * WatermarkGate.REPORT_INTERVAL);
            gate.status(WatermarkStatus.IDLE);
            gate.time(3 * WatermarkGate.REPORT_INTERVAL);
            assertEquals(List.of(new Report(11, false), new Report(11, true)), gate.reports());
        }
    }

    @Test
    void aGateWithoutAnyPartitionIsHeardOfToo() throws Exception {
        try (Gate gate = new Gate(2, 0)) {
            gate.time(WatermarkGate.REPORT_INTERVAL);
            assertEquals(List.of(new Report(Long.MIN_VALUE, false)), gate.reports());
        }
    }

    @Test
    void theEndOfTheInputPassesAndIsReportedAtOnce() throws Exception {
        try (Gate gate = new Gate(2, 0)) {
            gate.watermark(10);
            gate.watermark(Long.MAX_VALUE);
            assertEquals(List.of(10L, Long.MAX_VALUE), gate.output());
            assertEquals(List.of(new Report(Long.MAX_VALUE, false)), gate.reports());
        }
    }

    private static OperatorSubtaskState checkpoint(long watermark, int parallelism, int subtask) throws Exception {
        try (Gate gate = new Gate(parallelism, subtask)) {
            if (watermark != Long.MIN_VALUE) {
                gate.watermark(watermark);
            }
            return gate.snapshot(1);
        }
    }

    private static List<Object> firstOutput(OperatorSubtaskState all, int before, int parallelism, int subtask)
            throws Exception {
        OperatorSubtaskState own =
                AbstractStreamOperatorTestHarness.repartitionOperatorState(all, 8, before, parallelism, subtask);
        try (Gate gate = new Gate(parallelism, subtask, own)) {
            gate.row();
            return gate.output();
        }
    }

    /** A gate in Flink's own operator harness. */
    private static final class Gate implements AutoCloseable {
        private final MockOperatorEventGateway coordinator = new MockOperatorEventGateway();
        private final Factory factory = new Factory(coordinator);
        private final OneInputStreamOperatorTestHarness<RowData, RowData> harness;

        Gate(int parallelism, int subtask) throws Exception {
            this(parallelism, subtask, null);
        }

        Gate(int parallelism, int subtask, OperatorSubtaskState restored) throws Exception {
            harness = new OneInputStreamOperatorTestHarness<>(factory, 8, parallelism, subtask);
            harness.setup();
            if (restored != null) {
                harness.initializeState(restored);
            }
            harness.open();
        }

        void row() throws Exception {
            harness.processElement(new StreamRecord<>(ROW));
        }

        void watermark(long timestamp) throws Exception {
            harness.processWatermark(new Watermark(timestamp));
        }

        void status(WatermarkStatus status) throws Exception {
            harness.processWatermarkStatus(status);
        }

        void time(long millis) throws Exception {
            harness.setProcessingTime(millis);
        }

        void event(OperatorEvent event) {
            factory.gate.handleOperatorEvent(event);
        }

        OperatorSubtaskState snapshot(long id) throws Exception {
            return harness.snapshot(id, 0);
        }

        List<OperatorEvent> reports() {
            return coordinator.getEventsSent();
        }

        /** "row" for a row, a long for a watermark; anything else as it is, so that it shows. */
        List<Object> output() {
            List<Object> seen = new ArrayList<>();
            for (Object element : harness.getOutput()) {
                seen.add(
                        element instanceof Watermark mark
                                ? (Object) mark.getTimestamp()
                                : element instanceof StreamRecord ? "row" : element);
            }
            return seen;
        }

        @Override
        public void close() throws Exception {
            harness.close();
        }
    }

    private static final class Factory extends AbstractStreamOperatorFactory<RowData>
            implements OneInputStreamOperatorFactory<RowData, RowData> {
        private final transient MockOperatorEventGateway coordinator;
        private transient WatermarkGate gate;

        Factory(MockOperatorEventGateway coordinator) {
            this.coordinator = coordinator;
        }

        @Override
        @SuppressWarnings("unchecked")
        public <T extends StreamOperator<RowData>> T createStreamOperator(StreamOperatorParameters<RowData> parameters) {
            gate = new WatermarkGate(parameters, coordinator);
            return (T) gate;
        }

        @Override
        @SuppressWarnings("rawtypes")
        public Class<? extends StreamOperator> getStreamOperatorClass(ClassLoader classLoader) {
            return WatermarkGate.class;
        }
    }
}
