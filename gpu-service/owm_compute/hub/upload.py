"""Hands an output file to the edge: announce, send the parts it asks for, complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from owm_compute.errors import ComputeError
from owm_compute.hub.client import HubClient, Unavailable, require_success

_CHUNK = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)

    url: str
    offset: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]


class _Upload(BaseModel):
    model_config = ConfigDict(strict=True)

    parts: Annotated[list[_Part], Field(max_length=10_000)]
    complete_url: str | None


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    sha256: str
    upload: _Upload | None


def upload(client: HubClient, uploads_url: str, stream: BinaryIO, sha256: str, size: int) -> int:
    """Uploads `size` bytes of `stream`; the number of bytes sent, 0 when the edge had them.

    Raises `ComputeError` (`upload_failed`).
    """

    def announce() -> _Answer:
        body = {"sha256": sha256, "size": size}
        response = client.http.post(uploads_url, json=body, headers=client.authorization)
        require_success(response, "upload_failed")
        try:
            return _Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise ComputeError("upload_failed", f"the edge's answer is not understood: {error}") from None

    answer = client.repeat("announcing an upload", "upload_failed", announce)
    if answer.upload is None:
        return 0
    parts = sorted(answer.upload.parts, key=lambda part: part.offset)
    _require_cover(parts, size)
    etags = []
    for number, part in enumerate(parts, start=1):
        etag = client.repeat("sending a part", "upload_failed", lambda part=part: _put(client, part, stream))  # type: ignore[misc]
        etags.append({"partNumber": number, "etag": etag})
    complete_url = answer.upload.complete_url
    if complete_url is not None:

        def complete() -> None:
            response = client.http.post(complete_url, json={"oid": sha256, "parts": etags})
            require_success(response, "upload_failed")

        client.repeat("completing an upload", "upload_failed", complete)
    return size


def _put(client: HubClient, part: _Part, stream: BinaryIO) -> str:
    response = client.http.put(
        part.url, content=_pieces(client, stream, part), headers={"Content-Length": str(part.size)}
    )
    require_success(response, "upload_failed")
    etag = response.headers.get("etag")
    if etag is None:
        raise Unavailable("a part was taken without an ETag")
    return str(etag)


def _pieces(client: HubClient, stream: BinaryIO, part: _Part) -> Iterator[bytes]:
    stream.seek(part.offset)
    left = part.size
    while left:
        client.check()
        piece = stream.read(min(_CHUNK, left))
        if not piece:
            raise ComputeError("upload_failed", "an output file is shorter than it was")
        left -= len(piece)
        yield piece


def _require_cover(parts: list[_Part], size: int) -> None:
    position = 0
    for part in parts:
        if part.offset != position:
            raise ComputeError("upload_failed", "the edge's parts do not cover the file")
        position += part.size
    if position != size:
        raise ComputeError("upload_failed", "the edge's parts do not cover the file")
