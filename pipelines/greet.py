"""greet: from a decision to what its kiosk shows. A repeated decision is not shown twice."""

from __future__ import annotations

from pipelines.operators import Emit, Record, Shared, Step
from pipelines.remembered import Remembered, RemembersKeys
from schemas.compiled import quick
from schemas.decisions import DecisionMade, GreetingIssued

_new_greeting = quick(GreetingIssued)


class Greet(RemembersKeys):
    """Write `greetings` from what the decision carries."""

    def on_event(
        self, state: Remembered | None, record: Record, shared: Shared
    ) -> Step[Remembered]:
        """Issue the greeting of a decision seen for the first time."""
        if state is not None:
            return state.step()
        decision: DecisionMade = record.value
        choice, rules = decision.choice, decision.rules
        remember_until_ms = choice.decided_at_ms + rules.dedup_horizon_ms
        # Older than the horizon: it may be a repeat of one long forgotten. The join says `late`.
        if record.log_time_ms > remember_until_ms:
            return Step(None)
        if choice.kiosk_id is None or choice.visit_id is None:
            return Step(None)
        greeting = _new_greeting(
            decision_id=choice.decision_id,
            visit_id=choice.visit_id,
            loop_id=choice.loop_id,
            kiosk_id=choice.kiosk_id,
            action_id=choice.action_id,
            text=decision.presentation.text,
            language=decision.presentation.language,
            voice=decision.presentation.voice,
            mood=decision.presentation.mood,
            decided_at_ms=choice.decided_at_ms,
            expires_at_ms=choice.decided_at_ms + rules.reward_window_ms,
        )
        remembered = Remembered(remember_until_ms)
        return Step(remembered, (Emit(greeting, "greetings"),), remembered.until_ms)
