"""Weight matching (git re-basin, Ainsworth et al., arXiv 2209.04836): permutations that bring two models together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from owm_compute.errors import ComputeError
from owm_compute.merge.align.permuted import Permutation
from owm_compute.merge.align.spec import PermutationSpec, users
from owm_compute.merge.random import random_bits, stream_key
from owm_compute.models.load import require_finite
from owm_compute.progress import Progress
from owm_compute.tensors.dtypes import FLOATS
from owm_compute.tensors.operand import Operand, Source
from owm_compute.tensors.torch_io import TORCH_DTYPES

_MAX_SWEEPS = 100
# Less than this share of the similarity is rounding, not a gain.
_LEAST_GAIN = 1e-9
_COLUMNS = 2048


@dataclass(frozen=True)
class Matching:
    """A permutation for each group, and how many sweeps over the groups it took."""

    permutations: Mapping[str, Permutation]
    sweeps: int


def match_weights(
    spec: PermutationSpec,
    sizes: Mapping[str, int],
    reference: Source,
    other: Source,
    *,
    seed: int,
    progress: Progress,
) -> Matching:
    """The permutations of `other` that maximise Σ ⟨reference tensor, permuted tensor⟩ over the tensors of `spec`.

    Coordinate descent: each group in turn is assigned best, the others held, in an order drawn from `seed`, until none
    gains. Holds two tensors and one float64 matrix of units × units at a time. Raises `non_finite`.
    """
    permutations = {group: np.arange(units, dtype=np.int64) for group, units in sizes.items()}
    neighbours = {
        group: {axis.group for name, _, _ in users(spec, group) for axis in spec[name] if axis} - {group}
        for group in sizes
    }
    stale = set(sizes)
    sweeps = 0
    while stale and sweeps < _MAX_SWEEPS:
        sweeps += 1
        order = sorted(stale, key=lambda group: (int(random_bits(stream_key(seed, group, sweeps), 0, 1)), group))
        for group in order:
            progress.step(len(sizes) - len(stale), len(sizes), "groups")
            stale.discard(group)
            found, gain = _assign(spec, group, permutations, reference, other)
            if gain > 0:
                permutations[group] = found
                stale |= neighbours[group]
    return Matching(permutations, sweeps)


def _assign(
    spec: PermutationSpec, group: str, permutations: Mapping[str, Permutation], reference: Source, other: Source
) -> tuple[Permutation, float]:
    """The best permutation of one group, and how much similarity it gains over the present one (0 for rounding)."""
    # Loaded here: it takes a third of a second and 36 MB, and few merges align.
    from scipy.optimize import linear_sum_assignment

    present = permutations[group]
    units = len(present)
    cost = torch.zeros(units, units, dtype=torch.float64)
    for name, place, _ in users(spec, group):
        if reference[name].dtype not in FLOATS or other[name].dtype not in FLOATS:
            continue
        moved = _whole(other[name])
        for index, axis in enumerate(spec[name]):
            if axis is not None and index != place:
                order = torch.from_numpy(permutations[axis.group])
                blocks = (*moved.shape[:index], len(order), axis.block, *moved.shape[index + 1 :])
                moved = moved.view(blocks).index_select(index, order).view(moved.shape)
        _subtract_products(cost, _units_first(_whole(reference[name]), place, units), _units_first(moved, place, units))
        if not math.isfinite(float(cost.sum())):
            for source in (reference, other):
                require_finite(name, _whole(source[name]))
            raise ComputeError("non_finite", f"tensor {name!r} is too large to be matched", field=name)
    matrix = cost.numpy()
    rows, found = linear_sum_assignment(matrix)
    before, after = math.fsum(matrix[rows, present]), math.fsum(matrix[rows, found])
    gain = before - after
    scale = math.fsum(np.abs(matrix[rows, found]))
    return found.astype(np.int64), gain if gain > _LEAST_GAIN * scale else 0.0


def _subtract_products(cost: torch.Tensor, reference: torch.Tensor, other: torch.Tensor) -> None:
    """cost −= reference · otherᵀ in float64, a strip of columns at a time."""
    for begin in range(0, reference.shape[1], _COLUMNS):
        strip = slice(begin, begin + _COLUMNS)
        cost.addmm_(reference[:, strip].double(), other[:, strip].double().T, alpha=-1)


def _units_first(tensor: torch.Tensor, axis: int, units: int) -> torch.Tensor:
    """Shape (units, everything else)."""
    return tensor.view(*tensor.shape[:axis], units, -1, *tensor.shape[axis + 1 :]).movedim(axis, 0).reshape(units, -1)


def _whole(operand: Operand) -> torch.Tensor:
    tensor = torch.empty(math.prod(operand.shape), dtype=TORCH_DTYPES[operand.dtype])
    operand.read(0, tensor)
    return tensor.view(operand.shape)
