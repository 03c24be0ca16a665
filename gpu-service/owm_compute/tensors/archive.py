"""Reads ZIP archives under strict rules: no member overlaps another, none is larger than it says, none is encrypted."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from owm_compute.tensors.extents import Extent, Scratch, StoredExtent, UnpackedExtent, import_invalid
from owm_compute.tensors.reader import read_exactly

MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 64 << 20
# No deflate stream can grow more than this.
MAX_RATIO = 1032
_STORED, _DEFLATED = 0, 8
# Sizes behind the data, names in UTF-8, and how hard the compressor tried: no flag that changes what the bytes mean.
_HARMLESS_FLAGS = 1 << 3 | 1 << 11 | 0b110
_IN_ZIP64 = 0xFFFFFFFF
_STEP = 1 << 20
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


class Member(NamedTuple):
    """A file of the archive: its data are `packed` bytes from `begin` on, `size` when unpacked."""

    name: str
    deflated: bool
    crc: int
    packed: int
    size: int
    header: int
    begin: int


class Archive:
    """An open ZIP archive. Raises `ComputeError` (`import_invalid`) for one that breaks a rule."""

    def __init__(self, path: Path, *, label: str) -> None:
        self.label = label
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._fd).st_size
        self._scratch = Scratch(label)
        try:
            self.members = self._read_directory()
        except BaseException:
            self.close()
            raise

    def extent(self, member: Member) -> Extent:
        """The unpacked bytes of a member."""
        if not member.deflated:
            return StoredExtent(self._fd, member.begin, self.label)
        return UnpackedExtent(
            self._scratch, member.size, lambda fd, begin: self._inflate(member, fd, begin), self.label
        )

    def head(self, member: Member, most: int) -> bytes:
        """The first bytes of a member, at most `most`."""
        if not member.deflated:
            return self._bytes(member.begin, min(most, member.size))
        try:
            return zlib.decompressobj(-15).decompress(self._bytes(member.begin, min(member.packed, most)), most)
        except zlib.error as error:
            raise self._invalid(f"{member.name!r} can't be unpacked: {error}") from None

    def close(self) -> None:
        """Releases the file and what was unpacked from it."""
        os.close(self._fd)
        self._scratch.close()

    def _inflate(self, member: Member, fd: int, begin: int) -> None:
        """Writes the unpacked bytes of a member; it must be whole and exactly as large as it says."""
        stream = zlib.decompressobj(-15)
        done = crc = 0
        try:
            for position in range(0, member.packed, _STEP):
                data = self._bytes(member.begin + position, min(_STEP, member.packed - position))
                while data and not stream.eof:
                    piece = stream.decompress(data, _STEP)
                    data = stream.unconsumed_tail
                    if done + len(piece) > member.size:
                        raise self._invalid(f"{member.name!r} unpacks to more than {member.size} bytes")
                    os.pwrite(fd, piece, begin + done)
                    crc = zlib.crc32(piece, crc)
                    done += len(piece)
        except zlib.error as error:
            raise self._invalid(f"{member.name!r} can't be unpacked: {error}") from None
        if not stream.eof or stream.unused_data or done != member.size or crc != member.crc:
            raise self._invalid(f"{member.name!r} is damaged")

    def _read_directory(self) -> dict[str, Member]:
        count, size, begin, end = self._find_directory()
        if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES or begin + size != end:
            raise self._invalid("the archive's directory is not where it says, or too large")
        raw = self._bytes(begin, size)
        members: dict[str, Member] = {}
        at = 0
        for _ in range(count):
            member, at = self._member(raw, at)
            if member.name in members:
                raise self._invalid(f"{member.name!r} stands twice")
            members[member.name] = member
        if at != size:
            raise self._invalid("the archive's directory has more than its members")
        free = 0
        for member in sorted(members.values(), key=lambda member: member.header):
            if member.header < free:
                raise self._invalid(f"{member.name!r} overlaps another member")
            free = member.begin + member.packed
        if free > begin:
            raise self._invalid("a member overlaps the archive's directory")
        return members

    def _find_directory(self) -> tuple[int, int, int, int]:
        """Members, bytes, begin, and where the directory must end."""
        at = self._size - _END.size
        if at < 0:
            raise self._invalid("it is no ZIP archive")
        signature, disk, start, here, count, size, begin, comment = _END.unpack(self._bytes(at, _END.size))
        if signature != b"PK\x05\x06" or comment:
            raise self._invalid("it is no ZIP archive, or something follows its directory")
        if disk or start or here != count:
            raise self._invalid("it is one of several parts")
        if count != 0xFFFF and _IN_ZIP64 not in (size, begin):
            return count, size, begin, at
        locator = at - _LOCATOR.size
        if locator < _END64.size:
            raise self._invalid("its directory has no end")
        signature, disk, at, disks = _LOCATOR.unpack(self._bytes(locator, _LOCATOR.size))
        if signature != b"PK\x06\x07" or disk or disks != 1 or at != locator - _END64.size:
            raise self._invalid("its directory has no end")
        signature, length, _, _, disk, start, here, count, size, begin = _END64.unpack(self._bytes(at, _END64.size))
        if signature != b"PK\x06\x06" or length != _END64.size - 12 or disk or start or here != count:
            raise self._invalid("its directory has no end")
        return count, size, begin, at

    def _member(self, raw: bytes, at: int) -> tuple[Member, int]:
        """A member of the directory, and where the next one begins."""
        if at + _CENTRAL.size > len(raw):
            raise self._invalid("the archive's directory is cut off")
        (signature, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, _, header) = (
            _CENTRAL.unpack_from(raw, at)
        )
        after = at + _CENTRAL.size + named + extra + comment
        if signature != b"PK\x01\x02" or disk or after > len(raw):
            raise self._invalid("the archive's directory is cut off")
        name_bytes = raw[at + _CENTRAL.size : at + _CENTRAL.size + named]
        try:
            name = name_bytes.decode("utf-8")
        except UnicodeDecodeError:
            raise self._invalid("a name is not UTF-8") from None
        fields = raw[at + _CENTRAL.size + named : at + _CENTRAL.size + named + extra]
        size, packed, header = self._wide(fields, [size, packed, header])
        if flags & ~_HARMLESS_FLAGS or method not in (_STORED, _DEFLATED):
            raise self._invalid(f"{name!r} is encrypted, or packed by a method that is not read")
        if size != packed if method == _STORED else size > MAX_RATIO * packed:
            raise self._invalid(f"{name!r} can't have {size} bytes in {packed}")
        local = self._bytes(header, _LOCAL.size)
        signature, _, local_flags, local_method, _, _, _, _, _, local_named, local_extra = _LOCAL.unpack(local)
        same = (local_flags, local_method, local_named) == (flags, method, named)
        if signature != b"PK\x03\x04" or not same or self._bytes(header + _LOCAL.size, named) != name_bytes:
            raise self._invalid(f"{name!r} is called otherwise where it lies")
        begin = header + _LOCAL.size + named + local_extra
        if begin + packed > self._size:
            raise self._invalid(f"{name!r} ends after the file")
        return Member(name, method == _DEFLATED, crc, packed, size, header, begin), after

    def _wide(self, fields: bytes, values: list[int]) -> list[int]:
        """Sizes and position, taken from the ZIP64 field where 32 bits do not hold them."""
        if _IN_ZIP64 not in values:
            return values
        at = 0
        while at + 4 <= len(fields):
            kind, length = struct.unpack_from("<2H", fields, at)
            if kind == 1:
                found = fields[at + 4 : at + 4 + length]
                wanted = values.count(_IN_ZIP64)
                if len(found) < 8 * wanted:
                    break
                wide = iter(struct.unpack_from(f"<{wanted}Q", found))
                return [next(wide) if value == _IN_ZIP64 else value for value in values]
            at += 4 + length
        raise self._invalid("a member's size is missing")

    def _bytes(self, begin: int, count: int) -> bytes:
        if begin + count > self._size:
            raise self._invalid("it is cut off")
        raw = bytearray(count)
        read_exactly(self._fd, begin, memoryview(raw), "import_invalid", self.label)
        return bytes(raw)

    def _invalid(self, problem: str) -> Exception:
        return import_invalid(self.label, problem)
