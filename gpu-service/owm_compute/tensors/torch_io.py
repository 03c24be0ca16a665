"""Moves whole tensors between safetensors files and torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from owm_compute.errors import ComputeError
from owm_compute.tensors.reader import TensorSet
from owm_compute.tensors.writer import SafetensorsWriter, TensorSpec, layout

TORCH_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
FLOAT8_DTYPES: dict[str, torch.dtype] = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}
_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def load_tensor(source: TensorSet, name: str) -> torch.Tensor:
    """One tensor in its stored dtype and shape; `tensor_dtype_mismatch` for a dtype torch has no use for here."""
    info = source[name]
    dtype = TORCH_DTYPES.get(info.dtype)
    if dtype is None:
        raise ComputeError("tensor_dtype_mismatch", f"tensor {name!r} has dtype {info.dtype}", field=name)
    tensor = torch.empty(info.count, dtype=dtype)
    if info.nbytes:
        source.read_into(name, 0, bytes_of(tensor))
    return tensor.view(info.shape)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> tuple[str, int]:
    """Writes tensors (any device, any strides) with metadata `{"format": "pt"}`; SHA-256 (hex) and size."""
    specs = {name: TensorSpec(_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    with SafetensorsWriter(path, specs, {"format": "pt"}) as writer:
        for name in layout(specs):
            if specs[name].nbytes:
                writer.write(bytes_of(tensors[name].detach().cpu().contiguous()))
        return writer.finish()
