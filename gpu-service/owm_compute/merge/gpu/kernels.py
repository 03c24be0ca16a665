"""The kernel that computes a combination of models, as `Combination` defines it, in one pass over the operands.

Bits equal the CPU's: the same float32 operations in the same order, launched with `enable_fp_fusion=False` so that no
multiplication and addition become one, and one rounding at the end. Checked in Triton's interpreter and, for fused
operations, in the PTX that is generated; it has not run on a GPU yet.
"""

from __future__ import annotations

import triton
import triton.language as tl

KEEP_ALL = 0
KEEP_LARGEST = 1
KEEP_RANDOM = 2

NO_BASE = 0
TERM = 1
"""The base is the last term of the sum."""
ONTO = 2
"""The sum, times a factor, is added to the base."""
ONLY = 3
"""The result is the base as it is."""


@triton.jit
def _mix(x):  # type: ignore[no-untyped-def]
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit  # type: ignore[untyped-decorator]
def combine_kernel(  # type: ignore[no-untyped-def]
    models,
    base,
    out,
    sums,
    counts,
    floats,
    ints,
    start,
    length,
    MODELS: tl.constexpr,
    ACTIVE: tl.constexpr,
    FIRST: tl.constexpr,
    KEEP: tl.constexpr,
    DELTAS: tl.constexpr,
    BASE: tl.constexpr,
    VOTE: tl.constexpr,
    NORMALIZE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Elements [start, start + length) of a result.

    `models` (a tuple), `base` and `out` point at the first of them, in float32, float16 or bfloat16. `floats` holds
    (factor, weight, magnitude, float below it) a model, then (factor of the base or of the sum); `ints` (last index
    kept at the boundary, two keys, limit) a model. A block writes its part of the dots of all pairs of models and of
    the result's square to a column of `sums` (float32), its counts of kept elements and of conflicts to `counts`.
    """
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    place = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < length
    element = start + place
    origin = tl.zeros([BLOCK], tl.float32)
    if DELTAS or BASE != 0:
        origin = tl.load(base + place, mask=inside, other=0.0).to(tl.float32)

    raw = ()
    terms = ()
    kept = tl.zeros([BLOCK], tl.int32)
    for i in tl.static_range(MODELS):
        value = tl.load(models[i] + place, mask=inside, other=0.0).to(tl.float32)
        if DELTAS:
            value = value - origin
        raw = raw + (value,)  # type: ignore[assignment]  # noqa: RUF005 (Triton unpacks no tuples)
        if KEEP[i] == 1:
            last = tl.load(ints + 4 * i)
            limit = tl.where(element <= last, tl.load(floats + 4 * i + 3), tl.load(floats + 4 * i + 2))
            value = tl.where(tl.abs(value) > limit, value, 0.0)
        if KEEP[i] == 2:
            bits = _mix(element.to(tl.uint32) ^ tl.load(ints + 4 * i + 1).to(tl.uint32))
            high = (element >> 32).to(tl.uint32) * 2654435761
            bits = _mix(bits + (high + tl.load(ints + 4 * i + 2).to(tl.uint32)))
            # A product, as on the CPU: what is dropped keeps its sign.
            value = value * (bits < tl.load(ints + 4 * i + 3).to(tl.uint32)).to(tl.float32)
        kept += (value != 0).to(tl.int32)
        terms = terms + (value * tl.load(floats + 4 * i),)  # type: ignore[assignment]  # noqa: RUF005

    total = tl.zeros([BLOCK], tl.float32)
    for i in tl.static_range(MODELS):
        if ACTIVE[i]:
            total = terms[i] if i == FIRST else total + terms[i]

    conflict = tl.zeros([BLOCK], tl.int32)
    if VOTE:
        sign = total.to(tl.int32, bitcast=True) & -2147483648
        total = tl.zeros([BLOCK], tl.float32)
        divisor = tl.zeros([BLOCK], tl.float32)
        for i in tl.static_range(MODELS):
            if ACTIVE[i]:
                term = (terms[i].to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
                weight = tl.load(floats + 4 * i + 1)
                conflict = conflict | (term < 0).to(tl.int32)
                divisor = divisor + (term > 0).to(tl.float32) * weight
                term = tl.where(term > 0, term, 0.0)
                if not WEIGHTED:
                    term = term * weight
                total = term if i == FIRST else total + term
        total = (total.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
        if NORMALIZE:
            total = tl.math.div_rn(total, divisor + (divisor == 0).to(tl.float32))

    factor = tl.load(floats + 4 * MODELS)
    if BASE == 1:
        total = origin * factor if FIRST < 0 else total + origin * factor
    if BASE == 2:
        total = origin + total * factor
    if BASE == 3:
        total = origin

    row = 0
    for i in tl.static_range(MODELS):
        for j in tl.static_range(i, MODELS):
            tl.store(sums + row * blocks + block, tl.sum(raw[i] * raw[j]))
            row += 1
    tl.store(sums + row * blocks + block, tl.sum(total * total))
    tl.store(counts + block, tl.sum(kept))
    tl.store(counts + blocks + block, tl.sum(conflict))

    if out.dtype.element_ty == tl.bfloat16:
        # To nearest, ties to even, in integers: the interpreter would cut off.
        bits = total.to(tl.uint32, bitcast=True)
        rounded = tl.where(total != total, 0x7FC0, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
        tl.store(out + place, rounded.to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=inside)
    else:
        tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
