-- What did each policy learn, day by day, and what did it earn meanwhile?
SELECT policy_id, epoch, day, role, first_version, last_version, learned, directives, last_directive,
       ROUND(CAST(reward_mean AS NUMERIC), 3) AS mean_reward
FROM policy_history
ORDER BY policy_id, epoch, day
