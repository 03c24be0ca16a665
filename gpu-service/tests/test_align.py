"""Alignment by permutation: an aligned model computes the same, however it is read; what does not fit is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from owm_compute.errors import ComputeError
from owm_compute.merge.align import AlignedSource, align_sources
from owm_compute.merge.align.permuted import PermutedOperand
from owm_compute.merge.program import AlignSpec
from owm_compute.models.architectures import empty_model
from owm_compute.models.config import ModelConfig
from owm_compute.models.load import Model
from owm_compute.tensors.operand import Operand, Source
from owm_compute.train.initialization import initialize
from tests.digits import cnn, mlp
from tests.memory import Held, Memory

Tensors = Mapping[str, torch.Tensor]


def whole(operand: Operand, dtype: torch.dtype = torch.float32, cut: int = 1 << 20) -> torch.Tensor:
    """The operand in full, read in pieces of `cut` elements."""
    flat = torch.empty(math.prod(operand.shape), dtype=dtype)
    for start in range(0, len(flat), cut):
        operand.read(start, flat[start : start + cut])
    return flat.view(operand.shape)


def tensors_of(source: Source) -> dict[str, torch.Tensor]:
    return {name: whole(source[name]) for name in source}


def network(config: ModelConfig, seed: int) -> nn.Module:
    module = empty_model(config)
    initialize(module, "default", seed)
    return module


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in module.named_parameters()}


def logits(config: ModelConfig, tensors: Tensors, features: np.ndarray[Any, np.dtype[np.float32]]) -> torch.Tensor:
    module = empty_model(config)
    module.load_state_dict(dict(tensors))
    return torch.from_numpy(Model(config, module.eval()).logits(features))


def align(*models: Tensors, configs: list[Any] | None = None, reference: int = 0, **spec: Any) -> list[Source]:
    sources = [Memory(tensors, f"model {index}") for index, tensors in enumerate(models)]
    return align_sources(AlignSpec(reference=reference, **spec), sources, configs or [None] * len(models))


def aligned(*models: Tensors, **options: Any) -> AlignedSource:
    """The second of two models, aligned with the first."""
    found = align(*models, **options)[1]
    assert isinstance(found, AlignedSource)
    return found


def shuffled(
    tensors: Tensors, axes: Mapping[str, list[tuple[int, str, int]]], seed: int = 0
) -> dict[str, torch.Tensor]:
    """The same function with its hidden units in another order; `axes`: tensor → (axis, group, block)."""
    generator = torch.Generator().manual_seed(seed)
    orders: dict[str, torch.Tensor] = {}
    result = dict(tensors)
    for name, places in axes.items():
        for axis, group, block in places:
            units = result[name].shape[axis] // block
            order = orders.setdefault(group, torch.randperm(units, generator=generator))
            index = (order[:, None] * block + torch.arange(block)).view(-1)
            result[name] = result[name].index_select(axis, index)
    return result


@pytest.mark.parametrize(
    "config", [mlp(hidden_sizes=[24, 20]), cnn(channels=[6, 8], hidden_size=20)], ids=["mlp", "cnn"]
)
@pytest.mark.parametrize("declared", [True, False], ids=["by architecture", "inferred"])
def test_aligned_network_computes_the_same(config: ModelConfig, declared: bool) -> None:
    first, second = weights(network(config, 1)), weights(network(config, 2))
    configs = [config.model_dump()] * 2 if declared else None
    found = aligned(first, second, configs=configs)
    features = np.random.default_rng(0).random((50, config.feature_count), dtype=np.float32)
    assert any(group["moved"] > 0.5 for group in found.record()["groups"].values())
    assert torch.allclose(logits(config, tensors_of(found), features), logits(config, second, features), atol=5e-6)


def test_alignment_undoes_a_permutation_of_units() -> None:
    original = weights(network(mlp(hidden_sizes=[32, 16]), 1))
    axes = {
        "layers.0.weight": [(0, "a", 1)],
        "layers.0.bias": [(0, "a", 1)],
        "layers.1.weight": [(1, "a", 1), (0, "b", 1)],
        "layers.1.bias": [(0, "b", 1)],
        "layers.2.weight": [(1, "b", 1)],
    }
    found = aligned(original, shuffled(original, axes))
    for name, tensor in tensors_of(found).items():
        assert torch.equal(tensor, original[name]), name
    record = found.record()
    assert {name: group["units"] for name, group in record["groups"].items()} == {"layers.0": 32, "layers.1": 16}
    assert record["digest"] == aligned(original, shuffled(original, axes)).record()["digest"]
    assert record["digest"] != aligned(original, original).record()["digest"]
    assert all(group["moved"] == 0 for group in aligned(original, original).record()["groups"].values())


def test_channels_in_front_of_a_flattened_layer_move_in_blocks() -> None:
    config = cnn(channels=[4, 8], hidden_size=16)
    original = weights(network(config, 1))
    axes = {
        "conv.0.weight": [(0, "a", 1)],
        "conv.0.bias": [(0, "a", 1)],
        "conv.1.weight": [(0, "b", 1), (1, "a", 1)],
        "conv.1.bias": [(0, "b", 1)],
        "fc.weight": [(0, "c", 1), (1, "b", 4)],
        "fc.bias": [(0, "c", 1)],
        "head.weight": [(1, "c", 1)],
    }
    spec = {
        "conv.0.weight": ["a", None, None, None],
        "conv.0.bias": ["a"],
        "conv.1.weight": ["b", "a", None, None],
        "conv.1.bias": ["b"],
        "fc.weight": ["c", "b*4"],
        "fc.bias": ["c"],
        "head.weight": [None, "c"],
    }
    for options in ({}, {"configs": [config.model_dump()] * 2}, {"spec": spec}):
        found = tensors_of(aligned(original, shuffled(original, axes), **options))
        assert all(torch.equal(found[name], original[name]) for name in original)


def llama(seed: int, layers: int = 2) -> dict[str, torch.Tensor]:
    """Blocks with 8 query heads of width 4 on 4 key/value heads, and 24 gated units."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (50, 16)}
    for layer in range(layers):
        block = f"model.layers.{layer}"
        shapes |= {
            f"{block}.self_attn.{part}_proj.weight": (rows, 16) for part, rows in (("q", 32), ("k", 16), ("v", 16))
        }
        shapes |= {f"{block}.self_attn.o_proj.weight": (16, 32), f"{block}.self_attn.q_proj.bias": (32,)}
        shapes |= {f"{block}.self_attn.k_norm.weight": (4,), f"{block}.input_layernorm.weight": (16,)}
        shapes |= {f"{block}.mlp.{part}_proj.weight": (24, 16) for part in ("gate", "up")}
        shapes |= {f"{block}.mlp.down_proj.weight": (16, 24)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_gated_blocks_and_key_value_heads_are_matched_and_the_rest_is_left() -> None:
    original = llama(1, layers=1)
    block = "model.layers.0"
    axes = {
        f"{block}.self_attn.q_proj.weight": [(0, "h", 8)],
        f"{block}.self_attn.q_proj.bias": [(0, "h", 8)],
        f"{block}.self_attn.k_proj.weight": [(0, "h", 4)],
        f"{block}.self_attn.v_proj.weight": [(0, "h", 4)],
        f"{block}.self_attn.o_proj.weight": [(1, "h", 8)],
        f"{block}.mlp.gate_proj.weight": [(0, "m", 1)],
        f"{block}.mlp.up_proj.weight": [(0, "m", 1)],
        f"{block}.mlp.down_proj.weight": [(1, "m", 1)],
    }
    config = {"num_attention_heads": 8, "num_key_value_heads": 4}
    found = aligned(original, shuffled(original, axes), configs=[config, config])
    assert all(torch.equal(tensor, original[name]) for name, tensor in tensors_of(found).items())
    assert {name: group["units"] for name, group in found.record()["groups"].items()} == {
        f"{block}.self_attn": 4,
        f"{block}.mlp": 24,
    }
    # Without head counts, or with per-head tensors that the spec does not know, only the gated units are matched.
    unknown = {**original, f"{block}.self_attn.sinks": torch.zeros(8)}
    for tensors, settings_ in ((original, {}), (unknown, config)):
        assert set(aligned(tensors, tensors, configs=[settings_] * 2).record()["groups"]) == {f"{block}.mlp"}


def test_every_other_model_is_aligned_with_the_reference() -> None:
    models = [weights(network(mlp(), seed)) for seed in (1, 2, 3)]
    sources = align(*models, reference=1)
    assert [isinstance(source, AlignedSource) for source in sources] == [True, False, True]
    distance = [
        [sum(float((tensor - models[1][name]).square().sum()) for name, tensor in tensors.items()) for tensors in pair]
        for pair in ((models[0], tensors_of(sources[0])), (models[2], tensors_of(sources[2])))
    ]
    assert all(after < before for before, after in distance)


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]),
    cut=st.integers(1, 40),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_permuted_tensor_is_the_same_in_any_cut(
    shape: list[int], dtype: torch.dtype, cut: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    axes = {}
    blocks = [data.draw(st.integers(1, 3)) for _ in shape]
    tensor = torch.randint(
        0, 2 if dtype is torch.bool else 100, [a * b for a, b in zip(shape, blocks, strict=True)], generator=generator
    ).to(dtype)
    expected = tensor
    for axis in data.draw(st.sets(st.integers(0, len(shape) - 1))):
        order = torch.randperm(shape[axis], generator=generator)
        axes[axis] = (order.numpy(), blocks[axis])
        expected = expected.index_select(axis, (order[:, None] * blocks[axis] + torch.arange(blocks[axis])).view(-1))
    operand = PermutedOperand(Held("t", tensor), axes)
    assert torch.equal(whole(operand, dtype, cut), expected)


def test_long_rows_are_read_no_more_than_once() -> None:
    tensor = torch.randn(40, 30_000)
    held = Held("t", tensor)
    order = np.random.default_rng(0).permutation(40)
    operand = PermutedOperand(held, {0: (order, 1)})
    assert torch.equal(whole(operand, cut=100_000), tensor[torch.from_numpy(order)])
    assert held.elements == tensor.numel()
    assert operand.identity != held.identity
    assert operand.identity == PermutedOperand(held, {0: (order, 1)}).identity


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"layers.9.weight": ["a", None]}, "tensor_missing", "align.spec.layers.9.weight"),
        ({"layers.0.weight": ["a"]}, "invalid_spec", "align.spec.layers.0.weight"),
        ({"layers.1.weight": ["b", "a"], "layers.2.weight": [None, "a"]}, "invalid_spec", "align.spec.layers.2.weight"),
        ({"layers.1.weight": [None, "a*5"]}, "invalid_spec", "align.spec.layers.1.weight"),
        ({"layers.1.weight": ["a", "a"]}, "invalid_spec", "align.spec.layers.1.weight"),
        ({"layers.1.weight": [None, None], "layers.0.bias": [None]}, "invalid_spec", "align.spec.layers.0.weight"),
        (
            {"layers.0.weight": [None, None], "layers.0.bias": [None], "layers.1.weight": [None, None]},
            "invalid_spec",
            "align.spec",
        ),
    ],
    ids=["name", "axes", "sizes", "block", "twice", "lone", "empty"],
)
def test_spec_that_does_not_fit_is_refused(change: dict[str, Any], code: str, field: str) -> None:
    model = weights(network(mlp(hidden_sizes=[12, 16]), 1))
    spec = {"layers.0.weight": ["a", None], "layers.0.bias": ["a"], "layers.1.weight": [None, "a"], **change}
    with pytest.raises(ComputeError) as refused:
        align(model, model, spec=spec)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_models_that_are_built_differently_are_refused() -> None:
    small, wide, deep = (weights(network(mlp(hidden_sizes=sizes), 1)) for sizes in ([12], [16], [12, 12]))
    for first, second, code in (
        (small, wide, "tensor_shape_mismatch"),
        (small, deep, "tensor_shape_mismatch"),
        (deep, small, "tensor_shape_mismatch"),
    ):
        with pytest.raises(ComputeError) as refused:
            align(first, second)
        assert refused.value.code == code
    heads = [{"num_attention_heads": 8, "num_key_value_heads": count} for count in (4, 2)]
    with pytest.raises(ComputeError) as refused:
        align(llama(1), llama(2), configs=heads)
    assert refused.value.code == "architecture_mismatch"


@pytest.mark.parametrize(
    "shapes",
    [
        {"wte.weight": (50, 16), "ln.weight": (16,), "head.weight": (50, 16)},
        {"layer1.0.conv1.weight": (8, 8, 3, 3), "layer1.0.conv2.weight": (8, 8, 3, 3)},
        {"query.weight": (8, 8), "value.weight": (8, 8)},
        {"fc1.weight": (8, 4), "fc2.weight": (3, 9)},
        {"only.weight": (8, 4)},
    ],
    ids=["embeddings", "deep names", "no order", "no chain", "one layer"],
)
def test_networks_that_are_no_plain_chain_need_a_spec(shapes: dict[str, tuple[int, ...]]) -> None:
    model = {name: torch.randn(shape) for name, shape in shapes.items()}
    with pytest.raises(ComputeError) as refused:
        align(model, model)
    assert (refused.value.code, refused.value.field) == ("unsupported_architecture", "align.spec")
    assert refused.value.fix


def test_weights_that_are_not_finite_are_named() -> None:
    model = weights(network(mlp(), 1))
    broken = {name: tensor.clone() for name, tensor in model.items()}
    broken["layers.0.weight"][0, 3] = math.nan
    with pytest.raises(ComputeError, match=r"'layers\.0\.weight' is not finite at index 3"):
        align(model, broken)
