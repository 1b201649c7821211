"""What stands for a person's id once it must not be read any more: a keyed hash."""

from __future__ import annotations

import hashlib

from schemas.errors import InvalidRecord

KEY_SIZE = 32
"""Bytes of a key: 256 random bits, kept beside the log and never in it."""
_HASH_SIZE = 16
_FORM = b"pho id 1"


def id_hash(key: bytes, text: str) -> str:
    """Return the keyed hash of an id: of a decision, a visit or a person.

    Producers that know a person by an id of their own put this into `subject_hash`; `pho forget`
    puts it into `erasures`. Without the key nobody can try ids until one fits.

    Parameters
    ----------
    key : bytes, 32
        The secret of this installation.
    text : str
        The id.

    Returns
    -------
    str
        32 hex digits: BLAKE2b-128 with the key, personalised with ``pho id 1``, over the UTF-8.

    Raises
    ------
    InvalidRecord
        When the key has another length.

    Examples
    --------
    >>> id_hash(bytes(32), "visit-1")
    'fa6ccf44ecd0868e48da470583d51a00'
    """
    if len(key) != KEY_SIZE:
        problem = f"a key for ids has {len(key)} bytes"
        raise InvalidRecord(problem, f"It must have {KEY_SIZE}, of true chance")
    return hashlib.blake2b(
        text.encode(), digest_size=_HASH_SIZE, key=key, person=_FORM.ljust(16, b"\0")
    ).hexdigest()
