-- Which kiosk works, and which one fails?
SELECT v.kiosk_id,
       COUNT(*) AS visitors,
       SUM(CASE WHEN v.answer = 'refused' THEN 1 ELSE 0 END) AS without_notice,
       SUM(CASE WHEN v.answer IN ('failed', 'expired') THEN 1 ELSE 0 END) AS not_analysed,
       SUM(CASE WHEN v.answer = 'no_face' THEN 1 ELSE 0 END) AS no_face,
       COUNT(o.shown_at) AS shown,
       ROUND(CAST(AVG(v.duration_ms) / 1000.0 AS NUMERIC), 1) AS mean_stay_s
FROM visits v
LEFT JOIN outcomes o ON o.decision_id = v.decision_id
GROUP BY v.kiosk_id
ORDER BY v.kiosk_id
