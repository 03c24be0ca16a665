"""Randomness that depends only on (seed, tensor, model, element index), so that no cut, order or device changes it."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

_MASK = 0xFFFFFFFF
# The finalizer of MurmurHash3 (32 bits): a bijection in which every input bit reaches every output bit.
_FIRST = np.uint32(0x85EBCA6B)
_SECOND = np.uint32(0xC2B2AE35)
# As many at once as stay in the processor's second cache.
_BLOCK = 1 << 15
_COUNTING = np.arange(_BLOCK, dtype=np.uint32)

Words = np.ndarray[tuple[int], np.dtype[np.uint32]]
Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def stream_key(seed: int, tensor: str, model: int) -> tuple[int, int]:
    """Two 32-bit keys from the SHA-256 of the stream's name."""
    digest = hashlib.sha256(f"{seed}\0{tensor}\0{model}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def random_bits(key: tuple[int, int], start: int, length: int) -> torch.Tensor:
    """32 random bits for each of the elements [start, start + length): int64, shape (length,), values in [0, 2³²).

    bits(i) = mix(mix(low(i) ^ key₀) + high(i)·2654435761 + key₁ mod 2³²), with mix the finalizer of MurmurHash3.
    """
    return torch.from_numpy(random_words(key, start, length).astype(np.int64))


def random_words(key: tuple[int, int], start: int, length: int) -> Words:
    """The same bits as uint32."""
    words = np.empty(length, dtype=np.uint32)
    spare = np.empty(min(length, _BLOCK), dtype=np.uint32)
    done = 0
    while done < length:
        high, low = divmod(start + done, 2**32)
        part = min(length - done, 2**32 - low, _BLOCK)
        block, other = words[done : done + part], spare[:part]
        np.add(_COUNTING[:part], np.uint32(low), out=block)
        block ^= np.uint32(key[0])
        _mix(block, other)
        block += np.uint32((high * 2654435761 + key[1]) & _MASK)
        _mix(block, other)
        done += part
    return words


def _mix(block: Words, spare: Words) -> None:
    block ^= np.right_shift(block, 16, out=spare)
    block *= _FIRST
    block ^= np.right_shift(block, 13, out=spare)
    block *= _SECOND
    block ^= np.right_shift(block, 16, out=spare)


def keep_mask(key: tuple[int, int], start: int, length: int, probability: float) -> Mask:
    """Whether each element is kept, with `probability` in [0, 1] to the nearest 2⁻³²: bool, shape (length,)."""
    return random_words(key, start, length) < keep_limit(probability)


def keep_limit(probability: float) -> int:
    """An element is kept where its bits are below this."""
    return round(probability * 2**32)
