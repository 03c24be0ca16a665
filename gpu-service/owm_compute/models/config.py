"""`config.json` of an allow-listed architecture, bounded before any memory is asked for."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from owm_compute.errors import ComputeError

MAX_PARAMETERS = 2_000_000_000
MAX_CONFIG_BYTES = 1_000_000
ARCHITECTURES = ("OwmMLP", "OwmCNN")
# Fields that stock clients add and that change nothing about what is computed.
_INERT_FIELDS = frozenset({"torch_dtype", "dtype", "transformers_version", "id2label", "label2id", "_name_or_path"})

Activation = Literal["relu", "tanh", "gelu"]
Width = Annotated[int, Field(ge=1, le=65_536)]


class _Config(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    num_labels: Annotated[int, Field(ge=2, le=10_000)]
    activation: Activation = "relu"


class MlpConfig(_Config):
    """A multi-layer perceptron: `input_size` → `hidden_sizes` → `num_labels`."""

    architectures: Annotated[list[Literal["OwmMLP"]], Field(min_length=1, max_length=1)]
    model_type: Literal["owm_mlp"]
    input_size: Width
    hidden_sizes: Annotated[list[Width], Field(max_length=64)]

    @property
    def feature_count(self) -> int:
        """Numbers in one sample."""
        return self.input_size

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor, in layer order."""
        widths = [self.input_size, *self.hidden_sizes, self.num_labels]
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            shapes[f"layers.{i}.weight"] = (fan_out, fan_in)
            shapes[f"layers.{i}.bias"] = (fan_out,)
        return shapes


class CnnConfig(_Config):
    """3×3 convolutions (padding 1), each with activation and 2×2 max-pooling, then `fc`, activation and `head`."""

    architectures: Annotated[list[Literal["OwmCNN"]], Field(min_length=1, max_length=1)]
    model_type: Literal["owm_cnn"]
    image_size: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=2, max_length=2)]
    in_channels: Annotated[int, Field(ge=1, le=64)]
    channels: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1, max_length=10)]
    hidden_size: Width

    @property
    def feature_count(self) -> int:
        """Numbers in one sample, channel by channel, row by row."""
        return self.in_channels * self.image_size[0] * self.image_size[1]

    @property
    def pooled_size(self) -> tuple[int, int]:
        """Height and width after every pooling (each halves, rounding down)."""
        halvings = len(self.channels)
        return self.image_size[0] >> halvings, self.image_size[1] >> halvings

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor, in layer order."""
        shapes: dict[str, tuple[int, ...]] = {}
        depths = [self.in_channels, *self.channels]
        for i, (fan_in, fan_out) in enumerate(pairwise(depths)):
            shapes[f"conv.{i}.weight"] = (fan_out, fan_in, 3, 3)
            shapes[f"conv.{i}.bias"] = (fan_out,)
        height, width = self.pooled_size
        shapes["fc.weight"] = (self.hidden_size, self.channels[-1] * height * width)
        shapes["fc.bias"] = (self.hidden_size,)
        shapes["head.weight"] = (self.num_labels, self.hidden_size)
        shapes["head.bias"] = (self.num_labels,)
        return shapes


ModelConfig = MlpConfig | CnnConfig
_ADAPTER: TypeAdapter[MlpConfig | CnnConfig] = TypeAdapter(
    Annotated[MlpConfig | CnnConfig, Field(discriminator="model_type")]
)


def parameter_count(config: ModelConfig) -> int:
    """How many numbers the model holds."""
    return sum(math.prod(shape) for shape in config.tensor_shapes().values())


def parse_config(document: Any, *, field: str = "config") -> ModelConfig:
    """A checked configuration from parsed JSON.

    Raises `ComputeError`: `unsupported_architecture` for anything outside the allow-list or asking for remote code,
    `config_invalid` for a known architecture with bad numbers, `model_too_large` past `MAX_PARAMETERS`.
    """
    if not isinstance(document, dict):
        raise ComputeError("config_invalid", "the configuration is not a JSON object", field=field)
    if "auto_map" in document or document.get("trust_remote_code"):
        raise ComputeError(
            "unsupported_architecture",
            "the configuration asks for code from the repository, which is never run",
            field=f"{field}.auto_map",
            fix=f"remove auto_map and use one of {', '.join(ARCHITECTURES)}",
        )
    names = document.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or names[0] not in ARCHITECTURES:
        raise ComputeError(
            "unsupported_architecture",
            f"architectures is {json.dumps(names)[:200]}, not one of {', '.join(ARCHITECTURES)}",
            field=f"{field}.architectures",
            fix=f"use one of {', '.join(ARCHITECTURES)}",
        )
    known = {key: value for key, value in document.items() if key not in _INERT_FIELDS}
    try:
        config = _ADAPTER.validate_python(known)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([field, *(str(part) for part in first["loc"][1:])])
        raise ComputeError("config_invalid", first["msg"], field=place) from None
    if isinstance(config, CnnConfig) and min(config.pooled_size) < 1:
        raise ComputeError(
            "config_invalid",
            f"{len(config.channels)} poolings leave nothing of an image of {config.image_size}",
            field=f"{field}.channels",
            fix="use fewer convolutions or a larger image",
        )
    if parameter_count(config) > MAX_PARAMETERS:
        raise ComputeError(
            "model_too_large",
            f"{parameter_count(config)} parameters are more than {MAX_PARAMETERS}",
            field=field,
        )
    return config


def parse_config_bytes(raw: bytes, *, field: str = "config.json") -> ModelConfig:
    """`parse_config` of the bytes of a file; also refuses bytes that are no JSON (`config_invalid`)."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise ComputeError("config_invalid", f"the file is larger than {MAX_CONFIG_BYTES} bytes", field=field)
    try:
        document = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ComputeError("config_invalid", f"the file is no JSON: {error}", field=field) from None
    return parse_config(document, field=field)
