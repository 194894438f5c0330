SELECT _partition, _offset, _timestamp, _row."flight_id" AS "flight_id", _row."origin" AS "origin", _row."dest" AS "dest", _row."carrier" AS "carrier", _row."tailnum" AS "tailnum", _row."scheduled_at" AS "scheduled_at", _row."departed_at" AS "departed_at", _row."delay_min" AS "delay_min", _row."distance_mi" AS "distance_mi" FROM (
  SELECT partition AS _partition, "offset" AS _offset, "timestamp" AS _timestamp,
    from_json(decode(value), '{"flight_id": "VARCHAR", "origin": "VARCHAR", "dest": "VARCHAR", "carrier": "VARCHAR", "tailnum": "VARCHAR", "scheduled_at": "BIGINT", "departed_at": "BIGINT", "delay_min": "BIGINT", "distance_mi": "BIGINT"}') AS _row
  FROM log
);

SELECT ("departed_at" - ((("departed_at") % 3600000 + 3600000) % 3600000)) AS __time, "origin", "carrier", SUM("delay_min") AS "delay_min_sum", MAX("delay_min") AS "delay_min_max", SUM("distance_mi") AS "distance_mi_sum", count(*) AS _rows
FROM events
GROUP BY ("departed_at" - ((("departed_at") % 3600000 + 3600000) % 3600000)), "origin", "carrier";
