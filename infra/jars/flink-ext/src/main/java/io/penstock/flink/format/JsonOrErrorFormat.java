package io.penstock.flink.format;

import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.Projection;
import org.apache.flink.table.connector.format.ProjectableDecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.utils.DataTypeUtils;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** The planner's side of the format: checks the declaration and makes the deserializer. */
final class JsonOrErrorFormat implements ProjectableDecodingFormat<DeserializationSchema<RowData>> {

    private final Set<String> required;
    private final Set<String> timestamps;
    private final String eventTime;
    private List<Metadata> metadata = List.of();

    /** @param eventTime one of {@code timestamps}, or null where nobody reads the metadata of that name */
    JsonOrErrorFormat(List<String> required, List<String> timestamps, String eventTime) {
        this.required = new HashSet<>(required);
        this.timestamps = new HashSet<>(timestamps);
        this.eventTime = eventTime;
    }

    @Override
    public DeserializationSchema<RowData> createRuntimeDecoder(
            DynamicTableSource.Context context, DataType physicalType, int[][] projections) {
        RowType rowType = (RowType) physicalType.getLogicalType();
        requireColumns(rowType, "required", required);
        requireColumns(rowType, "timestamps", timestamps);
        if (eventTime != null && !timestamps.contains(eventTime)) {
            throw new ValidationException(
                    "json-or-error.event-time is '%s', which json-or-error.timestamps does not list: %s."
                            .formatted(eventTime, timestamps));
        }
        if (eventTime == null && metadata.contains(Metadata.EVENT_TIME)) {
            throw new ValidationException("The metadata 'event_time' needs json-or-error.event-time, the field to read.");
        }
        List<Field> fields = new ArrayList<>();
        for (int i = 0; i < rowType.getFieldCount(); i++) {
            String name = rowType.getFieldNames().get(i);
            LogicalType type = rowType.getTypeAt(i);
            if (!type.isNullable()) {
                throw new ValidationException(
                        "Column '%s' is NOT NULL, but json-or-error emits NULLs for a broken record: list it in json-or-error.required instead."
                                .formatted(name));
            }
            // Fields that are not read are checked all the same: a record is good or bad for every query.
            fields.add(
                    new Field(
                            name,
                            Field.Kind.of(name, type, timestamps.contains(name)),
                            required.contains(name),
                            position(i, projections)));
        }
        DataType produced =
                DataTypeUtils.appendRowFields(
                        Projection.of(projections).project(physicalType),
                        metadata.stream().map(m -> DataTypes.FIELD(m.key, m.type)).toList());
        return new JsonOrErrorDeserializer(
                fields, eventTime, projections.length, metadata, context.createTypeInformation(produced));
    }

    private static int position(int column, int[][] projections) {
        for (int i = 0; i < projections.length; i++) {
            if (projections[i][0] == column) {
                return i;
            }
        }
        return -1;
    }

    private static void requireColumns(RowType rowType, String option, Set<String> names) {
        for (String name : names) {
            if (!rowType.getFieldNames().contains(name)) {
                throw new ValidationException(
                        "json-or-error.%s names '%s', which is none of the columns %s."
                                .formatted(option, name, rowType.getFieldNames()));
            }
        }
    }

    @Override
    public Map<String, DataType> listReadableMetadata() {
        Map<String, DataType> readable = new LinkedHashMap<>();
        for (Metadata m : Metadata.values()) {
            readable.put(m.key, m.type);
        }
        return readable;
    }

    @Override
    public void applyReadableMetadata(List<String> keys) {
        metadata = keys.stream().map(Metadata::of).toList();
    }

    @Override
    public ChangelogMode getChangelogMode() {
        return ChangelogMode.insertOnly();
    }
}
