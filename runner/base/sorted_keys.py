"""Sort and parse millions of keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runner.base.keys import DIGEST_BYTES, KEY_BYTES, VERSION

_PREFIX = np.frombuffer(f"{VERSION}-".encode(), np.uint8)
_LENGTH = len(_PREFIX) + 2 * DIGEST_BYTES
_NO_DIGIT = 255
_DIGITS = np.full(256, _NO_DIGIT, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def prefixes(keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """Return each key's first eight bytes as a number, which sorts like the key."""
    packed = np.ascontiguousarray(keys)
    first = packed.view(np.uint8).reshape(len(packed), packed.dtype.itemsize)[:, :8]
    return np.ascontiguousarray(first).view(">u8").ravel().astype(np.uint64)


def order_of(keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.intp]:
    """Return a stable order that sorts keys of at least eight bytes.

    Equal prefixes of digests are rare, and then all bytes are compared.
    """
    packed = np.ascontiguousarray(keys)
    numbers = prefixes(packed)
    order = np.argsort(numbers, kind="stable")
    numbers, arranged = numbers[order], packed[order]
    if np.any((numbers[1:] == numbers[:-1]) & (arranged[1:] != arranged[:-1])):
        return np.argsort(packed, kind="stable")
    return order


def plain_keys(texts: Sequence[str]) -> npt.NDArray[np.bytes_] | None:
    """Parse keys like `parse_key`; None if any has an ordinal."""
    if not texts or set(map(len, texts)) != {_LENGTH}:
        return None
    letters = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8).reshape(len(texts), _LENGTH)
    digits = _DIGITS[letters[:, len(_PREFIX) :]]
    if (letters[:, : len(_PREFIX)] != _PREFIX).any() or (digits == _NO_DIGIT).any():
        return None
    keys = np.zeros((len(texts), KEY_BYTES), np.uint8)
    keys[:, :DIGEST_BYTES] = digits[:, ::2] << 4 | digits[:, 1::2]
    return keys.view(f"S{KEY_BYTES}").ravel()
