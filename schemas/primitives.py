"""Avro's numbers and strings as bytes: what every record is made of, so the fastest way we know."""

from __future__ import annotations

_TEXTS_MAX = 4_096


def varint(value: int) -> bytes:
    """Encode a long as Avro does: zigzag, then seven bits a byte, lowest first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_PAIR = 1 << 14
_ENDS = [bytes((low,)) for low in range(128)]
_GOES_ON = [bytes((low | 128,)) for low in range(128)]
# Two of a long's bytes at a time: 0.2 us for a probability or a time, 0.6 us byte by byte. The
# tables are joined from single bytes, which costs a start 5 ms; made from numbers, 40.
_LAST = (*_ENDS, *(low + high for high in _ENDS[1:] for low in _GOES_ON))
_MORE = tuple(low + high for high in _GOES_ON for low in _GOES_ON)


def number(value: int) -> bytes:
    """Encode a long as `varint` does, from tables where it has up to six bytes."""
    rest = value << 1
    if rest < 0 or rest >= 1 << 42:
        return varint(value)
    if rest < _PAIR:
        return _LAST[rest]
    if rest < 1 << 28:
        return _MORE[rest & 16_383] + _LAST[rest >> 14]
    return _MORE[rest & 16_383] + _MORE[rest >> 14 & 16_383] + _LAST[rest >> 28]


def text(value: str) -> bytes:
    """Encode a string: its length, then its UTF-8."""
    data = value.encode()
    return number(len(data)) + data


class Texts(dict[str, bytes]):
    """Strings that come again and again, encoded: 40 ns where encoding anew takes 300."""

    def __missing__(self, value: str) -> bytes:
        if len(self) >= _TEXTS_MAX:
            self.clear()
        data = self[value] = text(value)
        return data


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Decode a long; return it and where it ends.

    Raises
    ------
    IndexError
        When the bytes end early.
    ValueError
        When it does not end, or has a byte more than it needs: fastavro takes that, but what we
        read here is kept to be written again, and must be what we would have written.
    """
    # Unrolled for the sizes that occur: probabilities have up to five bytes, times six.
    byte = data[at]
    if byte < 128:
        return (byte >> 1) ^ -(byte & 1), at + 1
    sign = -(byte & 1)
    result = (byte & 127) >> 1
    byte = data[at + 1]
    if byte < 128:
        return (result | (byte or _late()) << 6) ^ sign, at + 2
    result |= (byte & 127) << 6
    byte = data[at + 2]
    if byte < 128:
        return (result | (byte or _late()) << 13) ^ sign, at + 3
    result |= (byte & 127) << 13
    byte = data[at + 3]
    if byte < 128:
        return (result | (byte or _late()) << 20) ^ sign, at + 4
    result |= (byte & 127) << 20
    byte = data[at + 4]
    if byte < 128:
        return (result | (byte or _late()) << 27) ^ sign, at + 5
    result |= (byte & 127) << 27
    shift = 34
    at += 5
    for byte in data[at : at + 5]:
        at += 1
        if byte < 128:
            return (result | (byte or _late()) << shift) ^ sign, at
        result |= (byte & 127) << shift
        shift += 7
    problem = "a long that does not end"
    raise ValueError(problem)


def _late() -> int:
    problem = "a long that has a byte more than it needs"
    raise ValueError(problem)


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """Decode a string of any length."""
    length, at = read_long(data, at)
    if length < 0:
        problem = "a negative length"
        raise ValueError(problem)
    return data[at : at + length].decode(), at + length
