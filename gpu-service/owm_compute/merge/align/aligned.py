"""The alignment step of a merge: every other model is read with its hidden units in the order of the reference's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from owm_compute.errors import ComputeError
from owm_compute.merge.align.layouts import spec_of
from owm_compute.merge.align.matching import Matching, match_weights
from owm_compute.merge.align.permuted import PermutedOperand
from owm_compute.merge.align.spec import PermutationSpec, Shapes, group_sizes, parse_axis
from owm_compute.merge.program import AlignSpec
from owm_compute.progress import Progress, Silent
from owm_compute.tensors.operand import Overlay, Source


class AlignedSource(Overlay):
    """A model with permuted hidden units: it computes the same function as before, up to the order of sums."""

    def __init__(self, source: Source, spec: PermutationSpec, matching: Matching) -> None:
        permuted = {}
        for name, axes in spec.items():
            moved = {
                index: (matching.permutations[axis.group], axis.block)
                for index, axis in enumerate(axes)
                if axis is not None and _moved(matching, axis.group)
            }
            if moved:
                permuted[name] = PermutedOperand(source[name], moved)
        super().__init__(source, permuted)
        self.exact = False
        self._matching = matching

    def record(self) -> dict[str, Any]:
        """What was found: SHA-256 over the groups by name and their permutations (int64, little-endian), the sweeps
        that it took, and for each group its units and the share of them that moved.
        """
        permutations = sorted(self._matching.permutations.items())
        digest = hashlib.sha256()
        for group, permutation in permutations:
            digest.update(f"{group}\0{len(permutation)}\0".encode() + permutation.astype("<i8").tobytes())
        return {
            "model": self.label,
            "digest": digest.hexdigest(),
            "sweeps": self._matching.sweeps,
            "groups": {
                group: {"units": len(permutation), "moved": _moved(self._matching, group)}
                for group, permutation in permutations
            },
        }


def align_sources(
    align: AlignSpec,
    sources: Sequence[Source],
    configs: Sequence[Mapping[str, Any] | None],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Source]:
    """The sources with every one but the reference as an `AlignedSource`; `configs` are their config.json, parsed.

    The permutations depend on the weights and on `seed`; their similarity is computed by the machine's linear algebra,
    so another machine may decide differently between permutations that are equally good to rounding.

    Raises `ComputeError`: `invalid_spec`, `tensor_missing`, `tensor_shape_mismatch`, `unsupported_architecture` (no
    spec given and none inferable), `architecture_mismatch` or `non_finite`.
    """
    if align.reference >= len(sources):
        raise ComputeError("invalid_spec", f"there is no source {align.reference}", field="align.reference")
    reference = sources[align.reference]
    spec = _spec(align, reference, configs[align.reference])
    sizes = group_sizes(spec, _shapes(reference), reference.label)
    for source, config in zip(sources, configs, strict=True):
        _require_alike(spec, reference, source)
        if align.spec is None and _spec(align, source, config) != spec:
            raise ComputeError(
                "architecture_mismatch",
                f"{source.label} and {reference.label} are built differently: their hidden units can't be matched",
                field="align",
                fix="align models of one architecture",
            )
    report = progress or Silent()
    return [
        source
        if source is reference
        else AlignedSource(source, spec, match_weights(spec, sizes, reference, source, seed=seed, progress=report))
        for source in sources
    ]


def _spec(align: AlignSpec, source: Source, config: Mapping[str, Any] | None) -> PermutationSpec:
    if align.spec is None:
        return spec_of(config, _shapes(source), source.label)
    return {name: tuple(parse_axis(axis) for axis in axes) for name, axes in align.spec.items()}


def _shapes(source: Source) -> Shapes:
    return {name: source[name].shape for name in source}


def _require_alike(spec: PermutationSpec, reference: Source, source: Source) -> None:
    for name in spec:
        if name not in source:
            raise ComputeError(
                "tensor_missing",
                f"{source.label} lacks tensor {name!r}, so it can't be aligned with {reference.label}",
                field=name,
                fix="align models of one architecture",
            )
        if source[name].shape != reference[name].shape:
            raise ComputeError(
                "tensor_shape_mismatch",
                f"tensor {name!r} has shape {list(reference[name].shape)} in {reference.label} "
                f"and {list(source[name].shape)} in {source.label}, so they can't be aligned",
                field=name,
                fix="align models of one architecture",
            )


def _moved(matching: Matching, group: str) -> float:
    permutation = matching.permutations[group]
    return float(np.mean(permutation != np.arange(len(permutation))))
