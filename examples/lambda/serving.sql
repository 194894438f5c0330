-- What readers ask: days before the cut-off from the batch layer, those from it on from the speed layer.
SELECT * FROM "carrier_daily_batch" WHERE __time < TIMESTAMP '2013-03-01'
UNION ALL
SELECT * FROM "carrier_daily" WHERE __time >= TIMESTAMP '2013-03-01'
