-- Grain: one row per size class, of one account's day: operations by how many emails they have.
WITH classes AS (
    SELECT * FROM (VALUES $classes) AS classes (size_class, smallest, next_smallest)
)
SELECT
    coalesce(size_class, 'unknown') AS size_class,
    smallest,
    count(*) AS operations,
    $sums
FROM rated
LEFT JOIN classes ON total >= smallest AND total < next_smallest
GROUP BY size_class, smallest
ORDER BY smallest, size_class
