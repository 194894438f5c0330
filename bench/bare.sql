CREATE TEMPORARY TABLE clicks (
  click_id STRING,
  `user` STRING,
  page STRING,
  country STRING,
  ms BIGINT,
  price DOUBLE,
  `at` BIGINT,
  et AS TO_TIMESTAMP_LTZ(`at`, 3),
  WATERMARK FOR et AS et - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = '$source_topic',
  'properties.bootstrap.servers' = '$bootstrap',
  'properties.group.id' = '$group',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'json'
);

CREATE TEMPORARY TABLE totals (
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  page STRING,
  clicks BIGINT,
  ms_sum BIGINT,
  price_sum DOUBLE
) WITH (
  'connector' = 'kafka',
  'topic' = '$out_topic',
  'properties.bootstrap.servers' = '$bootstrap',
  'properties.transaction.timeout.ms' = '$transaction_timeout',
  'properties.compression.type' = 'lz4',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '$prefix',
  'sink.transaction-naming-strategy' = 'pooling',
  'key.format' = 'json',
  'key.fields' = 'page',
  'value.format' = 'json'
);

INSERT INTO totals
SELECT window_start, window_end, page, COUNT(*) AS clicks, SUM(ms) AS ms_sum, SUM(price) AS price_sum
FROM TABLE($window)
GROUP BY window_start, window_end, page;
