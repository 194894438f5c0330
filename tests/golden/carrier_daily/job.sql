-- version 9ad814c6a900

SET 'pipeline.name' = 'penstock.carrier_daily';
SET '$internal.pipeline.job-id' = '8fc146923b8bc6a48b2a289cf789f630';
SET 'parallelism.default' = '2';
SET 'pipeline.max-parallelism' = '128';
SET 'pipeline.object-reuse' = 'true';
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.source.idle-timeout' = '300000 ms';
SET 'execution.checkpointing.interval' = '1000 ms';
SET 'execution.checkpointing.mode' = 'EXACTLY_ONCE';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'table.plan.compile.catalog-objects' = 'SCHEMA';

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
  `_et` TIMESTAMP_LTZ(3) METADATA FROM 'value.event_time' VIRTUAL,
  WATERMARK FOR `_et` AS CASE WHEN `_et` > `_timestamp` + INTERVAL '1' HOUR THEN CAST(NULL AS TIMESTAMP_LTZ(3)) ELSE `_et` - INTERVAL '30' MINUTE END
) WITH (
  'connector' = 'gated-kafka',
  'topic' = 'flights.departed.v1',
  'format' = 'json-or-error',
  'json-or-error.required' = 'flight_id;origin;dest;carrier;scheduled_at;departed_at;distance_mi',
  'json-or-error.timestamps' = 'scheduled_at;departed_at',
  'json-or-error.event-time' = 'departed_at',
  'properties.bootstrap.servers' = '127.0.0.1:19092',
  'properties.group.id' = 'penstock-golden-carrier_daily',
  'properties.auto.offset.reset' = 'earliest',
  'properties.isolation.level' = 'read_committed',
  'properties.fetch.min.bytes' = '65536',
  'properties.fetch.max.wait.ms' = '50',
  'scan.startup.mode' = 'earliest-offset',
  'scan.topic-partition-discovery.interval' = '30 s'
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
  'properties.bootstrap.servers' = '127.0.0.1:19092',
  'connector' = 'kafka',
  'topic' = 'penstock.carrier_daily.out',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'penstock-golden-carrier_daily-out-8fc14692-',
  'sink.transaction-naming-strategy' = 'pooling',
  'properties.transaction.timeout.ms' = '900000',
  'properties.compression.type' = 'lz4',
  'properties.max.request.size' = '67108864',
  'key.format' = 'json',
  'key.fields' = 'carrier',
  'value.format' = 'json'
);

CREATE TEMPORARY TABLE `late` (
  `value` BYTES,
  `headers` MAP<STRING, BYTES> METADATA
) WITH (
  'properties.bootstrap.servers' = '127.0.0.1:19092',
  'connector' = 'kafka',
  'topic' = 'penstock.carrier_daily.late',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'penstock-golden-carrier_daily-late-8fc14692-',
  'sink.transaction-naming-strategy' = 'pooling',
  'properties.transaction.timeout.ms' = '900000',
  'properties.compression.type' = 'lz4',
  'properties.max.request.size' = '67108864',
  'value.format' = 'raw'
);

CREATE TEMPORARY TABLE `dlq` (
  `value` BYTES,
  `headers` MAP<STRING, BYTES> METADATA
) WITH (
  'properties.bootstrap.servers' = '127.0.0.1:19092',
  'connector' = 'kafka',
  'topic' = 'penstock.carrier_daily.dlq',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'penstock-golden-carrier_daily-dlq-8fc14692-',
  'sink.transaction-naming-strategy' = 'pooling',
  'properties.transaction.timeout.ms' = '900000',
  'properties.compression.type' = 'lz4',
  'properties.max.request.size' = '67108864',
  'value.format' = 'raw'
);

STATEMENT SET
BEGIN
INSERT INTO `out`
WITH on_time AS (
  SELECT * FROM `source` WHERE `_error` IS NULL AND NOT (`_et` > `_timestamp` + INTERVAL '1' HOUR OR (`_et` <= CURRENT_WATERMARK(`_et`) AND CURRENT_WATERMARK(`_et`) >= TO_TIMESTAMP_LTZ((`departed_at` - MOD(MOD(`departed_at`, 86400000) + 86400000, 86400000) + 86400000) - 1, 3)) IS TRUE)
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
GROUP BY `window_start`, `window_end`, `carrier`;
INSERT INTO `late`
SELECT `_bytes`, MAP['topic', CAST(`_topic` AS BYTES), 'partition', CAST(CAST(`_partition` AS STRING) AS BYTES), 'offset', CAST(CAST(`_offset` AS STRING) AS BYTES), 'timestamp', CAST(CAST(EXTRACT(EPOCH FROM `_timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `_timestamp`) AS STRING) AS BYTES), 'reason', CAST(CASE WHEN `_et` > `_timestamp` + INTERVAL '1' HOUR THEN 'too early' ELSE 'late' END AS BYTES), 'event_time', CAST(CAST(`departed_at` AS STRING) AS BYTES)]
FROM `source`
WHERE `_error` IS NULL AND (`_et` > `_timestamp` + INTERVAL '1' HOUR OR (`_et` <= CURRENT_WATERMARK(`_et`) AND CURRENT_WATERMARK(`_et`) >= TO_TIMESTAMP_LTZ((`departed_at` - MOD(MOD(`departed_at`, 86400000) + 86400000, 86400000) + 86400000) - 1, 3)) IS TRUE);
INSERT INTO `dlq`
SELECT `_bytes`, MAP['topic', CAST(`_topic` AS BYTES), 'partition', CAST(CAST(`_partition` AS STRING) AS BYTES), 'offset', CAST(CAST(`_offset` AS STRING) AS BYTES), 'timestamp', CAST(CAST(EXTRACT(EPOCH FROM `_timestamp`) * 1000 + EXTRACT(MILLISECOND FROM `_timestamp`) AS STRING) AS BYTES), 'reason', CAST(`_error` AS BYTES)]
FROM `source`
WHERE `_error` IS NOT NULL;
END
