"""What a child is asked to do and what it gives back: plain data on both sides of the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from owm_compute.errors import ComputeError, JobCancelled
from owm_compute.specs import Kind, OutputPath, Sha256, Strict

# As many shards as a program may have, and the records beside them.
MAX_OUTPUT_FILES = 1100


class WorkInput(Strict):
    """An input, perhaps still arriving: its name in the spec, its path on disk, its announced digest and size."""

    name: str
    path: str
    sha256: str
    size: int


class WorkRequest(Strict):
    """One job for one child. `directory` is private to it; its outputs go to `directory`/out.

    `inputs_directory` it may read only. `present` and `wanted` are the files of a `Spool` over the inputs.
    """

    kind: Kind
    spec: dict[str, Any]
    inputs: list[WorkInput]
    inputs_directory: str
    present: str
    wanted: str
    directory: str
    device: str
    memory_bytes: int
    file_bytes: int


class OutputFile(Strict):
    """A file the child wrote into its output directory."""

    path: OutputPath
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class ProgressMessage(Strict):
    """How far the work is."""

    type: Literal["progress"]
    done: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]
    unit: Annotated[str, Field(max_length=20)]


class MetricMessage(Strict):
    """One value of a series."""

    type: Literal["metric"]
    name: Annotated[str, Field(max_length=100)]
    step: int
    value: float


class WrittenMessage(Strict):
    """The first `size` bytes of an output file are final."""

    type: Literal["written"]
    path: OutputPath
    size: Annotated[int, Field(ge=0)]


class FinishedMessage(OutputFile):
    """An output file is whole."""

    type: Literal["finished"]


class ResultMessage(Strict):
    """The work is done."""

    type: Literal["result"]
    files: Annotated[list[OutputFile], Field(max_length=MAX_OUTPUT_FILES)]
    record: dict[str, Any]
    engine: dict[str, str]
    bytes_read: int
    bytes_written: int


class ErrorMessage(Strict):
    """The work failed with a stable code."""

    type: Literal["error"]
    code: Annotated[str, Field(max_length=100)]
    message: Annotated[str, Field(max_length=4000)]
    field: Annotated[str, Field(max_length=1000)] | None = None
    fix: Annotated[str, Field(max_length=1000)] | None = None
    retryable: bool


class CancelledMessage(Strict):
    """The work stopped because it was asked to."""

    type: Literal["cancelled"]


Message = (
    ProgressMessage | MetricMessage | WrittenMessage | FinishedMessage | ResultMessage | ErrorMessage | CancelledMessage
)
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def ended(message: Message) -> ResultMessage | None:
    """The result where the message is one, None where the work goes on; raises what the work ended with otherwise."""
    if isinstance(message, CancelledMessage):
        raise JobCancelled
    if isinstance(message, ErrorMessage):
        raise ComputeError(
            message.code, message.message, field=message.field, fix=message.fix, retryable=message.retryable
        )
    return message if isinstance(message, ResultMessage) else None
