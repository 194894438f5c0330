package io.penstock.flink.format;

import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.types.DataType;

/** What a table may read besides the fields, as {@code METADATA FROM 'value.<key>'}. */
enum Metadata {
    /** NULL for a good row, else "class: detail". */
    ERROR("error", DataTypes.STRING().nullable()),
    /** The record's value as it was received, good or bad; NULL for a null value. */
    BYTES("bytes", DataTypes.BYTES().nullable()),
    /**
     * The field that {@code event-time} names, as a timestamp made once for all who use it; NULL for a
     * broken record.
     */
    EVENT_TIME("event_time", DataTypes.TIMESTAMP_LTZ(3).nullable());

    final String key;
    final DataType type;

    Metadata(String key, DataType type) {
        this.key = key;
        this.type = type;
    }

    static Metadata of(String key) {
        for (Metadata metadata : values()) {
            if (metadata.key.equals(key)) {
                return metadata;
            }
        }
        throw new IllegalArgumentException("json-or-error has no metadata '" + key + "'.");
    }
}
