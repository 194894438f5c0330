SELECT _partition, _offset, _timestamp, _row."flight_id" AS "flight_id", _row."origin" AS "origin", _row."dest" AS "dest", _row."carrier" AS "carrier", _row."tailnum" AS "tailnum", _row."scheduled_at" AS "scheduled_at", _row."departed_at" AS "departed_at", _row."delay_min" AS "delay_min", _row."distance_mi" AS "distance_mi" FROM (
  SELECT partition AS _partition, "offset" AS _offset, "timestamp" AS _timestamp,
    from_json(decode(value), '{"flight_id": "VARCHAR", "origin": "VARCHAR", "dest": "VARCHAR", "carrier": "VARCHAR", "tailnum": "VARCHAR", "scheduled_at": "BIGINT", "departed_at": "BIGINT", "delay_min": "BIGINT", "distance_mi": "BIGINT"}') AS _row
  FROM log
);

SELECT _window AS window_start, _window + 86400000 AS window_end, "carrier", CAST(COUNT(*) AS BIGINT) AS "flights", CAST(SUM(CASE WHEN "delay_min" > 15::BIGINT THEN 1::BIGINT ELSE 0::BIGINT END) AS BIGINT) AS "delayed", CAST(SUM("delay_min") AS BIGINT) AS "delay_min_sum", CAST(SUM("distance_mi") AS BIGINT) AS "distance_mi_sum", CAST(COUNT(DISTINCT "dest") AS BIGINT) AS "destinations", count(*) AS _rows
FROM (SELECT *, ("departed_at" - ((("departed_at") % 86400000 + 86400000) % 86400000)) AS _window FROM events)
GROUP BY _window, "carrier";
