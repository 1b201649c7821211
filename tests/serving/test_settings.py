"""Settings: the file, then the environment, then flags; what cannot be is refused by its name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.topology import PICTURE_TTL_MS
from schemas.errors import SettingsError
from serving.settings import FILE_NAME, Settings, defaults_text, load


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def made(
    text: str = "", environment: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> Settings:
    """Load settings from a file of this text."""
    Path(FILE_NAME).write_text(text, encoding="utf-8")
    return load(None, flags, environment or {})


def test_the_shipped_file_is_whole_and_the_default() -> None:
    assert load(None, None, {}) == made(defaults_text())
    assert tomllib.loads(defaults_text())["kiosk"]["notice"] == "none"


def test_the_shipped_loop_has_eight_greetings_in_three_languages() -> None:
    loop = load(None, None, {}).loop("greeting")
    assert len(loop.actions) == 8
    for action in loop.actions:
        assert [wording.language for wording in action.wordings] == ["en", "de", "es"]
    assert loop.control_share_ppb == 50_000_000
    assert loop.floor_ppb == 80_000_000


def test_the_file_is_overridden_by_the_environment_and_that_by_flags() -> None:
    text = '[kiosk]\nid = "file"\nnotice = "page"\nlanguage = "de"\n'
    environment = {"PHO_KIOSK__ID": "variable", "PHO_KIOSK__NOTICE": "posted"}
    kiosk = made(text, environment, {"kiosk.id": "flag", "kiosk.notice": None}).kiosk
    assert (kiosk.id, kiosk.notice, kiosk.language) == ("flag", "posted", "de")


def test_a_named_file_is_read_instead_of_the_one_here(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('[kiosk]\nid = "here"\n')
    (tmp_path / "other.toml").write_text('[kiosk]\nid = "other"\n')
    assert load(tmp_path / "other.toml", None, {}).kiosk.id == "other"


def test_numbers_lists_and_words_come_through_the_environment() -> None:
    environment = {
        "PHO_TRACKER__POST_DELAYS_MS": "[1000, 2500]",
        "PHO_LOOPS__GREETING__RULES__REWARD_WINDOW_MS": "4000",
        "PHO_LOOPS__GREETING__FLOOR": "0.2",
        "PHO_DATA": "shop",
        "HOME": "/elsewhere",
    }
    settings = load(None, None, environment)
    assert settings.tracker.post_delays_ms == (1_000, 2_500)
    assert settings.loop("greeting").rules.reward_window_ms == 4_000
    assert settings.loop("greeting").floor_ppb == 200_000_000
    assert settings.data == Path("shop")


def test_what_stands_outside_the_file_is_read_from_the_environment_alone() -> None:
    settings = load(None, None, {"PHO_CACHE": "models", "PHO_CRASH_AT": "append:3"})
    assert (settings.cache, settings.crash_at) == (Path("models"), "append:3")


def test_actions_of_the_file_replace_the_shipped_ones_whole() -> None:
    action = '[[loops.greeting.actions]]\nid = "{}"\ntext = {{ en = "Hello" }}\n'
    text = '[loops.greeting]\nbaseline = "a"\n' + action.format("a") + action.format("b")
    assert made(text).loop("greeting").action_ids == ("a", "b")


def test_a_changed_setting_of_a_loop_changes_its_hash() -> None:
    hashes = {
        made(text).loop("greeting").config_hash
        for text in ("", "[loops.greeting]\nfloor = 0.1\n", "[loops.greeting]\nseed = 2\n")
    }
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[kiosk]\nnotise = 'posted'\n", "notise"),
        ("[kiosk]\nnotice = 'everywhere'\n", "everywhere"),
        ("[camera]\nshots_per_second = 'four'\n", "shots_per_second"),
        ("[camera]\nshots_per_second = 0.0\n", "camera.shots_per_second"),
        ("[camera]\nshots_per_second = nan\n", "camera.shots_per_second"),
        ("[analysis]\nconcurrency = 0\n", "analysis.concurrency"),
        ("[analysis]\ntries = 11\n", "analysis.tries"),
        (f"[analysis]\ntime_limit_ms = {PICTURE_TTL_MS + 1}\n", "analysis.time_limit_ms"),
        ("[log]\nsynchronous = 'OFF'\n", "synchronous"),
        ("[loops.greeting]\ncontrol_share = 1.1\n", "loops.greeting.control_share"),
        ("[loops.greeting]\nfloor = -0.1\n", "loops.greeting.floor"),
        ("[loops.greeting]\nbaseline = 'nobody'\n", "nobody"),
        ("[loops.greeting]\nfeatures = ['bias', 'wings']\n", "wings"),
        ("[loops.greeting.policy]\nalgorithm = 'magic'\n", "magic"),
        ("[loops.greeting.rules]\nreward_window_ms = 0\n", "reward_window_ms"),
        ("[loops.greeting.rules]\ndedup_horizon_ms = 63999\n", "dedup_horizon_ms"),
        ("[loops.greeting.rules]\nreward_window_ms = 2999\n", "tracker.post_delays_ms"),
        ("[loops.second]\nbaseline = 'a'\n", "default_language"),
        ("[tracker]\npost_delays_ms = [3000, 1500]\n", "post_delays_ms"),
        ("[tracker]\nmin_face_height = 1.5\n", "min_face_height"),
        ("[kiosk]\nid = ''\n", "kiosk.id"),
        ("[kiosk]\nloop = 'other'\n", "other"),
        ("[kiosk]\nutc_offset_minutes = 2000\n", "utc_offset_minutes"),
        ("[kiosk\n", FILE_NAME),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        made(text)
    assert refused.value.cure
    assert refused.value.exit_status == 2


@pytest.mark.parametrize("name", ["PHO_KIOSK__COLOUR", "PHO_NOTICE", "PHO_KIOSK__ID__X"])
def test_a_variable_that_names_no_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        load(None, None, {name: "x"})


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.toml", None, {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not TOML"):
        load(tmp_path / "bytes.toml", None, {})


def test_a_loop_that_is_not_configured_is_told_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match="greeting"):
        load(None, None, {}).loop("farewell")


def test_a_guest_without_exploration_is_refused() -> None:
    guest = "loops.greeting.policy.algorithm = 'river:linear_model.BayesianLinearRegression'\n"
    with pytest.raises(SettingsError, match="floor = 0"):
        made("loops.greeting.floor = 0.0\n" + guest)
    assert made(guest).loops[0].serving.algorithm.startswith("river:")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("delivery_timeout_ms = 0", "delivery_timeout_ms"),
        ("partitions = 0", "partitions"),
        ("partitions = 1.5", "partitions"),
        ("replication = 10", "replication"),
        ("retention_days = 0", "retention_days"),
        ('client = "java"', "client"),
        ('protocol = "TLS"', "protocol"),
        ('mechanism = "MD5"', "mechanism"),
        ('protocol = "SASL_SSL"', "mechanism"),
        ('mechanism = "PLAIN"', "without SASL"),
        ('protocol = "SASL_SSL"\nmechanism = "PLAIN"\nusername = "me"', "PHO_KAFKA__PASSWORD"),
        ('certificate_file = "me.pem"', "key_file"),
        ('key_file = "me.pem"', "certificate_file"),
        ("brokers = 3", "brokers"),
    ],
)
def test_a_kafka_that_cannot_be_is_refused_by_its_setting(lines: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        made(f"[kafka]\n{lines}\n")


def test_a_password_is_taken_as_it_stands_and_not_shown() -> None:
    for text in ("12345", '"quoted"', "true", "p=w"):
        settings = made("", {"PHO_KAFKA__PASSWORD": text, "PHO_KAFKA__REGISTRY_PASSWORD": text})
        assert settings.kafka.password == text
        assert settings.kafka.registry_password == text
        assert text not in repr(settings.kafka)
    flags = {"log.address": "kafka://host/shop"}
    assert made("", {"PHO_LOG__ADDRESS": "kafka://other"}, flags).log.address == "kafka://host/shop"


SHADOW = '[[loops.greeting.shadows]]\nid = "quick"\nalgorithm = "thompson"\n'


def test_policies_in_shadow_stand_beside_the_one_that_serves(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SHADOW + "parameters = { discount = 0.995 }\n", encoding="utf-8")
    config = load(path, {}, {}).loop("greeting")
    assert [(p.policy_id, p.role) for p in config.policies] == [
        ("main", "serving"),
        ("quick", "shadow"),
    ]
    assert [(p.name, p.value) for p in config.policies[1].parameters] == [("discount", 0.995)]
    assert config.config_hash != load(None, {}, {}).loop("greeting").config_hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SHADOW.replace("quick", "main"), "id of its own"),
        (SHADOW.replace("thompson", "magic"), "no policy algorithm"),
        (SHADOW + "parameters = { discount = 7.0 }", "discount"),
        (SHADOW.replace("thompson", "river:linear_model.BayesianLinearRegression")
         + "[loops.greeting]\nfloor = 0.0", "floor"),
        (SHADOW + 'role = "serving"', "role"),
    ],
)  # fmt: skip
def test_a_shadow_that_cannot_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        load(path, {}, {})


def test_the_shipped_numbers_are_the_shipped_algorithms_alone(tmp_path: Path) -> None:
    def numbers(text: str) -> dict[str, float]:
        file = tmp_path / "pho.toml"
        file.write_text(text, encoding="utf-8")
        policy = load(file, environment={}).loops[0].serving
        return {each.name: each.value for each in policy.parameters}

    table = "[loops.greeting.policy]\n"
    own = "[loops.greeting.policy.parameters]\n"
    assert numbers("") == {"beta": 16.0}
    assert numbers(own + "discount = 0.9\n") == {"beta": 16.0, "discount": 0.9}
    assert numbers(own + "beta = 4.0\n") == {"beta": 4.0}
    assert numbers(table + 'algorithm = "uniform"\n') == {}
    assert numbers(table + 'algorithm = "squarecb"\n' + own + "beta = 2.0\n") == {"beta": 2.0}
