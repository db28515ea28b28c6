-- Grain: that of the rows. Implausibly large counts are NULL.
SELECT * REPLACE ($believed)
FROM ($rows)
