CREATE TEMPORARY TABLE clicks (
  click_id STRING,
  `user` STRING,
  page STRING,
  country STRING,
  ms BIGINT,
  price DOUBLE,
  `at` BIGINT,
  et AS TO_TIMESTAMP_LTZ(`at`, 3)
) WITH (
  'connector' = 'kafka',
  'topic' = '$source_topic',
  'properties.bootstrap.servers' = '$bootstrap',
  'properties.group.id' = '$group',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'specific-offsets',
  'scan.startup.specific-offsets' = '$low',
  'scan.bounded.mode' = 'specific-offsets',
  'scan.bounded.specific-offsets' = '$high',
  'format' = 'json'
);

CREATE TEMPORARY TABLE totals (
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  page STRING,
  country STRING,
  clicks BIGINT,
  ms_sum BIGINT,
  price_sum DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path' = '$folder',
  'format' = 'json'
);

INSERT INTO totals
SELECT window_start, window_end, page, country, COUNT(*) AS clicks, SUM(ms) AS ms_sum, SUM(price) AS price_sum
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(et), INTERVAL '1' MINUTE))
WHERE `at` >= $start AND `at` < $end
GROUP BY window_start, window_end, page, country;
