-- How many came each day, by the shop's own clock, how many were greeted, and what came of it?
SELECT v.local_day AS shop_day,
       COUNT(*) AS visitors,
       COUNT(d.decision_id) AS greeted,
       SUM(CASE WHEN o.result = 'rewarded' THEN 1 ELSE 0 END) AS rewarded,
       ROUND(CAST(AVG(CASE WHEN o.result IN ('rewarded', 'defaulted') THEN o.reward END) AS NUMERIC), 3)
         AS mean_reward
FROM visits v
LEFT JOIN decisions d ON d.decision_id = v.decision_id
LEFT JOIN outcomes o ON o.decision_id = v.decision_id
GROUP BY v.local_day
ORDER BY v.local_day
