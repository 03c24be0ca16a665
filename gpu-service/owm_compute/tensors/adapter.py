"""A PEFT LoRA adapter on its base model, applied while the base is read: W + scale·B·A, never materialised.

The product is accumulated over the rank in order, each multiplication and addition rounded on its own in the dtype of
the sum: the values do not depend on how a tensor is cut, nor on the linear algebra library of the machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.dtypes import FLOATS
from owm_compute.tensors.operand import Operand, Overlay, Source, derived
from owm_compute.tensors.pieces import PIECE, read_wide, rectangles

MAX_RANK = 1024
_PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B)(?:\.default)?(?:\.(weight|bias))?")
# Settings of PEFT that change neither which weights an adapter has nor what is done with them.
_INERT = frozenset(
    [
        "arrow_config",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    ]
)
_READ = frozenset(
    ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out", "init_lora_weights"]
)
UNSUPPORTED = {
    "use_dora": "DoRA rescales whole columns of the weight",
    "use_qalora": "QA-LoRA pools the inputs",
    "alora_invocation_tokens": "an activated LoRA acts on some tokens only, which no weight can express",
    "layer_replication": "it makes a model of more layers than the base has",
    "trainable_token_indices": "it replaces single rows of the embedding",
    "target_parameters": "it targets parameters, not modules",
}
# These leave the base model's own weights as they are; PiSSA, OLoRA, CorDA and LoftQ do not.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterConfig:
    """What `adapter_config.json` says about the arithmetic."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, float] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilized: bool = False
    fan_in_fan_out: bool = False
    modules_to_save: tuple[str, ...] = ()

    def scale(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / √r when rank-stabilised; `adapter_invalid` when the rank is not the configured one."""
        configured = _of_module(self.rank_pattern, module, self.rank)
        if rank != configured:
            raise _invalid(f"the adapter of {module} has rank {rank}, its configuration says {configured:g}")
        return _of_module(self.alpha_pattern, module, self.alpha) / (math.sqrt(rank) if self.rank_stabilized else rank)


def parse_adapter_config(config: Mapping[str, Any]) -> AdapterConfig:
    """A checked `adapter_config.json`.

    Raises `ComputeError`: `adapter_invalid` when it is none, `adapter_unsupported` (with the reason) for an adapter
    that is more than W + scale·B·A, or that may be.
    """
    if config.get("peft_type") != "LORA":
        raise _unsupported("peft_type", f"the adapter is of type {str(config.get('peft_type'))[:40]!r}, not LORA")
    for key, value in config.items():
        if key not in _INERT and key not in _READ and value not in (None, False, [], {}, ""):
            raise _unsupported(key, UNSUPPORTED.get(key, "the setting is not known here and may change the weights"))
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise _unsupported("init_lora_weights", "the adapter started from changed weights of the base model")
    return AdapterConfig(
        rank=int(_number(config, "r", 8)),
        alpha=_number(config, "lora_alpha", 8),
        rank_pattern=_pattern(config, "rank_pattern"),
        alpha_pattern=_pattern(config, "alpha_pattern"),
        rank_stabilized=_flag(config, "use_rslora"),
        fan_in_fan_out=_flag(config, "fan_in_fan_out"),
        modules_to_save=_names(config, "modules_to_save"),
    )


class LowRankOperand:
    """W + scale·L·R, where row i of L (rank numbers) goes with row i of W, and R has the columns of W.

    W of any float dtype and shape, its first axis the rows. `left` is [rows, rank] and `right` [rank, columns]; when
    `turned`, they are [rank, rows] and [columns, rank]. Values are F32 (F64 where W is).
    """

    def __init__(
        self, base: Operand, left: Operand, right: Operand, scale: float, rank: int, *, turned: bool = False
    ) -> None:
        self._base = base
        self._left = left
        self._right = right
        self._scale = scale
        self._rank = rank
        self._turned = turned
        self._columns = math.prod(base.shape[1:])
        self.label = base.label
        self.dtype = "F64" if base.dtype == "F64" else "F32"
        self.stored = base.stored
        self.shape = base.shape
        self.identity = derived("lora", base.identity, left.identity, right.identity, scale, turned)

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from `start` on, the adapter applied."""
        read_wide(self._base, start, out)
        scratch = torch.empty(2 * min(PIECE, len(out)), dtype=out.dtype)
        window = None
        for piece in rectangles(start, len(out), self._columns):
            if window != (piece.column, piece.columns):
                window = (piece.column, piece.columns)
                right = self._factor(self._right, *window, not self._turned, out.dtype)
            # As many rows at once as keep the left factor small whatever the rank.
            step = max(1, 2**20 // self._rank)
            for first in range(0, piece.rows, step):
                rows = min(step, piece.rows - first)
                left = self._factor(self._left, piece.row + first, rows, self._turned, out.dtype)
                count = rows * piece.columns
                at = piece.at + first * piece.columns
                total, term = scratch[: 2 * count].view(2, rows, piece.columns)
                torch.mul(left[0].unsqueeze(1), right[0], out=total)
                for k in range(1, self._rank):
                    torch.mul(left[k].unsqueeze(1), right[k], out=term)
                    total.add_(term)
                out[at : at + count].add_(total.mul_(self._scale).view(-1))

    def _factor(self, operand: Operand, first: int, count: int, by_rank: bool, dtype: torch.dtype) -> torch.Tensor:
        """Columns [first, first + count) of a factor as [rank, count]; `by_rank` says that it is stored that way."""
        if not by_rank:
            stored = torch.empty(count * self._rank, dtype=dtype)
            read_wide(operand, first * self._rank, stored)
            return stored.view(count, self._rank).t().contiguous()
        factor = torch.empty(self._rank, count, dtype=dtype)
        length = math.prod(operand.shape) // self._rank
        for k in range(self._rank):
            read_wide(operand, k * length + first, factor[k])
        return factor


class ScaledSum:
    """A bias with what the adapter adds to it: b + scale·d, both of the same length."""

    def __init__(self, base: Operand, added: Operand, scale: float) -> None:
        self._base = base
        self._added = added
        self._scale = scale
        self.label = base.label
        self.dtype = "F64" if base.dtype == "F64" else "F32"
        self.stored = base.stored
        self.shape = base.shape
        self.identity = derived("lora bias", base.identity, added.identity, scale)

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fills `out` with the elements from `start` on."""
        read_wide(self._base, start, out)
        added = torch.empty_like(out)
        read_wide(self._added, start, added)
        out.add_(added.mul_(self._scale))


class AdaptedSource(Overlay):
    """A base model with an adapter on it; both are closed together."""

    def __init__(self, base: Source, adapter: Source, replaced: Mapping[str, Operand]) -> None:
        super().__init__(base, replaced)
        self._adapter = adapter

    def close(self) -> None:
        """Releases the base model and the adapter."""
        super().close()
        self._adapter.close()


def apply_adapter(base: Source, adapter: Source, config: AdapterConfig) -> Source:
    """The base with every tensor of the adapter applied.

    Low-rank pairs are added; whole tensors (modules_to_save, trained biases) take the place of the base's. Raises
    `adapter_invalid` for a tensor that belongs to none of the base, and for shapes or ranks that do not fit:
    nothing of an adapter is left out.
    """
    pairs: dict[str, dict[str, Operand]] = {}
    whole: dict[str, Operand] = {}
    for key, operand in adapter.items():
        if operand.dtype not in FLOATS:
            raise _invalid(f"{operand.label} is {operand.dtype}, not a float", key)
        name = key.removeprefix(_PREFIX)
        match = _LORA.fullmatch(name)
        if match is not None:
            pairs.setdefault(match[1], {})[match[2] + (".bias" if match[3] == "bias" else "")] = operand
            continue
        target = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
        target = target.replace(".base_layer.", ".")
        saved = any(f".{module}." in f".{target}" for module in config.modules_to_save)
        if target not in base and not saved:
            raise _invalid(f"tensor {key!r} of the adapter belongs to no tensor of {base.label}", key)
        whole[target] = operand
    replaced = dict(whole)
    below = Overlay(base, whole)
    for module, parts in pairs.items():
        replaced.update(_applied(module, parts, below, config))
    return AdaptedSource(base, adapter, replaced)


def _applied(
    module: str, parts: Mapping[str, Operand], base: Mapping[str, Operand], config: AdapterConfig
) -> dict[str, Operand]:
    embedding = "lora_embedding_A" in parts
    first, second = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    if not {first, second} <= set(parts) <= {first, second, "lora_B.bias"}:
        raise _invalid(f"the adapter of {module} has {', '.join(sorted(parts))}: no pair of A and B", module)
    name = f"{module}.weight"
    weight = base.get(name)
    if weight is None:
        raise _invalid(f"the adapter changes {name}, which the base model does not have (or has tied)", module)
    a, b = parts[first], parts[second]
    # Embeddings and GPT-2's Conv1D hold their weight transposed, so A goes with its rows and B with its columns.
    turned = embedding or config.fan_in_fan_out
    rank = a.shape[0] if a.shape else 0
    inputs, outputs = math.prod(a.shape[1:]), b.shape[0] if b.shape else 0
    rows, columns = (inputs, outputs) if turned else (outputs, inputs)
    if (
        not 1 <= rank <= MAX_RANK
        or math.prod(b.shape) != outputs * rank
        or len(weight.shape) < 2
        or (weight.shape[0], math.prod(weight.shape[1:])) != (rows, columns)
    ):
        raise _invalid(
            f"the adapter of {module} has A {list(a.shape)} and B {list(b.shape)}, the weight is {list(weight.shape)}",
            module,
        )
    if weight.dtype not in FLOATS:
        raise _invalid(f"the adapter changes {name}, which is {weight.dtype}", module)
    scale = config.scale(module, rank)
    left, right = (a, b) if turned else (b, a)
    applied: dict[str, Operand] = {name: LowRankOperand(weight, left, right, scale, rank, turned=turned)}
    if "lora_B.bias" in parts:
        bias, added = base.get(f"{module}.bias"), parts["lora_B.bias"]
        if bias is None or bias.shape != added.shape:
            raise _invalid(f"the adapter changes {module}.bias, which the base model does not have", module)
        applied[f"{module}.bias"] = ScaledSum(bias, added, scale)
    return applied


def _of_module(pattern: Mapping[str, float], module: str, default: float) -> float:
    for name, value in pattern.items():
        if module == name or module.endswith(f".{name}"):
            return value
    return default


def _pattern(config: Mapping[str, Any], key: str) -> dict[str, float]:
    """Module name → number. PEFT matches the names as regular expressions; only plain names are taken."""
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise _invalid(f"{key} is no object", key)
    for name in found:
        if not re.fullmatch(r"[\w.-]+", name):
            raise _unsupported(key, f"{name[:80]!r} is a regular expression, not the name of a module")
    return {name: _number(found, name, 0) for name in found}


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
        raise _invalid(f"{key} is no number of 0 to 10⁹", key)
    return float(value)


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key) or False
    if not isinstance(value, bool):
        raise _invalid(f"{key} is neither true nor false", key)
    return value


def _names(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _invalid(f"{key} is no list of names", key)
    return tuple(value)


def _invalid(message: str, place: str = "adapter") -> ComputeError:
    return ComputeError("adapter_invalid", message, field=place, fix="give the adapter that was trained on this model")


def _unsupported(place: str, reason: str) -> ComputeError:
    return ComputeError(
        "adapter_unsupported",
        f"the adapter can't be added to the weights: {place}: {reason}",
        field=place,
        fix="merge the adapter into its base model with PEFT and give the result",
    )
