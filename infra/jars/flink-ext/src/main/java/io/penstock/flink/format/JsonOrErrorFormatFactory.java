package io.penstock.flink.format;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;

import java.util.List;
import java.util.Set;

/**
 * The format {@code json-or-error}: JSON objects into rows, and broken records into rows that say
 * why, instead of a dead job or a silent loss.
 */
public final class JsonOrErrorFormatFactory implements DeserializationFormatFactory {

    private static final ConfigOption<List<String>> REQUIRED =
            ConfigOptions.key("required")
                    .stringType()
                    .asList()
                    .defaultValues()
                    .withDescription("Fields, separated by ';', that must be present and not null.");

    private static final ConfigOption<List<String>> TIMESTAMPS =
            ConfigOptions.key("timestamps")
                    .stringType()
                    .asList()
                    .defaultValues()
                    .withDescription("BIGINT fields, separated by ';', that hold epoch milliseconds of the years 1 to 9999.");

    private static final ConfigOption<String> EVENT_TIME =
            ConfigOptions.key("event-time")
                    .stringType()
                    .noDefaultValue()
                    .withDescription("The field of 'timestamps' that the metadata 'event_time' gives as TIMESTAMP_LTZ(3).");

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        FactoryUtil.validateFactoryOptions(this, options);
        return new JsonOrErrorFormat(options.get(REQUIRED), options.get(TIMESTAMPS), options.get(EVENT_TIME));
    }

    @Override
    public String factoryIdentifier() {
        return "json-or-error";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(REQUIRED, TIMESTAMPS, EVENT_TIME);
    }
}
