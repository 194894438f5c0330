package io.penstock.flink.gate;

import io.penstock.flink.gate.GateEvents.Follow;
import io.penstock.flink.gate.GateEvents.Report;

import org.apache.flink.api.common.operators.ProcessingTimeService.ProcessingTimeCallback;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.runtime.operators.coordination.OperatorEvent;
import org.apache.flink.runtime.operators.coordination.OperatorEventGateway;
import org.apache.flink.runtime.operators.coordination.OperatorEventHandler;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.StreamOperatorParameters;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.table.data.RowData;

import java.util.List;

/**
 * Passes rows through unchanged and keeps one promise about watermarks: <em>no operator behind this
 * gate is ever ahead of it.</em> A row that is judged against the gate's watermark (the late gate's
 * CURRENT_WATERMARK, chained behind) is then judged at least as strictly as any window will.
 *
 * <p>An operator's watermark is the least of its channels', except that idle channels do not count
 * and that a restored window begins with the watermark of its checkpoint. Hence:
 *
 * <ul>
 *   <li>The gate's watermark is checkpointed, and emitted again before anything else.
 *   <li>The gate never says idle. Instead an idle gate follows the others, by way of the {@link
 *       GateCoordinator}; its own watermark advances with them, and stays when it wakes.
 * </ul>
 */
final class WatermarkGate extends AbstractStreamOperator<RowData>
        implements OneInputStreamOperator<RowData, RowData>, OperatorEventHandler, ProcessingTimeCallback {

    /** How often a gate tells the coordinator what has changed, in milliseconds. */
    static final long REPORT_INTERVAL = 200;

    private final OperatorEventGateway coordinator;

    /** Each subtask's index and watermark. Union: see {@link #floor}. */
    private transient ListState<Tuple2<Integer, Long>> checkpointed;

    private transient Counter followed;
    private transient Report reported;
    private transient long watermark;
    private transient boolean idle;

    /** A restored watermark is still to be emitted. */
    private transient boolean held;

    WatermarkGate(StreamOperatorParameters<RowData> parameters, OperatorEventGateway coordinator) {
        super(parameters);
        this.coordinator = coordinator;
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        checkpointed =
                context.getOperatorStateStore()
                        .getUnionListState(
                                new ListStateDescriptor<>("watermark", Types.TUPLE(Types.INT, Types.LONG)));
        watermark = Long.MIN_VALUE;
        if (context.isRestored()) {
            watermark =
                    floor(
                            checkpointed.get(),
                            getRuntimeContext().getTaskInfo().getIndexOfThisSubtask(),
                            getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks());
        }
        held = watermark != Long.MIN_VALUE;
    }

    /**
     * The watermark to go on from. At the same parallelism each subtask has its old partitions and
     * its own watermark again. At another one partitions move, so all begin with the least: the
     * restored windows are not ahead of it, since each had heard from every gate.
     */
    static long floor(Iterable<Tuple2<Integer, Long>> state, int subtask, int parallelism) {
        long least = Long.MAX_VALUE;
        long own = Long.MIN_VALUE;
        int count = 0;
        for (Tuple2<Integer, Long> entry : state) {
            count++;
            least = Math.min(least, entry.f1);
            own = entry.f0 == subtask ? entry.f1 : own;
        }
        return count == parallelism ? own : count == 0 ? Long.MIN_VALUE : least;
    }

    @Override
    public void open() throws Exception {
        super.open();
        reported = null;
        MetricGroup group = getMetricGroup().addGroup("gate");
        followed = group.counter("followed");
        group.gauge("currentWatermark", () -> watermark);
        scheduleReport();
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        checkpointed.update(
                List.of(Tuple2.of(getRuntimeContext().getTaskInfo().getIndexOfThisSubtask(), watermark)));
    }

    @Override
    public void processElement(StreamRecord<RowData> element) {
        if (held) {
            release();
        }
        output.collect(element);
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        advance(mark.getTimestamp());
        if (mark.equals(Watermark.MAX_WATERMARK)) {
            report(); // the end of the input: no timer may fire any more
        }
    }

    @Override
    public void processWatermarkStatus(WatermarkStatus status) {
        idle = status.isIdle();
    }

    @Override
    public void handleOperatorEvent(OperatorEvent event) {
        // A gate that woke up meanwhile goes by its own source again.
        if (idle && ((Follow) event).watermark() > watermark) {
            advance(((Follow) event).watermark());
            followed.inc();
        }
    }

    @Override
    public void onProcessingTime(long time) {
        if (held) {
            release();
        }
        report();
        scheduleReport();
    }

    private void advance(long to) {
        if (to > watermark) {
            watermark = to;
            release();
        } else if (held) {
            release();
        }
    }

    /** Not done in open(): records of the restored channels are still to be sent then. */
    private void release() {
        held = false;
        output.emitWatermark(new Watermark(watermark));
    }

    private void report() {
        Report now = new Report(watermark, idle);
        if (!now.equals(reported)) {
            reported = now;
            coordinator.sendEventToCoordinator(now);
        }
    }

    private void scheduleReport() {
        getProcessingTimeService()
                .registerTimer(getProcessingTimeService().getCurrentProcessingTime() + REPORT_INTERVAL, this);
    }
}
