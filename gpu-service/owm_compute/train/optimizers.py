"""The optimisers a training may use, by name and with bounded numbers."""

from __future__ import annotations

import torch
from torch import nn

from owm_compute.specs import OptimizerSpec as Optimizer

__all__ = ["Optimizer", "build_optimizer"]


def build_optimizer(module: nn.Module, choice: Optimizer) -> torch.optim.Optimizer:
    """The torch optimiser of a choice; `momentum` only counts for the optimiser of that name."""
    parameters = module.parameters()
    if choice.name == "sgd":
        return torch.optim.SGD(parameters, lr=choice.lr, weight_decay=choice.weight_decay)
    if choice.name == "momentum":
        return torch.optim.SGD(parameters, lr=choice.lr, momentum=choice.momentum, weight_decay=choice.weight_decay)
    if choice.name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=choice.lr, weight_decay=choice.weight_decay)
    return torch.optim.Adam(parameters, lr=choice.lr, weight_decay=choice.weight_decay)
