CREATE TEMPORARY TABLE `source` (
  `flight_id` STRING,
  `origin` STRING,
  `dest` STRING,
  `carrier` STRING,
  `tailnum` STRING,
  `scheduled_at` BIGINT,
  `departed_at` BIGINT,
  `delay_min` BIGINT,
  `distance_mi` BIGINT,
  `_error` STRING METADATA FROM 'value.error' VIRTUAL,
  `_bytes` BYTES METADATA FROM 'value.bytes' VIRTUAL,
  `_topic` STRING METADATA FROM 'topic' VIRTUAL,
  `_partition` INT METADATA FROM 'partition' VIRTUAL,
  `_offset` BIGINT METADATA FROM 'offset' VIRTUAL,
  `_timestamp` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  `_et` TIMESTAMP_LTZ(3) METADATA FROM 'value.event_time' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights.departed.v1',
  'format' = 'json-or-error',
  'json-or-error.required' = 'flight_id;origin;dest;carrier;scheduled_at;departed_at;distance_mi',
  'json-or-error.timestamps' = 'scheduled_at;departed_at',
  'json-or-error.event-time' = 'departed_at',
  'properties.bootstrap.servers' = '127.0.0.1:19092',
  'properties.group.id' = 'penstock-golden-carrier_daily-replay',
  'properties.client.id.prefix' = 'penstock-golden-carrier_daily-replay',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'specific-offsets',
  'scan.startup.specific-offsets' = 'partition:0,offset:10;partition:1,offset:20',
  'scan.bounded.mode' = 'specific-offsets',
  'scan.bounded.specific-offsets' = 'partition:0,offset:100;partition:1,offset:200'
);

CREATE TEMPORARY TABLE `out` (
  `window_start` BIGINT,
  `window_end` BIGINT,
  `carrier` STRING,
  `flights` BIGINT,
  `delayed` BIGINT,
  `delay_min_sum` BIGINT,
  `distance_mi_sum` BIGINT,
  `destinations` BIGINT,
  `_rows` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '/replays/golden/r/1',
  'format' = 'json'
);

INSERT INTO `out`
WITH on_time AS (
  SELECT * FROM `source` WHERE `_error` IS NULL AND `departed_at` >= 1359676800000 AND `departed_at` < 1362096000000 AND NOT (`_et` > `_timestamp` + INTERVAL '1' HOUR)
)
SELECT
  EXTRACT(EPOCH FROM `window_start`) * 1000 AS `window_start`,
  EXTRACT(EPOCH FROM `window_end`) * 1000 AS `window_end`,
  `carrier`,
  CAST(COUNT(*) AS BIGINT) AS `flights`,
  CAST(SUM(CASE WHEN `delay_min` > CAST(15 AS BIGINT) THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END) AS BIGINT) AS `delayed`,
  CAST(SUM(`delay_min`) AS BIGINT) AS `delay_min_sum`,
  CAST(SUM(`distance_mi`) AS BIGINT) AS `distance_mi_sum`,
  CAST(COUNT(DISTINCT `dest`) AS BIGINT) AS `destinations`,
  COUNT(*) AS `_rows`
FROM TABLE(TUMBLE(TABLE on_time, DESCRIPTOR(`_et`), INTERVAL '1' DAY))
WHERE `window_start` >= TIMESTAMP '2013-02-01 00:00:00.000' AND `window_start` < TIMESTAMP '2013-03-01 00:00:00.000'
GROUP BY `window_start`, `window_end`, `carrier`;
