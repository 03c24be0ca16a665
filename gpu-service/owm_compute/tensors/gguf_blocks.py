"""The block formats of GGUF tensors: how many elements a block has, its bytes, and its exact values in float32.

Layouts are those of ggml. A dequantiser takes blocks as bytes [n, size] and fills float32 [n, elements]; scales times
codes are exact in float32, so at most the addition of a minimum rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Dequantise = Callable[[torch.Tensor, torch.Tensor], None]


class BlockType(NamedTuple):
    """A type of GGUF tensors. `dtype` names the stored elements where they are stored plainly."""

    name: str
    elements: int
    size: int
    dtype: str | None
    dequantise: Dequantise | None


def _half(blocks: torch.Tensor, at: int) -> torch.Tensor:
    """The float16 at a byte of every block, as float32 [n, 1]."""
    return blocks[:, at : at + 2].view(torch.float16).to(torch.float32)


def _nibbles(codes: torch.Tensor, out: torch.Tensor) -> None:
    """Bytes [n, g, b] to codes [n, g, 2, b]: low halves, then high halves."""
    out[:, :, 0].copy_(codes & 15)
    out[:, :, 1].copy_(codes >> 4)


def _fifth_bits(bits: torch.Tensor) -> torch.Tensor:
    """Bytes [n, 4], a bit an element, to [n, 1, 2, 16] of 0 or 16."""
    shifts = torch.arange(8, dtype=torch.uint8)
    return (((bits.unsqueeze(2) >> shifts) & 1) << 4).view(-1, 1, 2, 16)


def _q8_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(blocks[:, 2:].view(torch.int8))
    out.mul_(_half(blocks, 0))


def _q4_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _nibbles(blocks[:, 2:].unsqueeze(1), out.view(-1, 1, 2, 16))
    out.sub_(8).mul_(_half(blocks, 0))


def _q4_1(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _nibbles(blocks[:, 4:].unsqueeze(1), out.view(-1, 1, 2, 16))
    out.mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q5_0(blocks: torch.Tensor, out: torch.Tensor) -> None:
    halves = out.view(-1, 1, 2, 16)
    _nibbles(blocks[:, 6:].unsqueeze(1), halves)
    halves.add_(_fifth_bits(blocks[:, 2:6]))
    out.sub_(16).mul_(_half(blocks, 0))


def _q5_1(blocks: torch.Tensor, out: torch.Tensor) -> None:
    halves = out.view(-1, 1, 2, 16)
    _nibbles(blocks[:, 8:].unsqueeze(1), halves)
    halves.add_(_fifth_bits(blocks[:, 4:8]))
    out.mul_(_half(blocks, 0)).add_(_half(blocks, 2))


def _q2_k(blocks: torch.Tensor, out: torch.Tensor) -> None:
    scales = blocks[:, :16]
    codes = blocks[:, 16:80].view(-1, 2, 32)
    quarters = out.view(-1, 2, 4, 32)
    for quarter in range(4):
        quarters[:, :, quarter].copy_((codes >> 2 * quarter) & 3)
    scale = (scales & 15).to(torch.float32).mul_(_half(blocks, 80)).unsqueeze(2)
    least = (scales >> 4).to(torch.float32).mul_(_half(blocks, 82)).unsqueeze(2)
    out.view(-1, 16, 16).mul_(scale).sub_(least)


def _q3_k(blocks: torch.Tensor, out: torch.Tensor) -> None:
    third_bits, codes, packed = blocks[:, :32], blocks[:, 32:96].view(-1, 2, 32), blocks[:, 96:108]
    quarters = out.view(-1, 2, 4, 32)
    for half in range(2):
        for quarter in range(4):
            low = (codes[:, half] >> 2 * quarter) & 3
            quarters[:, half, quarter].copy_(low | ((third_bits >> 4 * half + quarter) & 1) << 2)
    low = torch.cat((packed[:, :8] & 15, packed[:, :8] >> 4), 1)
    high = torch.cat([(packed[:, 8:] >> 2 * part) & 3 for part in range(4)], 1)
    scale = (low | high << 4).to(torch.float32).sub_(32).mul_(_half(blocks, 108))
    out.sub_(4).view(-1, 16, 16).mul_(scale.unsqueeze(2))


def _scales_and_minima(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of Q4_K and Q5_K: the scale and the minimum of each of the eight sub-blocks, [n, 8, 1]."""
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = torch.cat((first & 63, rest & 15 | first >> 6 << 4), 1).to(torch.float32)
    least = torch.cat((second & 63, rest >> 4 | second >> 6 << 4), 1).to(torch.float32)
    return scale.mul_(_half(blocks, 0)).unsqueeze(2), least.mul_(_half(blocks, 2)).unsqueeze(2)


def _q4_k(blocks: torch.Tensor, out: torch.Tensor) -> None:
    _nibbles(blocks[:, 16:].view(-1, 4, 32), out.view(-1, 4, 2, 32))
    scale, least = _scales_and_minima(blocks)
    out.view(-1, 8, 32).mul_(scale).sub_(least)


def _q5_k(blocks: torch.Tensor, out: torch.Tensor) -> None:
    bits, codes = blocks[:, 16:48], blocks[:, 48:].view(-1, 4, 32)
    halves = out.view(-1, 4, 2, 32)
    for group in range(4):
        halves[:, group, 0].copy_(codes[:, group] & 15 | ((bits >> 2 * group) & 1) << 4)
        halves[:, group, 1].copy_(codes[:, group] >> 4 | ((bits >> 2 * group + 1) & 1) << 4)
    scale, least = _scales_and_minima(blocks)
    out.view(-1, 8, 32).mul_(scale).sub_(least)


def _q6_k(blocks: torch.Tensor, out: torch.Tensor) -> None:
    low, high = blocks[:, :128].view(-1, 2, 2, 32), blocks[:, 128:192].view(-1, 2, 32)
    quarters = out.view(-1, 2, 4, 32)
    for quarter in range(4):
        bits = low[:, :, quarter % 2]
        bits = bits & 15 if quarter < 2 else bits >> 4
        quarters[:, :, quarter].copy_(bits | ((high >> 2 * quarter) & 3) << 4)
    scale = blocks[:, 192:208].view(torch.int8).to(torch.float32).mul_(_half(blocks, 208))
    out.sub_(32).view(-1, 16, 16).mul_(scale.unsqueeze(2))


_IQ4 = torch.tensor([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=torch.float32)


def _iq4_nl(blocks: torch.Tensor, out: torch.Tensor) -> None:
    codes = blocks[:, 2:]
    both = torch.cat((codes & 15, codes >> 4), 1).to(torch.int32)
    torch.index_select(_IQ4, 0, both.view(-1), out=out.view(-1))
    out.mul_(_half(blocks, 0))


# By the number that stands in the file.
TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 1, 4, "F32", None),
    1: BlockType("F16", 1, 2, "F16", None),
    2: BlockType("Q4_0", 32, 18, None, _q4_0),
    3: BlockType("Q4_1", 32, 20, None, _q4_1),
    6: BlockType("Q5_0", 32, 22, None, _q5_0),
    7: BlockType("Q5_1", 32, 24, None, _q5_1),
    8: BlockType("Q8_0", 32, 34, None, _q8_0),
    10: BlockType("Q2_K", 256, 84, None, _q2_k),
    11: BlockType("Q3_K", 256, 110, None, _q3_k),
    12: BlockType("Q4_K", 256, 144, None, _q4_k),
    13: BlockType("Q5_K", 256, 176, None, _q5_k),
    14: BlockType("Q6_K", 256, 210, None, _q6_k),
    20: BlockType("IQ4_NL", 32, 18, None, _iq4_nl),
    24: BlockType("I8", 1, 1, "I8", None),
    25: BlockType("I16", 1, 2, "I16", None),
    26: BlockType("I32", 1, 4, "I32", None),
    27: BlockType("I64", 1, 8, "I64", None),
    28: BlockType("F64", 1, 8, "F64", None),
    30: BlockType("BF16", 1, 2, "BF16", None),
}
# Types that files in use have and that are not read here, for messages.
UNREAD: dict[int, str] = {
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
