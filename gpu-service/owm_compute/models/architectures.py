"""The torch modules of the allow-listed architectures; their tensor names are the published ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from owm_compute.models.config import CnnConfig, MlpConfig, ModelConfig

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    # The exact form with the error function, not the tanh approximation.
    "gelu": nn.functional.gelu,
}


class OwmMLP(nn.Module):
    """Linear layers with an activation between them. Input (n, input_size), output logits (n, num_labels)."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        widths = [config.input_size, *config.hidden_sizes, config.num_labels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self._activation = _ACTIVATIONS[config.activation]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            features = layer(features)
            if i < last:
                features = self._activation(features)
        return features


class OwmCNN(nn.Module):
    """Convolution → activation → 2×2 max-pooling, repeated; then fc → activation → head.

    Input (n, in_channels·height·width), channel by channel and row by row; output logits (n, num_labels).
    """

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        depths = [config.in_channels, *config.channels]
        self.conv = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(depths))
        height, width = config.pooled_size
        self.fc = nn.Linear(config.channels[-1] * height * width, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self._activation = _ACTIVATIONS[config.activation]
        self._input_shape = (config.in_channels, config.image_size[0], config.image_size[1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        maps = features.view(-1, *self._input_shape)
        for layer in self.conv:
            maps = nn.functional.max_pool2d(self._activation(layer(maps)), 2)
        hidden = self._activation(self.fc(maps.flatten(1)))
        logits: torch.Tensor = self.head(hidden)
        return logits


def empty_model(config: ModelConfig) -> nn.Module:
    """The module of a configuration with unset parameters on the CPU, in float32."""
    with torch.device("meta"):
        module: nn.Module = OwmMLP(config) if isinstance(config, MlpConfig) else OwmCNN(config)
    return module.to_empty(device="cpu")
