-- Grain: one row per size class, of one account's day: operations by how many emails they have.
SELECT
    CASE $names ELSE 'unknown' END AS size_class,
    smallest,
    $sums
FROM counted
GROUP BY smallest
ORDER BY smallest
