from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from policies.base import checksum, to_named
from policies.registry import prior, restore
from policies.snapshots import Identity, from_bytes, take, to_bytes
from policies.thompson import Thompson
from schemas.checks import PPB
from schemas.codec import encode
from schemas.errors import SettingsError, SnapshotRefused
from schemas.loops import LoopConfigured
from schemas.outcomes import NamedArray, PolicySnapshot

MakeConfig = Callable[..., LoopConfigured]
IDENTITY = Identity("main", 2, 5, "serving", 10, PPB // 20, "d9", 12, 1, 4)


@pytest.fixture
def config(make_config: MakeConfig) -> LoopConfigured:
    return make_config()


@pytest.fixture
def snapshot(config: LoopConfigured) -> PolicySnapshot:
    return take(prior(config), IDENTITY, config)


def signed(snapshot: PolicySnapshot, *arrays: NamedArray) -> PolicySnapshot:
    """Return a snapshot with other arrays and the checksum that fits them."""
    right = checksum(snapshot.algorithm, snapshot.actions, snapshot.features, arrays)
    return replace(snapshot, arrays=arrays, checksum=right)


def test_a_snapshot_says_who_it_is(snapshot: PolicySnapshot, config: LoopConfigured) -> None:
    assert snapshot.loop_id == config.loop_id
    assert (snapshot.config_hash, snapshot.features_hash) == ("c0", config.features_hash)
    assert (snapshot.epoch, snapshot.version, snapshot.base_epoch, snapshot.base_version) == (
        2,
        5,
        1,
        4,
    )
    assert (snapshot.learned_through_id, snapshot.learned_through_log_time_ms) == ("d9", 12)


def test_the_checksum_stays_what_it_was() -> None:
    arrays = (to_named("m", np.array([[1.0, -2.5]])),)
    assert checksum("thompson", ("a", "b"), ("x",), arrays) == "9ac195ee1a9f9c232e4de1a8b421f509"


def test_the_checksum_covers_every_part() -> None:
    array = to_named("m", np.array([[1.0, -2.5]]))
    sums = {
        checksum("thompson", ("a", "b"), ("x",), (array,)),
        checksum("uniform", ("a", "b"), ("x",), (array,)),
        checksum("thompson", ("b", "a"), ("x",), (array,)),
        checksum("thompson", ("ab",), ("x",), (array,)),
        checksum("thompson", ("a",), ("b", "x"), (array,)),
        checksum("thompson", ("a", "b"), ("y",), (array,)),
        checksum("thompson", ("a", "b"), ("x",), ()),
        checksum("thompson", ("a", "b"), ("x",), (replace(array, name="n"),)),
        checksum("thompson", ("a", "b"), ("x",), (replace(array, shape=(2, 1)),)),
        checksum("thompson", ("a", "b"), ("x",), (to_named("m", np.array([[1.0, -2.0]])),)),
    }
    assert len(sums) == 10


def test_the_checksum_does_not_cover_the_identity(
    snapshot: PolicySnapshot, config: LoopConfigured
) -> None:
    other = take(prior(config), replace(IDENTITY, epoch=3, role="shadow", floor_ppb=0), config)
    assert other.checksum == snapshot.checksum


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"checksum": "0" * 32}, "checksum"),
        ({"loop_id": "another"}, "loop"),
        ({"features_hash": "0" * 32}, "features"),
        ({"features": ("bias", "sad", "age")}, "features"),
        ({"policy_id": "another"}, "no policy"),
        ({"algorithm": "uniform"}, "not what it was"),
        ({"actions": ("hello", "welcome", "good-night")}, "checksum"),
    ],
)
def test_a_snapshot_of_something_else_is_refused(
    change: dict[str, object], reason: str, snapshot: PolicySnapshot, config: LoopConfigured
) -> None:
    with pytest.raises(SnapshotRefused, match=reason):
        restore(replace(snapshot, **change), config)  # type: ignore[arg-type]


def test_an_algorithm_this_release_does_not_know_is_refused(
    snapshot: PolicySnapshot, make_config: MakeConfig
) -> None:
    with pytest.raises(SnapshotRefused, match="no policy algorithm 'oracle'"):
        restore(replace(snapshot, algorithm="oracle"), make_config("oracle"))


def test_altered_arrays_are_refused(snapshot: PolicySnapshot, config: LoopConfigured) -> None:
    first, second = snapshot.arrays
    altered = replace(first, data=b"\x01" + first.data[1:])
    with pytest.raises(SnapshotRefused, match="hashes to"):
        restore(replace(snapshot, arrays=(altered, second)), config)


def test_arrays_that_are_no_posterior_are_refused(
    snapshot: PolicySnapshot, config: LoopConfigured
) -> None:
    precisions, moments = snapshot.arrays
    nothing = np.zeros((3, 3))
    for arrays, reason in (
        ((precisions,), "holds the arrays"),
        ((precisions, moments, moments), "holds the arrays"),
        ((precisions, replace(moments, name="means")), "holds the arrays"),
        ((precisions, to_named("moments", np.zeros((2, 3)))), "shape"),
        ((precisions, to_named("moments", np.zeros(9))), "shape"),
        ((precisions, to_named("moments", nothing + np.nan)), "not finite"),
        ((precisions, to_named("moments", nothing + np.inf)), "not finite"),
        ((to_named("precisions", np.zeros((3, 3, 3))), moments), "diagonal"),
    ):
        with pytest.raises(SnapshotRefused, match=reason):
            restore(signed(snapshot, *arrays), config)


@pytest.mark.parametrize("place", [-1.0, 3.0, 0.5])
def test_a_baseline_that_is_not_there_is_refused(place: float, make_config: MakeConfig) -> None:
    config = make_config("fixed")
    snapshot = take(prior(config), IDENTITY, config)
    with pytest.raises(SnapshotRefused, match="baseline"):
        restore(signed(snapshot, to_named("baseline", np.array([place]))), config)


def test_torn_bytes_and_other_records_are_refused(
    snapshot: PolicySnapshot, config: LoopConfigured
) -> None:
    data = to_bytes(snapshot)
    for bad in (b"", data[:-1], data + b"\x00", b"pickle"):
        with pytest.raises(SnapshotRefused):
            from_bytes(bad, config)
    with pytest.raises(SnapshotRefused, match="LoopConfigured"):
        from_bytes(encode(config), config)


def test_an_unknown_parameter_is_answered_with_those_there_are(make_config: MakeConfig) -> None:
    with pytest.raises(SettingsError, match="It knows alpha, beta, discount"):
        prior(make_config("thompson", epsilon=0.1))
    with pytest.raises(SettingsError, match="It knows none"):
        prior(make_config("uniform", alpha=1.0))
    with pytest.raises(SettingsError, match="It knows none"):
        prior(make_config("fixed", action=1.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0.0), ("beta", -1.0), ("discount", 1.01), ("discount", 0.0), ("alpha", 1e9)],
)
def test_a_parameter_outside_its_range_is_refused(
    name: str, value: float, make_config: MakeConfig
) -> None:
    with pytest.raises(SettingsError, match=f"{name} of policy 'main'"):
        prior(make_config("thompson", **{name: value}))


def test_parameters_reach_the_posterior(make_config: MakeConfig) -> None:
    policy = prior(make_config("thompson", alpha=2.0, beta=3.0, discount=0.9))
    assert isinstance(policy, Thompson)
    posterior = policy.posterior
    assert (posterior.alpha, posterior.beta, posterior.discount) == (2.0, 3.0, 0.9)
    assert posterior.precisions[1].tolist() == (2.0 * np.eye(3)).tolist()


def test_the_prior_is_that_of_the_policy_asked_for(make_config: MakeConfig) -> None:
    config = make_config("thompson")
    shadow = replace(config.policies[0], policy_id="beside", algorithm="uniform", role="shadow")
    config = replace(config, policies=(shadow, *config.policies))
    assert prior(config).algorithm == "thompson"
    assert prior(config, shadow).algorithm == "uniform"
    assert prior(config).actions == config.action_ids


@pytest.mark.parametrize("algorithm", ["oracle", "", "Thompson", "os.system"])
def test_an_unknown_algorithm_is_answered_with_those_there_are(
    algorithm: str, make_config: MakeConfig
) -> None:
    with pytest.raises(SettingsError, match="softmax, squarecb, thompson, uniform"):
        prior(make_config(algorithm))


def test_pho_alone_does_not_import_river(repository: Path) -> None:
    program = (
        "import sys, policies.registry, policies.snapshots\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'river']\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=repository, check=True)
