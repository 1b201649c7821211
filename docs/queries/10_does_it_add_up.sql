-- Why did decisions earn nothing? With those still open this adds up to all decisions.
SELECT COALESCE(o.result, 'open') AS result,
       COALESCE(o.result_reason, 'not closed yet') AS reason,
       COUNT(*) AS decisions,
       ROUND(CAST(1.0 * COUNT(*) / (SELECT COUNT(*) FROM decisions) AS NUMERIC), 3) AS share
FROM decisions d
LEFT JOIN outcomes o ON o.decision_id = d.decision_id
GROUP BY COALESCE(o.result, 'open'), COALESCE(o.result_reason, 'not closed yet')
ORDER BY 1, 2
