"""Reads the header of a safetensors file under strict rules, left to right, with one stable code per fault."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from json.decoder import JSONDecoder

from owm_compute.tensors.dtypes import BITS

MAX_HEADER_BYTES = 25_000_000
MAX_NAME_LENGTH = 512
MAX_RANK = 8
MAX_DIM = 2**32
MAX_INT = 2**53 - 1

_SPACE = re.compile(r"[ \t\n\r]*")
_INTEGER = re.compile(r"(?:0|[1-9][0-9]*)(?=[ \t\n\r,\]]|\Z)")
_FORBIDDEN_IN_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DECODER = JSONDecoder(strict=True)
_ESCAPE = re.compile(r"\\(?:u(.{0,4})|.)", re.DOTALL)
_FOUR_HEX = re.compile("[0-9A-Fa-f]{4}")
_FIELDS = ("dtype", "shape", "data_offsets")


class HeaderError(Exception):
    """The file breaks a rule; `code` is one of the `st.*` codes that the edge's parser shares."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `begin` and `end` are byte offsets from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return self.end - self.begin

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: tensors in the order of their data, which tiles [0, data_bytes) exactly."""

    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, str]
    header_bytes: int

    @property
    def data_start(self) -> int:
        """Byte offset of the data in the file."""
        return 8 + self.header_bytes

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.count for tensor in self.tensors)


def header_length(prefix: bytes, file_size: int) -> int:
    """The length of the header from the first eight bytes; raises `HeaderError` before anything is allocated."""
    if file_size < 8 or len(prefix) < 8:
        raise HeaderError("st.too_small", f"a file of {file_size} bytes has no header length")
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError("st.header_too_large", f"a header of {length} bytes is over {MAX_HEADER_BYTES}")
    if 8 + length > file_size:
        raise HeaderError("st.header_past_eof", f"a header of {length} bytes ends after the file")
    return length


def parse_header(raw: bytes, file_size: int) -> Header:
    """The checked header from its bytes (without the length prefix) and the size of the whole file."""
    if not raw.startswith(b"{"):
        raise HeaderError("st.json", "the header does not begin with {")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HeaderError("st.utf8", f"byte {error.start} of the header is not UTF-8") from None
    tensors, metadata = _Scanner(text).scan()
    ordered = tuple(sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)))
    for tensor in ordered:
        if tensor.begin > tensor.end:
            raise HeaderError("st.offsets", f"tensor {tensor.name!r} begins after it ends")
    for tensor in ordered:
        bits = tensor.count * BITS[tensor.dtype]
        if bits % 8 or bits // 8 != tensor.nbytes:
            raise HeaderError("st.size", f"tensor {tensor.name!r} has {tensor.nbytes} bytes, not {bits / 8:g}")
    position = 0
    for tensor in ordered:
        if tensor.begin != position:
            raise HeaderError("st.offsets", f"tensor {tensor.name!r} begins at {tensor.begin}, not {position}")
        position = tensor.end
    data_bytes = file_size - 8 - len(raw)
    if position > data_bytes:
        raise HeaderError("st.truncated", f"the tensors need {position} bytes, the file has {data_bytes}")
    if position < data_bytes:
        raise HeaderError("st.trailing_data", f"{data_bytes - position} bytes follow the last tensor")
    return Header(ordered, metadata, len(raw))


class _Scanner:
    """A scanner of just the JSON that a header may be, so that nothing it refuses is ever built in memory."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def scan(self) -> tuple[list[TensorInfo], dict[str, str]]:
        """Tensors and metadata of the top object; afterwards only spaces may follow."""
        tensors: list[TensorInfo] = []
        metadata: dict[str, str] = {}
        seen: set[str] = set()
        self.at = 1
        more = self._first_key()
        while more:
            name = self._key(seen)
            if name == "__metadata__":
                metadata = self._metadata()
            else:
                check_name(name)
                tensors.append(self._entry(name))
            more = self._next_key()
        if self.text[self.at :].strip(" "):
            raise HeaderError("st.json", "something other than spaces follows the closing brace")
        return tensors, metadata

    def _peek(self) -> str:
        """Skips white space; the next character, or "" at the end."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def _first_key(self) -> bool:
        if self._peek() == "}":
            self.at += 1
            return False
        return True

    def _next_key(self) -> bool:
        mark = self._peek()
        if mark not in (",", "}") or not mark:
            raise HeaderError("st.json", f"expected , or }} at character {self.at}")
        self.at += 1
        return mark == ","

    def _key(self, seen: set[str]) -> str:
        name = self._string()
        if self._peek() != ":":
            raise HeaderError("st.json", f"expected : at character {self.at}")
        self.at += 1
        if name in seen:
            raise HeaderError("st.duplicate", f"the key {name[:80]!r} stands twice in one object")
        seen.add(name)
        return name

    def _string(self) -> str:
        if self._peek() != '"':
            raise HeaderError("st.json", f"expected a string at character {self.at}")
        start = self.at
        try:
            value, self.at = _DECODER.raw_decode(self.text, start)
        except ValueError as error:
            raise HeaderError("st.json", f"bad string at character {start}: {error}") from None
        # The standard scanner reads \u through int(), which takes more than four hexadecimal digits.
        if self.text.find("\\", start, self.at) >= 0:
            for escape in _ESCAPE.finditer(self.text, start, self.at):
                digits = escape.group(1)
                if digits is not None and not _FOUR_HEX.fullmatch(digits):
                    raise HeaderError("st.json", f"bad escape in the string at character {start}")
        if _SURROGATE.search(value):
            raise HeaderError("st.utf8", f"lone surrogate in the string at character {start}")
        return str(value)

    def _metadata(self) -> dict[str, str]:
        if self._peek() != "{":
            raise HeaderError("st.metadata", "__metadata__ is not an object")
        self.at += 1
        values: dict[str, str] = {}
        seen: set[str] = set()
        more = self._first_key()
        while more:
            key = self._key(seen)
            if key == "__proto__":
                raise HeaderError("st.metadata", "__metadata__ has the key __proto__")
            if self._peek() != '"':
                raise HeaderError("st.metadata", f"the value of {key[:80]!r} in __metadata__ is no string")
            values[key] = self._string()
            more = self._next_key()
        return values

    def _entry(self, name: str) -> TensorInfo:
        if self._peek() != "{":
            raise HeaderError("st.entry", f"the value of {name!r} is not an object")
        self.at += 1
        seen: set[str] = set()
        dtype = ""
        shape: tuple[int, ...] = ()
        offsets: tuple[int, ...] = ()
        more = self._first_key()
        while more:
            key = self._key(seen)
            if key == "dtype":
                dtype = self._dtype(name)
            elif key == "shape":
                shape = self._integers("st.shape", MAX_RANK)
                _check_shape(name, shape)
            elif key == "data_offsets":
                offsets = self._integers("st.offsets", 2)
                if len(offsets) != 2:
                    raise HeaderError("st.offsets", f"tensor {name!r} has {len(offsets)} offsets")
            else:
                raise HeaderError("st.entry", f"tensor {name!r} has the unknown field {key[:80]!r}")
            more = self._next_key()
        if len(seen) != len(_FIELDS):
            missing = ", ".join(field for field in _FIELDS if field not in seen)
            raise HeaderError("st.entry", f"tensor {name!r} lacks {missing}")
        return TensorInfo(name, dtype, shape, offsets[0], offsets[1])

    def _dtype(self, name: str) -> str:
        value = self._string() if self._peek() == '"' else ""
        if value not in BITS:
            raise HeaderError("st.dtype", f"tensor {name!r} has an unknown dtype")
        return value

    def _integers(self, code: str, most: int) -> tuple[int, ...]:
        if self._peek() != "[":
            raise HeaderError(code, f"expected an array at character {self.at}")
        self.at += 1
        values: list[int] = []
        if self._peek() == "]":
            self.at += 1
            return ()
        while True:
            values.append(self._integer())
            if len(values) > most:
                raise HeaderError(code, f"more than {most} numbers in one array")
            mark = self._peek()
            self.at += 1
            if mark == "]":
                return tuple(values)
            if mark != ",":
                raise HeaderError("st.json", f"expected , or ] at character {self.at - 1}")

    def _integer(self) -> int:
        self._peek()
        match = _INTEGER.match(self.text, self.at)
        # Sixteen digits hold every allowed value; longer ones are refused before they are converted.
        if match is None or match.end() - match.start() > 16 or int(match.group()) > MAX_INT:
            raise HeaderError("st.integer", f"no integer of 0…{MAX_INT} at character {self.at}")
        self.at = match.end()
        return int(match.group())


def check_name(name: str) -> None:
    """Refuses (`st.name`) a tensor name that is empty, too long, reserved or has control characters."""
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise HeaderError("st.name", f"a tensor name has {len(name)} characters, not 1 to {MAX_NAME_LENGTH}")
    if name == "__proto__" or _FORBIDDEN_IN_NAME.search(name):
        raise HeaderError("st.name", f"the tensor name {name[:80]!r} is reserved or has a control character")


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    product = math.prod(dim for dim in shape if dim)
    if any(dim > MAX_DIM for dim in shape) or product > MAX_INT:
        raise HeaderError("st.shape", f"the shape of tensor {name!r} is too large")
