"""NumPy's `.npz` archives as a source of operands: headers are matched, never evaluated, and nothing is unpickled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from owm_compute.tensors.archive import Archive, Member
from owm_compute.tensors.dtypes import BITS
from owm_compute.tensors.extents import (
    ColumnMajorOperand,
    ImportedSource,
    PlainOperand,
    ShiftedExtent,
    import_invalid,
    unsupported,
)
from owm_compute.tensors.header import MAX_INT, MAX_RANK, HeaderError, check_name
from owm_compute.tensors.operand import Operand, Source

MAX_HEADER_BYTES = 65_535
# The exact text that NumPy writes; nothing of it is ever given to an interpreter.
_HEADER = re.compile(
    rb"\{'descr': (?:'([^']{1,20})'|(.+)), 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\),? ?\} *\n", re.DOTALL
)
_SHAPE = re.compile(rb"(?:[0-9]{1,19}(?:, [0-9]{1,19})+|[0-9]{1,19},|)")
DTYPES = {
    "|b1": "BOOL",
    "|u1": "U8",
    "|i1": "I8",
    "<i2": "I16",
    "<u2": "U16",
    "<f2": "F16",
    "<i4": "I32",
    "<u4": "U32",
    "<f4": "F32",
    "<f8": "F64",
    "<i8": "I64",
    "<u8": "U64",
}


def open_npz(files: Iterable[tuple[str, Path, str]], *, label: str) -> Source:
    """The arrays of `.npz` files, given as (label, path, SHA-256), by their names in the archive.

    Raises `ComputeError`: `import_invalid` for a bad file, `tensor_dtype_mismatch` for what is no array of
    little-endian numbers (objects, structures, text), naming it.
    """
    operands: dict[str, Operand] = {}
    with ExitStack() as stack:
        for name, path, sha256 in files:
            archive = Archive(path, label=name)
            stack.callback(archive.close)
            for member in archive.members.values():
                tensor = member.name.removesuffix(".npy")
                if tensor == member.name or tensor in operands:
                    raise import_invalid(name, f"{member.name!r} is no .npy file, or stands twice")
                operands[tensor] = _operand(archive, member, tensor, label, f"{sha256}:{tensor}")
        return ImportedSource(label, operands, stack.pop_all().close)


def _operand(archive: Archive, member: Member, name: str, model: str, identity: str) -> Operand:
    try:
        check_name(name)
    except HeaderError as error:
        raise import_invalid(archive.label, error.message) from None
    head = archive.head(member, MAX_HEADER_BYTES + 12)
    version, long = head[6:8], head[6:7] != b"\x01"
    begin = 12 if long else 10
    length = int.from_bytes(head[8:begin], "little")
    if head[:6] != b"\x93NUMPY" or version not in (b"\x01\0", b"\x02\0", b"\x03\0") or begin + length > len(head):
        raise import_invalid(archive.label, f"{member.name!r} has no .npy header")
    match = _HEADER.fullmatch(head[begin : begin + length])
    if match is None or not _SHAPE.fullmatch(match[4]):
        raise import_invalid(archive.label, f"{member.name!r} has no .npy header that NumPy would write")
    dtype = DTYPES.get(match[1].decode("latin-1")) if match[1] else None
    if dtype is None:
        raise unsupported(archive.label, name, f"is of type {(match[1] or match[2])[:40].decode('latin-1')!r}")
    shape = tuple(int(dim) for dim in match[4].replace(b" ", b"").split(b",") if dim)
    size = math.prod(shape) * (BITS[dtype] // 8)
    if len(shape) > MAX_RANK or math.prod(dim for dim in shape if dim) > MAX_INT:
        raise import_invalid(archive.label, f"{member.name!r} has the shape {list(shape)[:16]}")
    if begin + length + size != member.size:
        raise import_invalid(archive.label, f"{member.name!r} has {member.size - begin - length} bytes, not {size}")
    data = ShiftedExtent(archive.extent(member), begin + length)
    plain = PlainOperand(data, dtype, shape, label=f"{model}: {name}", identity=identity)
    return ColumnMajorOperand(plain) if match[3] == b"True" and len(shape) > 1 else plain
