"""Messages between the service and a child: length-prefixed JSON, never pickles, since a child may be hostile."""

from __future__ import annotations

import json
import os
import select
import socket
from typing import Any

MAX_MESSAGE = 64 * 2**20


class WireError(Exception):
    """The other side sent something that is no message."""


def _no_constant(name: str) -> float:
    raise WireError(f"{name} is no JSON number")


def encode(message: dict[str, Any]) -> bytes:
    """The bytes of a message; raises `ValueError` for NaN or infinity."""
    raw = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    return len(raw).to_bytes(4, "little") + raw


class Channel:
    """One end of a stream of messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Sends one message; raises `OSError` when the other side is gone."""
        # write(2), since a confined child is refused the calls that could address another socket.
        data = memoryview(encode(message))
        while data:
            data = data[os.write(self._sock.fileno(), data) :]

    def receive(self, timeout: float | None) -> dict[str, Any] | None:
        """The next message, or None when none came in time. Raises `EOFError` at the end, `WireError` for rubbish."""
        message = self._take()
        if message is not None:
            return message
        while select.select([self._sock], [], [], timeout)[0]:
            try:
                data = self._sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._buffer += data
            message = self._take()
            if message is not None:
                return message
        return None

    def _take(self) -> dict[str, Any] | None:
        if len(self._buffer) < 4:
            return None
        size = int.from_bytes(self._buffer[:4], "little")
        if size > MAX_MESSAGE:
            raise WireError(f"a message of {size} bytes")
        if len(self._buffer) < 4 + size:
            return None
        raw = bytes(self._buffer[4 : 4 + size])
        del self._buffer[: 4 + size]
        try:
            message = json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise WireError(str(error)) from None
        if not isinstance(message, dict):
            raise WireError("a message is no object")
        return message

    def close(self) -> None:
        """Ends the stream."""
        self._sock.close()
