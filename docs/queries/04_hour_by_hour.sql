-- At which hours do people come, and when do they smile?
SELECT v.local_hour AS hour,
       COUNT(*) AS visitors,
       ROUND(CAST(AVG(o.happiness_before) AS NUMERIC), 3) AS happiness_before,
       ROUND(CAST(AVG(CASE WHEN o.result IN ('rewarded', 'defaulted') THEN o.reward END) AS NUMERIC), 3)
         AS mean_reward
FROM visits v
LEFT JOIN outcomes o ON o.decision_id = v.decision_id
WHERE v.local_hour IS NOT NULL
GROUP BY v.local_hour
ORDER BY v.local_hour
