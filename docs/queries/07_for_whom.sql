-- Which greeting pleases whom: those who come in sad, neutral or happy?
SELECT CASE WHEN happiness_before < 0.33 THEN '1 sad'
            WHEN happiness_before < 0.67 THEN '2 neutral'
            ELSE '3 happy' END AS comes_in,
       action_id AS greeting,
       COUNT(*) AS counted,
       ROUND(CAST(AVG(reward) AS NUMERIC), 3) AS mean_reward
FROM outcomes
WHERE result IN ('rewarded', 'defaulted') AND happiness_before IS NOT NULL
GROUP BY CASE WHEN happiness_before < 0.33 THEN '1 sad'
              WHEN happiness_before < 0.67 THEN '2 neutral'
              ELSE '3 happy' END,
         action_id
ORDER BY 1, 2
