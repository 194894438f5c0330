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
  'properties.group.id' = 'penstock-golden-flights_raw-replay',
  'properties.client.id.prefix' = 'penstock-golden-flights_raw-replay',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'specific-offsets',
  'scan.startup.specific-offsets' = 'partition:0,offset:10;partition:1,offset:20',
  'scan.bounded.mode' = 'specific-offsets',
  'scan.bounded.specific-offsets' = 'partition:0,offset:100;partition:1,offset:200'
);

CREATE TEMPORARY TABLE `out` (
  `origin` STRING,
  `carrier` STRING,
  `departed_at` BIGINT,
  `delay_min` BIGINT,
  `distance_mi` BIGINT,
  `_partition` BIGINT,
  `_offset` BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '/replays/golden/r/1',
  'format' = 'json'
);

INSERT INTO `out`
SELECT `origin`, `carrier`, `departed_at`, `delay_min`, `distance_mi`, CAST(`_partition` AS BIGINT), `_offset`
FROM `source`
WHERE `_error` IS NULL AND `departed_at` >= 1359676800000 AND `departed_at` < 1359763200000 AND NOT (`_et` > `_timestamp` + INTERVAL '1' HOUR);
