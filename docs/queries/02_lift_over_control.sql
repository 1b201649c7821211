-- Is what was learned better than always saying the same? (A sad visitor gets happier with no
-- greeting at all: only the difference to the control share tells.)
SELECT loop_id,
       SUM(CASE WHEN control THEN 0 ELSE rewarded + defaulted END) AS learned_counted,
       SUM(CASE WHEN control THEN rewarded + defaulted ELSE 0 END) AS control_counted,
       ROUND(CAST(SUM(CASE WHEN control THEN 0 ELSE reward_sum END)
             / NULLIF(SUM(CASE WHEN control THEN 0 ELSE rewarded + defaulted END), 0) AS NUMERIC), 3)
         AS learned_mean,
       ROUND(CAST(SUM(CASE WHEN control THEN reward_sum ELSE 0 END)
             / NULLIF(SUM(CASE WHEN control THEN rewarded + defaulted ELSE 0 END), 0) AS NUMERIC), 3)
         AS control_mean,
       ROUND(CAST(SUM(CASE WHEN control THEN 0 ELSE reward_sum END)
             / NULLIF(SUM(CASE WHEN control THEN 0 ELSE rewarded + defaulted END), 0)
             - SUM(CASE WHEN control THEN reward_sum ELSE 0 END)
             / NULLIF(SUM(CASE WHEN control THEN rewarded + defaulted ELSE 0 END), 0) AS NUMERIC), 3)
         AS lift
FROM greetings_daily
GROUP BY loop_id
ORDER BY loop_id
