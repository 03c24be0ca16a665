"""Loads a model from checked files: every tensor by name, shape and finiteness before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from owm_compute.errors import ComputeError
from owm_compute.models.architectures import empty_model
from owm_compute.models.config import ModelConfig, parse_config_bytes
from owm_compute.tensors.dtypes import FLOATS
from owm_compute.tensors.reader import TensorSet
from owm_compute.tensors.torch_io import load_tensor


@dataclass(frozen=True)
class Model:
    """A configuration and its module in evaluation mode."""

    config: ModelConfig
    module: nn.Module

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Logits, shape (n, num_labels), of one batch of `features`, shape (n, feature_count), already scaled."""
        reference = next(self.module.parameters())
        with torch.inference_mode():
            batch = torch.from_numpy(features).to(reference.device, reference.dtype)
            return np.asarray(self.module(batch).double().cpu().numpy())

    def predict(self, features: npt.NDArray[np.float32], batch_size: int = 256) -> npt.NDArray[np.float64]:
        """Logits, shape (n, num_labels), of any number of rows (n ≥ 1), computed in batches."""
        starts = range(0, len(features), batch_size)
        return np.concatenate([self.logits(features[start : start + batch_size]) for start in starts])


def load_model(
    config: ModelConfig,
    weights: Sequence[tuple[str, Path]],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Model:
    """A model from its configuration and its shards, given as (name for messages, path).

    Raises `ComputeError`: `safetensors_invalid`, `tensor_missing`, `tensor_unexpected`, `tensor_shape_mismatch`,
    `tensor_dtype_mismatch` (not a float dtype) or `non_finite` (names the tensor and the flat index).
    """
    expected = config.tensor_shapes()
    with TensorSet(weights) as source:
        for name, shape in expected.items():
            if name not in source:
                raise ComputeError("tensor_missing", f"{source.label} lacks tensor {name!r}", field=name)
            if source[name].shape != shape:
                raise ComputeError(
                    "tensor_shape_mismatch",
                    f"tensor {name!r} has shape {list(source[name].shape)}, the configuration needs {list(shape)}",
                    field=name,
                )
            if source[name].dtype not in FLOATS:
                raise ComputeError(
                    "tensor_dtype_mismatch", f"tensor {name!r} has dtype {source[name].dtype}", field=name
                )
        for name in source:
            if name not in expected:
                raise ComputeError("tensor_unexpected", f"tensor {name!r} is not part of the architecture", field=name)
        module = empty_model(config)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                tensor = load_tensor(source, name)
                require_finite(name, tensor)
                parameter.copy_(tensor)
    return Model(config, module.to(device=device, dtype=dtype).eval())


def load_directory(directory: Path) -> Model:
    """A model from a directory with `config.json` and `model.safetensors`; errors as `load_model`."""
    config = parse_config_bytes((directory / "config.json").read_bytes())
    return load_model(config, [("model.safetensors", directory / "model.safetensors")])


def require_finite(name: str, tensor: torch.Tensor) -> None:
    """Raises `non_finite` naming the tensor and the flat index of its first NaN or infinity."""
    finite = torch.isfinite(tensor).view(-1)
    if not bool(finite.all()):
        index = int((~finite).nonzero()[0])
        raise ComputeError("non_finite", f"tensor {name!r} is not finite at index {index}", field=name)
