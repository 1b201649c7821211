-- Which greeting pleases most? The root of variance_of_mean is the mean's standard error.
SELECT action_id AS greeting,
       SUM(decisions) AS chosen,
       SUM(rewarded + defaulted) AS counted,
       ROUND(CAST(SUM(reward_sum) / NULLIF(SUM(rewarded + defaulted), 0) AS NUMERIC), 3) AS mean_reward,
       ROUND(CAST((SUM(reward_square_sum) / NULLIF(SUM(rewarded + defaulted), 0)
              - SUM(reward_sum) * SUM(reward_sum)
                / NULLIF(SUM(rewarded + defaulted) * SUM(rewarded + defaulted), 0))
             / NULLIF(SUM(rewarded + defaulted), 0) AS NUMERIC), 6) AS variance_of_mean
FROM greetings_daily
GROUP BY action_id
ORDER BY action_id
