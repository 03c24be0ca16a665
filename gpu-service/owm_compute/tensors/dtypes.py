"""The element types a safetensors file may hold, in the order the format ranks them."""

from __future__ import annotations

# Bits of one element. The order is the format's own: writers place higher types first, so it decides the layout.
BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
RANK: dict[str, int] = {name: rank for rank, name in enumerate(BITS)}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
EXACT = frozenset({"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64"})
