package io.penstock.flink.gate;

import org.apache.flink.runtime.operators.coordination.OperatorEvent;

/** What gates and their coordinator tell each other. */
final class GateEvents {

    private GateEvents() {}

    /** From a gate: its own watermark, and whether its source is idle. */
    record Report(long watermark, boolean idle) implements OperatorEvent {}

    /** To an idle gate: go as far as this. */
    record Follow(long watermark) implements OperatorEvent {}
}
