"""Permutation specs by architecture: our own networks, gated transformer blocks, and plain chains of layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from owm_compute.errors import ComputeError
from owm_compute.merge.align.spec import Axis, PermutationSpec, Shapes
from owm_compute.models.config import ARCHITECTURES, parse_config

_GATED = re.compile(r"^(.+)\.(?:gate_proj|up_proj|down_proj)\.weight$")
_ATTENTION = re.compile(r"^(.+)\.[qkvo]_proj\.weight$")


def spec_of(config: Mapping[str, Any] | None, shapes: Shapes, label: str) -> PermutationSpec:
    """The spec of a model from its config.json, where it has one, and the names and shapes of its tensors.

    Raises `ComputeError` (`unsupported_architecture`) for a model that is neither a transformer with gated blocks nor
    a plain chain of linear or convolutional layers.
    """
    if config and config.get("architectures") in [[name] for name in ARCHITECTURES]:
        own = parse_config(config, field=label).tensor_shapes()
        return _chain([name.removesuffix(".weight") for name in own if name.endswith(".weight")], own, label)
    gated = _gated_blocks(shapes)
    if gated:
        return {**gated, **_attention_blocks(config or {}, shapes)}
    return _chain(_ordered_layers(shapes, label), shapes, label)


def _gated_blocks(shapes: Shapes) -> PermutationSpec:
    """down(f(gate(x)) ⊙ up(x)): the units between are in the same order in all three matrices.

    A block with any tensor besides (a norm inside, scales of a quantisation) is left as it is.
    """
    spec: dict[str, Sequence[Axis | None]] = {}
    for block, names in _members(shapes, _GATED).items():
        inside = Axis(block)
        known: dict[str, Sequence[Axis | None]] = {
            f"{block}.gate_proj.weight": (inside, None),
            f"{block}.gate_proj.bias": (inside,),
            f"{block}.up_proj.weight": (inside, None),
            f"{block}.up_proj.bias": (inside,),
            f"{block}.down_proj.weight": (None, inside),
            f"{block}.down_proj.bias": (None,),
        }
        needed = {f"{block}.{part}_proj.weight" for part in ("gate", "up", "down")}
        if needed <= names <= known.keys():
            spec.update((name, axes) for name, axes in known.items() if name in names)
    return spec


def _attention_blocks(config: Mapping[str, Any], shapes: Shapes) -> PermutationSpec:
    """Whole key/value heads with the query heads that read them; dimensions inside a head stay, as RoPE numbers them.

    Blocks with any tensor besides, or with shapes that do not follow from the head counts, are left as they are.
    """
    heads, groups = config.get("num_attention_heads"), config.get("num_key_value_heads")
    groups = heads if groups is None else groups
    if not isinstance(heads, int) or not isinstance(groups, int) or groups < 2 or heads % groups:
        return {}
    spec: dict[str, Sequence[Axis | None]] = {}
    for block, names in _members(shapes, _ATTENTION).items():
        key = shapes.get(f"{block}.k_proj.weight", (0, 0))
        if len(key) != 2 or key[0] == 0 or key[0] % groups:
            continue
        width = key[0] // groups
        read = width * (heads // groups)
        query, stored = Axis(block, read), Axis(block, width)
        known: dict[str, Sequence[Axis | None]] = {
            f"{block}.q_proj.weight": (query, None),
            f"{block}.q_proj.bias": (query,),
            f"{block}.k_proj.weight": (stored, None),
            f"{block}.k_proj.bias": (stored,),
            f"{block}.v_proj.weight": (stored, None),
            f"{block}.v_proj.bias": (stored,),
            f"{block}.o_proj.weight": (None, query),
            f"{block}.o_proj.bias": (None,),
        }
        for part, axis in (("q", query), ("k", stored)):
            # A norm of one head's width is shared by all heads; one over all heads moves with them.
            norm = f"{block}.{part}_norm.weight"
            known[norm] = (None,) if shapes.get(norm) == (width,) else (axis,)
        sizes = {query: heads * width, stored: groups * width}
        needed = {f"{block}.{part}_proj.weight" for part in "qkvo"}
        if needed <= names <= known.keys() and all(
            axis is None or shapes[name][place] == sizes[axis]
            for name in names
            for place, axis in enumerate(known[name])
        ):
            spec.update((name, axes) for name, axes in known.items() if name in names)
    return spec


def _members(shapes: Shapes, pattern: re.Pattern[str]) -> dict[str, set[str]]:
    blocks = {match[1] for name in shapes if (match := pattern.match(name))}
    members: dict[str, set[str]] = {block: set() for block in blocks}
    for name in shapes:
        parts = name.split(".")
        for end in range(1, len(parts)):
            if (block := ".".join(parts[:end])) in members:
                members[block].add(name)
    return dict(sorted(members.items()))


def _ordered_layers(shapes: Shapes, label: str) -> list[str]:
    """The layers of a plain chain: convolutions, then linear layers, each in the order of the numbers in their names.

    Only what can't be mistaken is accepted: `layers.0`, `conv1`, `fc`, `features.3`, each with a weight and at most a
    bias. Deeper names belong to networks with branches, where a permutation guessed from shapes changes the function.
    """
    for name in shapes:
        stem, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias") or stem.count(".") > 1 or f"{stem}.weight" not in shapes:
            raise _not_inferable(label, f"tensor {name!r} is no weight or bias of a plain layer")
    layers = [name.removesuffix(".weight") for name in shapes if name.endswith(".weight")]
    layers.sort(key=lambda layer: (len(shapes[f"{layer}.weight"]) <= 2, _natural(layer)))
    for first, second in pairwise(layers):
        numbered = re.sub(r"\d", "", first) == re.sub(r"\d", "", second)
        swapped = [{first: second, second: first}.get(layer, layer) for layer in layers]
        if not numbered and _fits(swapped, shapes):
            raise _not_inferable(label, f"nothing says which of {first!r} and {second!r} comes first")
    return layers


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _fits(layers: Sequence[str], shapes: Shapes) -> bool:
    weights = [shapes[f"{layer}.weight"] for layer in layers]
    return all(len(weight) >= 2 and weight[0] and weight[1] for weight in weights) and all(
        _follows(before, after) for before, after in pairwise(weights)
    )


def _follows(before: Sequence[int], after: Sequence[int]) -> bool:
    if len(before) == len(after):
        return after[1] == before[0]
    return len(after) == 2 and after[1] % before[0] == 0


def _chain(layers: Sequence[str], shapes: Shapes, label: str) -> PermutationSpec:
    """Each layer's outputs are the next one's inputs; a convolution's channels become blocks when it is flattened."""
    if len(layers) < 2 or not _fits(layers, shapes):
        found = ", ".join(f"{layer} {list(shapes[f'{layer}.weight'])}" for layer in layers[:20])
        raise _not_inferable(label, f"the layers do not follow each other: {found}")
    spec: dict[str, Sequence[Axis | None]] = {}
    inputs: Axis | None = None
    for index, layer in enumerate(layers):
        shape = shapes[f"{layer}.weight"]
        outputs = Axis(layer) if index < len(layers) - 1 else None
        if inputs is not None:
            inputs = Axis(inputs.group, shape[1] // shapes[f"{inputs.group}.weight"][0])
        spec[f"{layer}.weight"] = (outputs, inputs, *[None] * (len(shape) - 2))
        if outputs is not None and f"{layer}.bias" in shapes:
            spec[f"{layer}.bias"] = (outputs,)
        inputs = outputs
    return spec


def _not_inferable(label: str, message: str) -> ComputeError:
    return ComputeError(
        "unsupported_architecture",
        f"the permutation spec of {label} can't be inferred: {message}",
        field="align.spec",
        fix="give the spec: the group of each axis of each tensor, null where nothing is permuted",
    )
