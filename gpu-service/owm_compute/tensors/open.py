"""Opens one model of a merge from the job's input files, whatever its format, with its adapter on top."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from owm_compute.errors import ComputeError
from owm_compute.merge.program import SourceSpec
from owm_compute.models.config import MAX_CONFIG_BYTES
from owm_compute.tensors.adapter import apply_adapter, parse_adapter_config
from owm_compute.tensors.folders import Folders
from owm_compute.tensors.fp8 import FLOAT_QUANTIZATIONS, block_size, dequantised
from owm_compute.tensors.gguf import GgufSource
from owm_compute.tensors.gguf_names import hugging_face_names
from owm_compute.tensors.hdf5 import open_hdf5, open_keras
from owm_compute.tensors.npz import open_npz
from owm_compute.tensors.operand import Source
from owm_compute.tensors.safetensors_source import SafetensorsSource

Files = list[tuple[str, Path, str]]


class InputFiles(Protocol):
    """The input files of a job, by name."""

    def path(self, name: str) -> Path:
        """Where it lies, once all of it is there; `input_missing` when the job has no such input."""

    def arriving(self, name: str) -> Path:
        """Where it lies, perhaps in part: for readers that call `await_bytes` before each range."""

    def sha256(self, name: str) -> str:
        """Its digest."""


def open_source(spec: SourceSpec, inputs: InputFiles) -> Source:
    """The model's tensors, 8-bit floats dequantised and the adapter applied; close it when the merge is done.

    Raises `ComputeError` for a bad file, configuration or adapter, and `quantization_unsupported` for weights in
    packed integers (GPTQ, AWQ, bitsandbytes), which have no values of their own to merge.
    """
    with ExitStack() as opened:
        open_files = _FORMATS[spec.format]
        source: Source = (
            Folders(
                {
                    folder: opened.enter_context(open_files(_files(names, inputs), spec, inputs))
                    for folder, names in spec.folders.items()
                },
                label=spec.label,
            )
            if spec.folders
            else opened.enter_context(open_files(_files(spec.weights, inputs), spec, inputs))
        )
        if spec.adapter is not None:
            config = parse_adapter_config(read_json(spec.adapter.config, inputs))
            weights = SafetensorsSource(_files(spec.adapter.weights, inputs), label=f"{spec.label} (adapter)")
            source = apply_adapter(source, opened.enter_context(weights), config)
        opened.pop_all()
    return source


def read_json(name: str, inputs: InputFiles) -> dict[str, Any]:
    """An input that is a configuration: a JSON object of bounded size, else `config_invalid`."""
    path = inputs.path(name)
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ComputeError("config_invalid", f"{name} is larger than {MAX_CONFIG_BYTES} bytes", field=name)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ComputeError("config_invalid", f"{name} is no JSON: {error}", field=name) from None
    if not isinstance(document, dict):
        raise ComputeError("config_invalid", f"{name} is no JSON object", field=name)
    return document


def _files(names: list[str], inputs: InputFiles) -> Files:
    return [(name, inputs.arriving(name), inputs.sha256(name)) for name in names]


def _safetensors(files: Files, spec: SourceSpec, inputs: InputFiles) -> Source:
    config = {} if spec.config is None else read_json(spec.config, inputs)
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if method is not None and method not in FLOAT_QUANTIZATIONS:
        raise ComputeError(
            "quantization_unsupported",
            f"{spec.label} is quantised with {str(method)[:40]}, whose packed weights can't be merged",
            field="quantization_config.quant_method",
            fix="give the model before it was quantised, or as GGUF",
        )
    with ExitStack() as opened:
        source = dequantised(opened.enter_context(SafetensorsSource(files, label=spec.label)), block_size(config))
        opened.pop_all()
    return source


def _gguf(files: Files, spec: SourceSpec, inputs: InputFiles) -> Source:
    with ExitStack() as opened:
        source = hugging_face_names(opened.enter_context(GgufSource(files, label=spec.label)))
        opened.pop_all()
    return source


def _complete(open_files: Callable[..., Source]) -> Callable[[Files, SourceSpec, InputFiles], Source]:
    """For formats whose structure is spread over the file: opened once all of it is there."""

    def open_complete(files: Files, spec: SourceSpec, inputs: InputFiles) -> Source:
        return open_files([(name, inputs.path(name), sha256) for name, _, sha256 in files], label=spec.label)

    return open_complete


_FORMATS: dict[str, Callable[[Files, SourceSpec, InputFiles], Source]] = {
    "safetensors": _safetensors,
    "gguf": _gguf,
    "npz": _complete(open_npz),
    "h5": _complete(open_hdf5),
    "keras": _complete(open_keras),
}
