-- Grain: that of the rows. Counts that are too large to be believed are absent.
SELECT * REPLACE ($believed)
FROM ($rows)
