SELECT _partition, _offset, _timestamp, _row."flight_id" AS "flight_id", _row."origin" AS "origin", _row."dest" AS "dest", _row."carrier" AS "carrier", _row."tailnum" AS "tailnum", _row."scheduled_at" AS "scheduled_at", _row."departed_at" AS "departed_at", _row."delay_min" AS "delay_min", _row."distance_mi" AS "distance_mi" FROM (
  SELECT partition AS _partition, "offset" AS _offset, "timestamp" AS _timestamp,
    from_json(decode(value), '{"flight_id": "VARCHAR", "origin": "VARCHAR", "dest": "VARCHAR", "carrier": "VARCHAR", "tailnum": "VARCHAR", "scheduled_at": "BIGINT", "departed_at": "BIGINT", "delay_min": "BIGINT", "distance_mi": "BIGINT"}') AS _row
  FROM log
);

SELECT _window AS window_start, _window + 3600000 AS window_end, "origin", CAST(COUNT(*) AS BIGINT) AS "flights", CAST(SUM("delay_min") AS BIGINT) AS "delay_min_sum", CAST(MAX("delay_min") AS BIGINT) AS "delay_min_max", count(*) AS _rows
FROM (SELECT *, unnest(range(("departed_at" - ((("departed_at") % 300000 + 300000) % 300000)) - 3300000, ("departed_at" - ((("departed_at") % 300000 + 300000) % 300000)) + 1, 300000)) AS _window FROM events)
GROUP BY _window, "origin";
