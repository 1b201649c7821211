"""Recorded visitors: the same seed gives the same world, and its truth is what was promised."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from connectors.face_models import FaceFinder
from producers.cameras import Shot, Time
from producers.recorded import RecordedVisitors, Script, VisitorsCamera
from producers.stretches import EMPTY, PEOPLE, load_stretches, playing
from producers.taste import MOODS, STANDARD_TASTE, START_MS, UNKNOWN_CHANCE, Taste, draw
from producers.tracker import movement, overlap
from schemas.errors import InvalidRecord, ModelError
from schemas.features import DAYPARTS

GREETINGS = tuple(STANDARD_TASTE.chances)


def stretch_of(shot: Shot) -> str:
    for name, pictures in load_stretches(None).pictures.items():
        if any(shot.picture is picture for picture in pictures):
            return name
    raise AssertionError


def test_the_same_seed_gives_the_same_visitors_from_any_index_on(world: RecordedVisitors) -> None:
    again = RecordedVisitors(seed=7, visits=60)
    assert [visitor.truth for visitor in again.visitors(35)] == [
        world.truth(index) for index in range(35, 60)
    ]
    other = RecordedVisitors(seed=8, visits=60)
    assert [world.truth(i).mood for i in range(60)] != [other.truth(i).mood for i in range(60)]


def test_a_reaction_does_not_depend_on_what_was_asked_before(world: RecordedVisitors) -> None:
    forward = [[world.visitor(i).smiles_after(a) for a in GREETINGS] for i in range(60)]
    again = RecordedVisitors(seed=7, visits=60)
    backward = [
        [again.visitor(i).smiles_after(a) for a in reversed(GREETINGS)][::-1]
        for i in reversed(range(60))
    ]
    assert forward == backward[::-1]


def test_reactions_come_as_often_as_the_taste_says() -> None:
    world = RecordedVisitors(seed=3, visits=6_000)
    smiles: Counter[tuple[str, str, str]] = Counter()
    asked: Counter[tuple[str, str, str]] = Counter()
    for visitor in world.visitors():
        for action_id in (*GREETINGS, "never heard of"):
            cell = (visitor.truth.mood, visitor.truth.part, action_id)
            asked[cell] += 1
            smiles[cell] += visitor.smiles_after(action_id)
    assert len(asked) == 6 * 9
    for (mood, part, action_id), count in asked.items():
        chance = STANDARD_TASTE.chance(mood, part, action_id)  # type: ignore[arg-type]
        share = smiles[mood, part, action_id] / count
        assert share == pytest.approx(chance, abs=4.5 * (chance * (1 - chance) / count) ** 0.5)


def test_one_visitor_reacts_to_each_greeting_on_its_own() -> None:
    world = RecordedVisitors(seed=3, visits=200)
    likes_the_unlikely = sum(
        visitor.smiles_after("formal") and not visitor.smiles_after("welcome")
        for visitor in world.visitors()
    )
    # P(formal) (1 - P(welcome)) = 0.14 of 200; 0 if one draw stood for both.
    assert 10 < likes_the_unlikely < 50


def test_the_standard_taste_has_a_mediocre_baseline_and_a_clear_best_in_each_cell() -> None:
    best = set()
    for mood in MOODS:
        for part in DAYPARTS:
            chances = {a: STANDARD_TASTE.chance(mood, part, a) for a in GREETINGS}
            assert chances.pop("welcome") == 0.35
            good = [a for a, chance in chances.items() if chance >= 0.8]
            assert len(good) in (1, 2)
            assert max(chances.values()) == 0.85
            assert all(0.15 <= chance <= 0.30 for a, chance in chances.items() if a not in good)
            best.add(STANDARD_TASTE.best(mood, part))
    assert len(best) >= 5, "no greeting is best everywhere"
    assert STANDARD_TASTE.chance("rest", "morning", "never heard of") == UNKNOWN_CHANCE


def test_sessions_of_twenty_fill_the_parts_of_ten_days() -> None:
    world = RecordedVisitors(seed=1, visits=600)
    truths = [world.truth(index) for index in range(600)]
    starts = [truth.start_ms for truth in truths]
    assert starts[0] == START_MS + 9 * 3_600_000
    assert all(later - start >= world.script.longest_ms for start, later in pairwise(starts))
    assert (starts[-1] - START_MS) // 86_400_000 == 9
    assert [truth.part for truth in truths[::20]] == list(DAYPARTS) * 10
    assert Counter(truth.part for truth in truths) == dict.fromkeys(DAYPARTS, 200)
    assert 250 < sum(truth.mood == "rest" for truth in truths) < 350
    assert 250 < sum(truth.person == PEOPLE[0] for truth in truths) < 350


def test_a_visit_follows_the_script(world: RecordedVisitors) -> None:
    visitor = world.visitor(4)
    truth = visitor.truth
    greeting = next(a for a in GREETINGS if visitor.smiles_after(a) != (truth.mood == "smile"))
    other = next(a for a in GREETINGS if visitor.smiles_after(a) == (truth.mood == "smile"))
    seen = []
    for shot in visitor.shots():
        seen.append((shot.at_ms - truth.start_ms, stretch_of(shot)))
        if shot.at_ms - truth.start_ms == 1_500:
            visitor.react(greeting, shot.at_ms)
            visitor.react(other, shot.at_ms)  # a second greeting changes nothing
    after = "rest" if truth.mood == "smile" else "smile"
    assert [at_ms for at_ms, _ in seen] == list(range(0, 7_500, 500))
    assert [name for _, name in seen] == (
        [EMPTY] * 2
        + [playing(truth.person, truth.mood)] * 3
        + [playing(truth.person, after)] * 6  # type: ignore[arg-type]
        + [EMPTY] * 4
    )


def test_who_is_not_greeted_goes_and_does_not_react_any_more(world: RecordedVisitors) -> None:
    visitor = world.visitor(5)
    names = []
    for shot in visitor.shots():
        names.append(stretch_of(shot))
        if shot.at_ms >= visitor.truth.start_ms + 4_000:
            visitor.react("welcome", shot.at_ms)
    there = playing(visitor.truth.person, visitor.truth.mood)
    assert names == [EMPTY] * 2 + [there] * 6 + [EMPTY] * 4


def test_a_face_does_not_jump_between_two_shots() -> None:
    finder, stretches = FaceFinder("short_range"), load_stretches(None)
    for person in PEOPLE:
        boxes = []
        for mood in MOODS:
            for step in range(2 * len(stretches.pictures[playing(person, mood)])):
                ((box, _),) = finder.find(stretches.picture(playing(person, mood), step))
                boxes.append(box)
        assert all(movement(*pair) < 0.25 for pair in pairwise(boxes))
        assert all(overlap(one, other) > 0.3 for one in boxes for other in boxes)


def test_the_stretches_fit_into_memory_and_cannot_be_painted_over() -> None:
    stretches = load_stretches(None)
    assert stretches is load_stretches(None)
    assert stretches.byte_count < 30_000_000
    with pytest.raises(ValueError, match="read-only"):
        stretches.picture(EMPTY, 0)[0, 0] = 0


def test_the_empty_scene_is_empty() -> None:
    finder = FaceFinder("short_range")
    assert all(finder.find(picture) == () for picture in load_stretches(None).pictures[EMPTY])


def test_missing_recordings_say_how_to_get_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ModelError, match="pho doctor --fetch"):
        RecordedVisitors(1, 1, cache=tmp_path_factory.mktemp("nothing"))


def test_impossible_worlds_are_refused(world: RecordedVisitors) -> None:
    with pytest.raises(InvalidRecord):
        RecordedVisitors(2**63, 1)
    with pytest.raises(InvalidRecord):
        RecordedVisitors(1, -1)
    with pytest.raises(InvalidRecord):
        RecordedVisitors(1, 1, script=Script(patience_ms=800_000))
    with pytest.raises(InvalidRecord):
        world.truth(-1)
    with pytest.raises(InvalidRecord, match="5 chances"):
        Taste({"welcome": (0.5,) * 5})
    with pytest.raises(InvalidRecord):
        Taste({"welcome": (0.5,) * 5 + (1.1,)})


def test_draws_are_even_and_keyed_by_seed_and_names() -> None:
    draws = [draw(-5, "reaction", index, "joke") for index in range(4_000)]
    assert 0.0 <= min(draws) < 0.01
    assert 0.99 < max(draws) < 1.0
    assert float(np.mean(draws)) == pytest.approx(0.5, abs=0.02)
    assert len(set(draws)) == 4_000
    assert draw(1, "a", 12) != draw(1, "a1", 2)
    assert draw(1, "a") != draw(2, "a")


def test_the_live_camera_of_visitors_keeps_to_the_clock_and_reacts(
    world: RecordedVisitors,
) -> None:
    now_ms = START_MS + 20 * 3_600_000.0

    def sleep(seconds: float) -> None:
        nonlocal now_ms
        now_ms += seconds * 1_000

    camera = VisitorsCamera(world, Time(lambda: round(now_ms), sleep))
    camera.react("nobody is there yet", 0)
    times, names = [], []
    for shot in camera.shots():
        assert shot.at_ms <= now_ms
        times.append(shot.at_ms)
        names.append(stretch_of(shot))
        if len(times) == 4:
            camera.react("joke", shot.at_ms)
        if len(times) == 30:
            camera.close()
    assert len(times) == 30
    assert {later - at_ms for at_ms, later in pairwise(times)} <= {0, 500}
    first = world.visitor(0, START_MS + 20 * 3_600_000)
    assert first.truth.part == "evening"
    after = "smile" if first.smiles_after("joke") else "rest"
    assert names[5:11] == [playing(first.truth.person, after)] * 6  # type: ignore[arg-type]
