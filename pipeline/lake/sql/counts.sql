-- Grain: one row: how many operations scans saw, and how many states have news.
SELECT
    (SELECT count(DISTINCT operation_id) FROM seen) AS seen,
    (SELECT count(*) FROM all_news) AS news
