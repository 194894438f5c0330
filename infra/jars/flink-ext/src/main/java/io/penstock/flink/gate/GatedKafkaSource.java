package io.penstock.flink.gate;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamSource;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.connectors.kafka.config.BoundedMode;
import org.apache.flink.streaming.connectors.kafka.config.StartupMode;
import org.apache.flink.streaming.connectors.kafka.table.KafkaDynamicSource;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.regex.Pattern;

/** A Kafka source that ends in a {@link WatermarkGate}. Without a watermark it is a plain one. */
final class GatedKafkaSource extends KafkaDynamicSource {

    GatedKafkaSource(
            DataType physicalDataType,
            DecodingFormat<DeserializationSchema<RowData>> keyDecodingFormat,
            DecodingFormat<DeserializationSchema<RowData>> valueDecodingFormat,
            int[] keyProjection,
            int[] valueProjection,
            String keyPrefix,
            List<String> topics,
            Pattern topicPattern,
            Properties properties,
            StartupMode startupMode,
            Map<TopicPartition, Long> specificStartupOffsets,
            long startupTimestampMillis,
            BoundedMode boundedMode,
            Map<TopicPartition, Long> specificBoundedOffsets,
            long boundedTimestampMillis,
            boolean upsertMode,
            String tableIdentifier,
            Integer parallelism) {
        super(
                physicalDataType,
                keyDecodingFormat,
                valueDecodingFormat,
                keyProjection,
                valueProjection,
                keyPrefix,
                topics,
                topicPattern,
                properties,
                startupMode,
                specificStartupOffsets,
                startupTimestampMillis,
                boundedMode,
                specificBoundedOffsets,
                boundedTimestampMillis,
                upsertMode,
                tableIdentifier,
                parallelism);
    }

    @Override
    public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
        DataStreamScanProvider kafka = (DataStreamScanProvider) super.getScanRuntimeProvider(context);
        return watermarkStrategy == null ? kafka : new GatedProvider(kafka);
    }

    @Override
    public DynamicTableSource copy() {
        GatedKafkaSource copy =
                new GatedKafkaSource(
                        physicalDataType,
                        keyDecodingFormat,
                        valueDecodingFormat,
                        keyProjection,
                        valueProjection,
                        keyPrefix,
                        topics,
                        topicPattern,
                        properties,
                        startupMode,
                        specificStartupOffsets,
                        startupTimestampMillis,
                        boundedMode,
                        specificBoundedOffsets,
                        boundedTimestampMillis,
                        upsertMode,
                        tableIdentifier,
                        parallelism);
        copy.producedDataType = producedDataType;
        copy.metadataKeys = metadataKeys;
        copy.watermarkStrategy = watermarkStrategy;
        return copy;
    }

    @Override
    public String asSummaryString() {
        return "Gated Kafka table source";
    }

    /** The planner names the last operator and gives it its uid, so the gate needs neither. */
    private record GatedProvider(DataStreamScanProvider kafka) implements DataStreamScanProvider {

        @Override
        public DataStream<RowData> produceDataStream(ProviderContext context, StreamExecutionEnvironment env) {
            if (env.getCheckpointConfig().isUnalignedCheckpointsEnabled()) {
                // At another parallelism, rows in flight would be restored ahead of the gate they had passed.
                throw new ValidationException(
                        "gated-kafka needs aligned checkpoints: set execution.checkpointing.unaligned.enabled to false.");
            }
            DataStream<RowData> rows = kafka.produceDataStream(context, env);
            SingleOutputStreamOperator<RowData> gate =
                    rows.transform("watermark-gate", rows.getType(), new WatermarkGateFactory());
            // The planner would set it on the gate only, and part it from its source.
            kafka.getParallelism()
                    .ifPresent(
                            parallelism -> {
                                ((DataStreamSource<RowData>) rows).setParallelism(parallelism);
                                gate.setParallelism(parallelism);
                            });
            return gate;
        }

        @Override
        public boolean isBounded() {
            return kafka.isBounded();
        }

        @Override
        public Optional<Integer> getParallelism() {
            return kafka.getParallelism();
        }
    }
}
