"""The table of merge methods that the edge reads: `python -m owm_compute methods > methods.json` writes the copy."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import owm_compute.merge.methods as _registered  # noqa: F401
from owm_compute.merge.method import REGISTRY, Method


def render() -> str:
    """The text of the committed file: every method with its parameters, by name."""
    return json.dumps([_entry(REGISTRY[name]) for name in sorted(REGISTRY)], indent=2, ensure_ascii=False) + "\n"


def _entry(method: Method) -> dict[str, Any]:
    entry = asdict(method)
    del entry["prepare"], entry["output_shape"], entry["check"]
    return entry
