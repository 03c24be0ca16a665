"""The permutation spec of a model: which axes of which tensors number the same hidden units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from owm_compute.errors import ComputeError

Shapes = Mapping[str, tuple[int, ...]]
# The matching holds a float64 matrix of units × units: 2 GiB at this many.
MAX_UNITS = 16_384


@dataclass(frozen=True)
class Axis:
    """An axis whose indices are the units of `group`, each of them `block` indices in a row.

    A linear layer behind a flattened convolution has a block of height·width indices for each channel.
    """

    group: str
    block: int = 1


PermutationSpec = Mapping[str, Sequence[Axis | None]]
"""For each tensor the group of each axis, None where nothing is permuted; absent tensors are not permuted."""


def parse_axis(text: str | None) -> Axis | None:
    """`"group"` or `"group*block"`, as a program writes it."""
    if text is None:
        return None
    group, star, block = text.rpartition("*")
    return Axis(group, int(block)) if star else Axis(text)


def group_sizes(spec: PermutationSpec, shapes: Shapes, label: str) -> dict[str, int]:
    """Units of each group, from the tensors of the model `label`.

    Raises `ComputeError`: `tensor_missing` for a tensor that the model lacks, `invalid_spec` where axes and shapes do
    not fit, where a group has two sizes, stands twice in one tensor or in one tensor only, or is too large to match.
    """
    sizes: dict[str, tuple[int, str]] = {}
    tensors: dict[str, list[str]] = {}
    for name, axes in spec.items():
        if name not in shapes:
            raise ComputeError(
                "tensor_missing",
                f"{label} lacks tensor {name!r}, which the permutation spec names",
                field=f"align.spec.{name}",
                fix="align models of one architecture, or correct the name",
            )
        shape = shapes[name]
        if len(axes) != len(shape):
            raise _invalid(name, f"names {len(axes)} axes, the tensor has shape {list(shape)} in {label}")
        for axis, length in zip(axes, shape, strict=True):
            if axis is None:
                continue
            if length == 0 or length % axis.block:
                raise _invalid(name, f"an axis of {length} has no whole blocks of {axis.block} in {label}")
            units = length // axis.block
            known, where = sizes.setdefault(axis.group, (units, name))
            if known != units:
                raise _invalid(name, f"group {axis.group!r} has {units} units here and {known} in {where!r}")
            if units > MAX_UNITS:
                raise _invalid(name, f"group {axis.group!r} has {units} units, more than {MAX_UNITS}")
            tensors.setdefault(axis.group, []).append(name)
    for group, names in tensors.items():
        if len(names) != len(set(names)):
            raise _invalid(names[0], f"group {group!r} stands on two axes of one tensor, which can't be matched")
        if len(names) == 1:
            # Units that nothing else reads or writes in the same order are no hidden units: the model would change.
            raise _invalid(names[0], f"group {group!r} stands in no other tensor")
    if not sizes:
        raise ComputeError("invalid_spec", "the permutation spec names no group", field="align.spec")
    return {group: units for group, (units, _) in sizes.items()}


def users(spec: PermutationSpec, group: str) -> Iterable[tuple[str, int, int]]:
    """(tensor, axis, block) of every place of a group, in the order of the spec."""
    for name, axes in spec.items():
        for index, axis in enumerate(axes):
            if axis is not None and axis.group == group:
                yield name, index, axis.block


def _invalid(tensor: str, message: str) -> ComputeError:
    return ComputeError("invalid_spec", f"permutation of tensor {tensor!r}: {message}", field=f"align.spec.{tensor}")
