"""What every policy is: an immutable value that turns contexts into probabilities and learns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.decisions import Features
from schemas.errors import PolicyError, SnapshotRefused
from schemas.outcomes import NamedArray, OutcomeClosed

Vector: TypeAlias = NDArray[np.float64]
Eligibility: TypeAlias = Sequence[Sequence[bool]] | NDArray[np.bool_]
"""For each of many contexts, which actions may be chosen; shape (n_contexts, n_actions)."""

FEATURE_LIMIT = 1e4
"""Larger features count as this. At 1e8, one context would drown the prior in rounding: its
square times the noise precision, 4e16, is above the 2**53 that a float holds beside the 1."""

_LENGTH_SIZE = 4
_CHECKSUM_SIZE = 16
_FORM = b"pho policy 1"


class Policy(Protocol):
    """How contexts become probabilities of actions; learning gives a new one.

    A policy is a value: nothing changes it, so two callers may hold the same one, and a step that
    is run twice from it gives the same twice.
    """

    @property
    def algorithm(self) -> str:
        """Name under which the registry knows it."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """Ids of the actions, in the order of the probabilities."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the order of the dense context."""
        ...

    @property
    def support(self) -> Literal["full", "degenerate"]:
        """``full``: to be mixed with the exploration floor; ``degenerate``: one action, always."""
        ...

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return the probability of each action in a context.

        Parameters
        ----------
        context : Features
            Dense, or sparse with indices below ``len(features)``.
        eligible : sequence of bool, shape (n_actions,)
            False: excluded; at least one must be eligible.

        Returns
        -------
        ndarray of float64, shape (n_actions,)
            Adds up to 1; exactly 0 where not eligible.

        Raises
        ------
        PolicyError
            When context or eligibility do not fit, or nothing is eligible.
        """
        ...

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the probabilities in many contexts, with the very bytes of one by one.

        Parameters
        ----------
        contexts : sequence of Features, shape (n_contexts,)
            As for `probabilities`.
        eligible : sequence of sequence of bool, shape (n_contexts, n_actions)
            For each context, as for `probabilities`.

        Returns
        -------
        ndarray of float64, shape (n_contexts, n_actions)

        Raises
        ------
        PolicyError
            When one context or its eligibility does not fit.
        """
        ...

    def learn(self, outcome: OutcomeClosed) -> Policy:
        """Return the policy that has also learned from an outcome; this one stays as it is.

        Whether an outcome may be learned (`learnable`, the right epoch) is the caller's to check.
        An outcome that teaches nothing (precision 0, an action this policy does not have) gives
        the very same object, so ``new is old`` says that the version stays.

        Raises
        ------
        PolicyError
            When its context does not fit.
        """
        ...

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> Policy:
        """Return the policy that has learned outcomes in their order, with the bytes of one by one.

        Raises
        ------
        PolicyError
            When the context of one that teaches does not fit; then none of them is learned.
        """
        ...

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return everything it knows, as arrays."""
        ...

    def with_actions(self, actions: Sequence[str]) -> Self:
        """Return the policy for other actions: what stays keeps what was learned of it.

        Parameters
        ----------
        actions : sequence of str
            Ids in their new order; new ones start from the prior.
        """
        ...


def dense(context: Features, n_features: int) -> Vector:
    """Return a context as a vector that can do no harm.

    Parameters
    ----------
    context : Features
        Dense, or sparse: then all others are 0.
    n_features : int
        Length of the vector.

    Returns
    -------
    ndarray of float64, shape (n_features,)
        Within ±`FEATURE_LIMIT`; not-a-number counts as 0, as what an analyser did not tell.

    Raises
    ------
    PolicyError
        When the lengths differ, or an index lies outside.
    """
    if context.indices:
        first, last = context.indices[0], context.indices[-1]
        if first < 0 or last >= n_features or len(context.indices) != len(context.values):
            problem = f"a sparse context of {len(context.values)} values reaches to {last}"
            raise PolicyError(problem, f"This policy knows {n_features} features")
        vector = np.zeros(n_features)
        vector[list(context.indices)] = context.values
    else:
        vector = np.array(context.dense, dtype=np.float64)
    if vector.shape != (n_features,):
        problem = f"a context has {vector.size} features"
        raise PolicyError(problem, f"This policy knows {n_features}; rank with its configuration")
    return _harmless(vector)


def dense_many(contexts: Sequence[Features], n_features: int) -> Vector:
    """Return contexts as the rows of a matrix, each as `dense` makes it.

    Returns
    -------
    ndarray of float64, shape (n_contexts, n_features)

    Raises
    ------
    PolicyError
        When one does not fit.
    """
    if all(len(context.dense) == n_features and not context.indices for context in contexts):
        rows = np.array([context.dense for context in contexts], dtype=np.float64)
        return _harmless(rows.reshape(len(contexts), n_features))
    return np.stack([dense(context, n_features) for context in contexts])


def _harmless(values: Vector) -> Vector:
    if values.size and not np.abs(values).max() <= FEATURE_LIMIT:
        return np.where(np.isnan(values), 0.0, values).clip(-FEATURE_LIMIT, FEATURE_LIMIT)
    return values


def eligible_places(eligible: Sequence[bool], n_actions: int) -> list[int]:
    """Return the places of the eligible actions, rising.

    Raises
    ------
    PolicyError
        When the length is not the number of actions, or nothing is eligible.
    """
    places = [place for place, may in enumerate(eligible) if may]
    if not places or len(eligible) != n_actions:
        problem = f"{len(places)} of {len(eligible)} actions are eligible"
        raise PolicyError(problem, f"This policy knows {n_actions}; at least one must be eligible")
    return places


def eligible_groups(
    eligible: Eligibility, n_contexts: int, n_actions: int
) -> list[tuple[NDArray[np.intp], list[int]]]:
    """Return the contexts that have the same eligible actions, with the places of those.

    Raises
    ------
    PolicyError
        When the shape is another one, or nothing is eligible somewhere.
    """
    listed = eligible.tolist() if isinstance(eligible, np.ndarray) else eligible
    patterns = [tuple(row) for row in listed]
    if len(patterns) != n_contexts:
        problem = f"{n_contexts} contexts come with the eligibility of {len(patterns)}"
        raise PolicyError(problem, "Give one row of booleans for each context")
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, pattern in enumerate(patterns):
        groups.setdefault(pattern, []).append(place)
    return [
        (np.array(members), eligible_places(pattern, n_actions))
        for pattern, members in groups.items()
    ]


def one_by_one(policy: Policy, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
    """Return what `probabilities_many` says, for a policy that has no faster way."""
    if len(contexts) != len(eligible):
        problem = f"{len(contexts)} contexts come with the eligibility of {len(eligible)}"
        raise PolicyError(problem, "Give one row of booleans for each context")
    result = np.zeros((len(contexts), len(policy.actions)))
    listed = eligible.tolist() if isinstance(eligible, np.ndarray) else eligible
    for row, (context, may) in enumerate(zip(contexts, listed, strict=True)):
        result[row] = policy.probabilities(context, may)
    return result


def frozen(array: Vector) -> Vector:
    """Return an array after making it read-only."""
    array.flags.writeable = False
    return array


def to_named(name: str, array: Vector) -> NamedArray:
    """Return an array of float64 as bytes that any machine reads alike."""
    data = np.ascontiguousarray(array, dtype="<f8").tobytes()
    return NamedArray(name=name, shape=array.shape, data=data)


def from_named(
    arrays: Sequence[NamedArray], shapes: Mapping[str, tuple[int | None, ...]]
) -> dict[str, Vector]:
    """Read the arrays of a snapshot; they cannot be written to.

    Parameters
    ----------
    arrays : sequence of NamedArray
        As they came.
    shapes : mapping of name to shape
        What must be there, and nothing else; None stands for any extent.

    Returns
    -------
    dict of name to ndarray of float64

    Raises
    ------
    SnapshotRefused
        When a name is missing, unknown or there twice, a shape differs, or a number is not finite.
    """
    names = [array.name for array in arrays]
    if sorted(names) != sorted(shapes):
        problem = f"a snapshot holds the arrays {names}"
        raise SnapshotRefused(problem, f"It must hold {sorted(shapes)}")
    result = {}
    for array in arrays:
        wanted = shapes[array.name]
        fits = len(array.shape) == len(wanted) and all(
            want is None or want == extent for want, extent in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            problem = f"array {array.name!r} of a snapshot has the shape {array.shape}"
            raise SnapshotRefused(problem, f"It must have {wanted}")
        values = np.frombuffer(array.data, dtype="<f8").reshape(array.shape)
        if not np.isfinite(values).all():
            problem = f"array {array.name!r} of a snapshot holds a number that is not finite"
            raise SnapshotRefused(problem, "Take an earlier snapshot, or replay the outcomes")
        result[array.name] = values
    return result


def checksum(
    algorithm: str,
    actions: Sequence[str],
    features: Sequence[str],
    arrays: Sequence[NamedArray],
) -> str:
    """Return the hash of a policy's bytes.

    Returns
    -------
    str
        32 hex digits: BLAKE2b-128 over ``pho policy 1``, algorithm, actions, features and arrays.
        Each text is UTF-8 after its length, each list follows its length, each array is its name,
        its shape as a list, its data after their length; lengths and extents are 4 bytes,
        big-endian.
    """
    parts = [_FORM, _text(algorithm)]
    for names in (actions, features):
        parts.append(_number(len(names)))
        parts.extend(_text(name) for name in names)
    parts.append(_number(len(arrays)))
    for array in arrays:
        parts.append(_text(array.name))
        parts.append(_number(len(array.shape)))
        parts.extend(_number(extent) for extent in array.shape)
        parts.append(_number(len(array.data)))
        parts.append(array.data)
    return hashlib.blake2b(b"".join(parts), digest_size=_CHECKSUM_SIZE).hexdigest()


def checksum_of(policy: Policy) -> str:
    """Return the `checksum` of a policy as it is."""
    return checksum(policy.algorithm, policy.actions, policy.features, policy.snapshot_arrays())


def _number(value: int) -> bytes:
    return value.to_bytes(_LENGTH_SIZE, "big")


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return _number(len(data)) + data
