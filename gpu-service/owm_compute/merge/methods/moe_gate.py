"""The gate of a mixture of experts made from dense models: a row an expert, from prompts or at random."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.method import Apply, Bounds, Chunk, Operands, merge_method
from owm_compute.merge.random import random_bits, stream_key

_FROM_PROMPTS, _NORMAL, _UNIFORM = 0, 1, 2
# So many uniform numbers have variance 1 in sum, and their sum is exact: the same on any machine.
_TERMS = 12


def _shape(shape: tuple[int, ...], settings: Mapping[str, Any]) -> tuple[int, ...]:
    if len(shape) != 1 or shape[0] == 0:
        raise ComputeError("tensor_shape_mismatch", f"a gate is made of vectors, not of a tensor {list(shape)}")
    return (settings["experts"], *shape)


@merge_method("moe_gate", reference="https://github.com/arcee-ai/mergekit (mergekit-moe)", output_shape=_shape)
def moe_gate(
    operands: Operands,
    *,
    experts: Annotated[int, Bounds(1, 1024, "rows of the gate")],
    mode: Annotated[int, Bounds(0, 2, "0: the models' vectors, 1: normal numbers, 2: uniform numbers")] = 0,
) -> Apply:
    """Gate (experts, hidden) of a mixture of experts; with `mode` 0 its rows are the models' vectors (hidden,).

    Random numbers have variance 1/hidden (1, normal: the sum of twelve uniform ones) or lie in ±1/√hidden (2, as a new
    linear layer has them), so that rows are about as long as those made from prompts, or shorter.
    """
    if mode == _FROM_PROMPTS:
        rows, _ = operands.whole()
        if len(rows) != experts:
            raise ComputeError(
                "invalid_spec", f"{experts} experts need as many vectors, not {len(rows)}", field=operands.name
            )
        flat = torch.cat(rows)
        return lambda chunk: flat[chunk.start : chunk.start + chunk.length]
    scale = 1 / math.sqrt(operands.shape[0])
    keys = [stream_key(operands.seed, operands.name, term) for term in range(_TERMS if mode == _NORMAL else 1)]

    def apply(chunk: Chunk) -> torch.Tensor:
        bits = torch.zeros(chunk.length, dtype=torch.int64)
        for key in keys:
            bits += random_bits(key, chunk.start, chunk.length)
        centred = bits.double() / 2**32 - len(keys) / 2
        return centred * (scale if mode == _NORMAL else 2 * scale)

    return apply
