-- Where do visitors get lost on the way from the door to the smile?
SELECT (SELECT COUNT(*) FROM visits) AS visitors,
       (SELECT COUNT(*) FROM visits WHERE answer = 'ok') AS seen,
       (SELECT COUNT(*) FROM decisions) AS decided,
       (SELECT COUNT(*) FROM outcomes WHERE shown_at IS NOT NULL) AS shown,
       (SELECT COUNT(*) FROM outcomes WHERE happiness_after IS NOT NULL) AS reaction_seen,
       (SELECT COUNT(*) FROM outcomes WHERE happiness_after > happiness_before) AS happier
