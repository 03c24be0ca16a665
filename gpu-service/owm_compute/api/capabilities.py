"""What this service can do: kinds with the schema of their specs, architectures, devices, limits, versions."""

from __future__ import annotations

import platform
from typing import Any

from pydantic import BaseModel

from owm_compute import __version__
from owm_compute.models.config import ARCHITECTURES, MAX_PARAMETERS, CnnConfig, MlpConfig
from owm_compute.service import Service
from owm_compute.specs import SPECS
from owm_compute.tensors.header import MAX_HEADER_BYTES

MAX_BODY_BYTES = 2**20


class KindCapability(BaseModel):
    """One kind of job; `spec_schema` is a JSON Schema."""

    kind: str
    spec_schema: dict[str, Any]


class ArchitectureCapability(BaseModel):
    """One architecture; `config_schema` is the JSON Schema of its config.json."""

    name: str
    config_schema: dict[str, Any]


class Capabilities(BaseModel):
    """The whole answer."""

    kinds: list[KindCapability]
    architectures: list[ArchitectureCapability]
    devices: list[str]
    sandbox: list[str]
    limits: dict[str, int]
    versions: dict[str, str]


def capabilities(service: Service) -> Capabilities:
    """The answer of a running service; torch and sandbox are known once the fork server is warm."""
    settings = service.settings
    configs: dict[str, type[BaseModel]] = dict(zip(ARCHITECTURES, (MlpConfig, CnnConfig), strict=True))
    return Capabilities(
        kinds=[KindCapability(kind=kind, spec_schema=spec.model_json_schema()) for kind, spec in SPECS.items()],
        architectures=[
            ArchitectureCapability(name=name, config_schema=config.model_json_schema())
            for name, config in configs.items()
        ],
        devices=[service.device],
        sandbox=service.spawner.protections,
        limits={
            "slots": settings.slots,
            "max_queue": settings.max_queue,
            "timeout_s": settings.max_timeout_s,
            "memory_bytes": settings.max_memory_bytes,
            "body_bytes": MAX_BODY_BYTES,
            "header_bytes": MAX_HEADER_BYTES,
            "parameters": MAX_PARAMETERS,
        },
        versions={
            "owm_compute": __version__,
            "torch": service.spawner.torch_version,
            "python": platform.python_version(),
        },
    )
