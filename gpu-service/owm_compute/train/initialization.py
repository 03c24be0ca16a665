"""Initialisation schemes; every tensor draws from its own generator, so adding a layer changes no other one."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from torch import nn

InitScheme = Literal["he_normal", "xavier_uniform", "xavier_normal", "normal", "uniform", "default"]

NORMAL_STD = 0.05
UNIFORM_BOUND = 0.05


def named_seed(seed: int, name: str) -> int:
    """A seed for one named thing, from the seed of the whole."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little") >> 1


def initialize(module: nn.Module, scheme: InitScheme, seed: int) -> None:
    """Sets every parameter of `module` in place.

    Weights: He N(0, 2/fan_in), Xavier U(±√(6/(fan_in+fan_out))) or N(0, 2/(fan_in+fan_out)), N(0, 0.05²), U(±0.05),
    or torch's default U(±1/√fan_in). Biases are 0, except U(±1/√fan_in) under `default`.
    """
    fan_in = 1
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(named_seed(seed, name))
            if name.endswith(".weight"):
                field = math.prod(parameter.shape[2:])
                fan_in, fan_out = parameter.shape[1] * field, parameter.shape[0] * field
                _draw(parameter, scheme, fan_in, fan_out, generator)
            elif scheme == "default":
                bound = 1 / math.sqrt(fan_in)
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                parameter.zero_()


def _draw(parameter: torch.Tensor, scheme: InitScheme, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    if scheme == "he_normal":
        parameter.normal_(0, math.sqrt(2 / fan_in), generator=generator)
    elif scheme == "xavier_normal":
        parameter.normal_(0, math.sqrt(2 / (fan_in + fan_out)), generator=generator)
    elif scheme == "normal":
        parameter.normal_(0, NORMAL_STD, generator=generator)
    else:
        bound = {
            "xavier_uniform": math.sqrt(6 / (fan_in + fan_out)),
            "uniform": UNIFORM_BOUND,
            "default": 1 / math.sqrt(fan_in),
        }[scheme]
        parameter.uniform_(-bound, bound, generator=generator)
