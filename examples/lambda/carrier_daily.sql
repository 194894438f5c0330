-- The batch layer's copy of the logic in jobs/carrier_daily.py.
SELECT
  departed_at - departed_at % 86400000 AS window_start,
  departed_at - departed_at % 86400000 + 86400000 AS window_end,
  carrier,
  count(*) AS flights,
  sum(CASE WHEN delay_min > 15 THEN 1 ELSE 0 END) AS delayed,
  sum(delay_min) AS delay_min_sum,
  sum(distance_mi) AS distance_mi_sum,
  count(DISTINCT dest) AS destinations,
  count(*) AS _rows
FROM departures
WHERE departed_at < $cut_off
GROUP BY ALL
