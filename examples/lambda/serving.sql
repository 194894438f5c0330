SELECT __time, "carrier", "flights", "delayed", "delay_min_sum", "distance_mi_sum", "destinations", "_rows"
FROM "carrier_daily_batch" WHERE __time < TIMESTAMP '2013-03-01'
UNION ALL
SELECT __time, "carrier", "flights", "delayed", "delay_min_sum", "distance_mi_sum", "destinations", "_rows"
FROM "carrier_daily" WHERE __time >= TIMESTAMP '2013-03-01'
-- What readers ask: days before the cut-off from the batch layer, those from it on from the speed layer.
-- Druid's UNION ALL only puts answers one after the other: who sums has to sum in both halves.
