"""What the edge must know to foresee a merge's operands: `python -m owm_compute sources > sources.json` writes it."""

from __future__ import annotations

import json

from owm_compute.tensors.adapter import UNSUPPORTED
from owm_compute.tensors.fp8 import FLOAT_QUANTIZATIONS, SCALE_SUFFIXES, WEIGHTS
from owm_compute.tensors.gguf_blocks import TYPES
from owm_compute.tensors.gguf_names import ARCHITECTURES, DERIVED, LAYER_NAMES, NAMES


def render() -> str:
    """The text of the committed file."""
    table = {
        "fp8": {
            "dtypes": sorted(WEIGHTS),
            "scale_suffixes": SCALE_SUFFIXES,
            "quantizations": sorted(FLOAT_QUANTIZATIONS),
        },
        "gguf": {
            "types": {
                number: {"elements": kind.elements, "bytes": kind.size, "dtype": kind.dtype or "F16"}
                for number, kind in TYPES.items()
            },
            "architectures": sorted(ARCHITECTURES),
            "names": NAMES,
            "layer_names": LAYER_NAMES,
            "derived": sorted(DERIVED),
        },
        "adapter": {"unsupported": UNSUPPORTED},
    }
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
