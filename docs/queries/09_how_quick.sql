-- Is the greeting there within a second, and how long does the slowest take?
SELECT kiosk_id,
       COUNT(*) AS shown,
       ROUND(CAST(AVG(shown_after_ms) AS NUMERIC), 0) AS mean_ms,
       MAX(shown_after_ms) AS slowest_ms,
       ROUND(CAST(1.0 * SUM(CASE WHEN shown_after_ms <= 1000 THEN 1 ELSE 0 END) / COUNT(*) AS NUMERIC), 3)
         AS within_a_second
FROM outcomes
WHERE shown_after_ms IS NOT NULL
GROUP BY kiosk_id
ORDER BY kiosk_id
